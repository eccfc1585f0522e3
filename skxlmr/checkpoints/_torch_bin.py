"""PyTorch's own ``.bin`` format, read without ever executing its pickle."""

import os
import pickle
import struct

import torch

from skxlmr.checkpoints._safetensors import Tensors
from skxlmr.utils._errors import CheckpointError

ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled magic number of torch.save before version 1.6
# What the weights-only unpickler was seen to raise on broken streams, besides its own UnpicklingError.
BROKEN = (
    RuntimeError,
    pickle.UnpicklingError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    AssertionError,
    ArithmeticError,
    MemoryError,
    OSError,
    struct.error,
)


def read_torch_bin(file: str | os.PathLike[str]) -> Tensors:
    """Read a state dict written by ``torch.save``, memory-mapped where the file is a zip archive (torch 1.6 and later).

    Parameters
    ----------
    file : str or path
        The file.

    Returns
    -------
    dict of str to Tensor
        By the names and with the dtypes of the file.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is broken, holds anything but tensors by name, or needs code to be executed.
    """
    try:
        with open(file, "rb") as opened:
            head = opened.read(len(LEGACY))
        if not head.startswith((ZIP, LEGACY)):
            raise CheckpointError(
                file, "is not a PyTorch file: it starts neither as a zip archive nor as its older format"
            )
        # The older format is one stream, which cannot be mapped.
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=head.startswith(ZIP))
    except CheckpointError:
        raise
    except pickle.UnpicklingError as error:
        reason = "is broken, or holds more than tensors: it asks for code to be executed, which skxlmr never does"
        raise CheckpointError(file, f"{reason} (convert it to safetensors if you trust it)") from error
    except BROKEN as error:
        first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(file, f"is not a whole PyTorch file ({first_line})") from error
    if not isinstance(state, dict):
        raise CheckpointError(file, f"expected tensors by name, found a {type(state).__name__}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, torch.Tensor):
            raise CheckpointError(file, f"expected tensors by name, found a {type(value).__name__} under {name!r}")
        if value.is_meta or value.is_quantized or value.layout != torch.strided:
            raise CheckpointError(file, f"tensor {name} is not a plain dense tensor with data")
    return {name: value.detach() for name, value in state.items()}
