"""The safetensors format."""

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from skxlmr.utils._errors import CheckpointError

Tensors = dict[str, torch.Tensor]


def read_safetensors(file: str | os.PathLike[str]) -> Tensors:
    """Map a ``.safetensors`` file: tensors that share the pages of the file until they are written to.

    The mapping is private: writing to a tensor (an optimiser's step) copies the touched pages, the file stays as it is.

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
        If the file cannot be read or is not a whole safetensors file.
    """
    try:
        with safe_open(file, framework="pt", device="cpu") as opened:
            names = opened.keys()
            return {name: opened.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise CheckpointError(file, f"is not a whole safetensors file ({error})") from error
    except OSError as error:
        raise CheckpointError(file, f"cannot be read ({error})") from error


def write_safetensors(file: Path, tensors: Tensors, dtype: torch.dtype | None = None) -> None:
    """Write tensors that ``transformers`` can load; a tensor under two names is written once, under the first.

    Parameters
    ----------
    file : Path
        The file to write.
    tensors : dict of str to Tensor
        On any device.
    dtype : torch.dtype, optional
        What floating tensors are cast to; by default they are written as they are.

    Raises
    ------
    CheckpointError
        If a tensor has no data, or the file cannot be written.
    """
    seen: set[tuple] = set()
    storages: set[int] = set()
    whole: Tensors = {}
    for name, tensor in tensors.items():
        if tensor.is_meta:
            raise CheckpointError(file, f"tensor {name} has no data to write (it is on the meta device)")
        identity = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        if tensor.numel() and identity in seen:
            continue
        seen.add(identity)
        tensor = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        storage = tensor.untyped_storage().data_ptr()
        if storage in storages:  # a slice of another tensor's memory, which the format cannot say
            tensor = tensor.clone()
        storages.add(storage)
        whole[name] = tensor
    try:
        save_file(whole, file, metadata={"format": "pt"})
    except SafetensorError as error:
        raise CheckpointError(file, f"cannot be written ({error})") from error
