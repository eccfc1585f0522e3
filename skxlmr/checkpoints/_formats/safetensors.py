"""The safetensors format."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from skxlmr.checkpoints._formats.mapped_file import MOST_TENSORS, TOO_LARGE, Tensors
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import open_file
from skxlmr.utils._imports.later import torch

MOST_HEADER = 8 * 2**20  # bytes, about 100 per tensor
DTYPES = ("F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL")


def read_safetensors(file: str | os.PathLike[str]) -> Tensors:
    """Map a ``.safetensors`` file.

    The mapping is private: writing to a tensor (an optimiser's step) copies the touched pages, and the file stays unchanged.

    Parameters
    ----------
    file : str or path
        The file.

    Returns
    -------
    dict of str to Tensor
        With the names and dtypes of the file.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is not a whole safetensors file, or holds tensors of a dtype that no weight has.
    """
    return read_with_writer(file)[0]


def read_with_writer(file: str | os.PathLike[str]) -> tuple[Tensors, str | None]:
    """The same, and the framework that the header names: ``"pt"``, ``"tf"``, ``"flax"`` or anything else."""
    with (
        blaming(file, "cannot be read ({})", OSError),
        blaming(file, "is not a whole safetensors file ({!s:.200})", SafetensorError),
        blaming(file, TOO_LARGE, RuntimeError, MemoryError),
    ):
        with open_file(file) as start:
            n_header = int.from_bytes(start.read(8), "little")
        if n_header > MOST_HEADER:
            reason = f"a header of {n_header} bytes, expected at most {MOST_HEADER}"
            raise CheckpointError(file, f"is not a whole safetensors file ({reason})")
        # The package checks that the tensors cover the file, one after another, each as large as its shape says. Old versions
        # of it (0.5) make them on the default device, whatever device they are asked for.
        with _on_cpu(), safe_open(file, framework="pt", device="cpu") as opened:
            names = opened.keys()
            if len(names) > MOST_TENSORS:
                raise CheckpointError(file, f"holds {len(names)} tensors, expected at most {MOST_TENSORS}")
            for name in names:
                if (dtype := opened.get_slice(name).get_dtype()) not in DTYPES:
                    reason = f"tensor {name!r:.80} has dtype {dtype}, expected one of {', '.join(DTYPES)}"
                    raise CheckpointError(file, reason)
            written_by = (opened.metadata() or {}).get("format")
            return {name: opened.get_tensor(name) for name in names}, written_by


def _on_cpu() -> AbstractContextManager[Any]:
    """Make tensors on the CPU. Torch looks at each call of its functions for this, so only where it is needed."""
    return nullcontext() if torch.get_default_device().type == "cpu" else torch.device("cpu")


def write_safetensors(file: Path, tensors: Tensors, dtype: torch.dtype | None = None) -> None:
    """Write a file that ``transformers`` can load. A tensor with two names is written once, under the first.

    Parameters
    ----------
    file : Path
        The file to write.
    tensors : dict of str to Tensor
        On any device.
    dtype : torch.dtype, optional
        What floating tensors are cast to; by default they keep their dtype.

    Raises
    ------
    CheckpointError
        If a tensor has no data, or the file cannot be written.
    """
    from safetensors.torch import save_file

    storages: set[int] = set()
    whole: Tensors = {}
    for name, tensor in writable(file, tensors).items():
        tensor = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        storage = tensor.untyped_storage().data_ptr()
        if storage in storages:  # a slice of another tensor's memory, which the format cannot express
            tensor = tensor.clone()
        storages.add(storage)
        whole[name] = tensor
    with blaming(file, "cannot be written ({})", SafetensorError):
        save_file(whole, file, metadata={"format": "pt"})


def writable(file: Path, tensors: Tensors) -> Tensors:
    """Leave out tensors that occurred before under another name, and refuse those without data.

    Raises
    ------
    CheckpointError
        If a tensor is on the meta device.
    """
    seen: set[tuple[Any, ...]] = set()
    distinct: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise CheckpointError(file, f"tensor {name} has no data to write (it is on the meta device)")
        identity = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and identity in seen:
            continue
        seen.add(identity)
        distinct[name] = tensor
    return distinct
