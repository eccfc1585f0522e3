"""Devices: which one to use, which precision it is fast at, and its memory."""

from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import nn

# What a plain RuntimeError says if memory runs out outside torch's allocator, or on Apple's GPUs
_FULL = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


def resolve_device(device: str | torch.device) -> torch.device:
    """Device for ``'auto'`` (CUDA, then MPS, then CPU) or a name.

    Raises
    ------
    ValueError
        If the name is not a device, or this machine does not have it.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        resolved = torch.device(device)
        if resolved.type == "meta":
            raise RuntimeError("it holds no values")
        torch.empty(0, device=resolved)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(
            f"device={str(device)!r} cannot be used here: {str(error).splitlines()[0].partition('. ')[0]}"
        ) from error
    return resolved


def resolve_autocast(dtype: str, device: torch.device, training: bool) -> torch.dtype | None:
    """Type of mixed precision, or None for plain float32."""
    if dtype == "float32":
        return None
    if dtype == "bfloat16":
        return torch.bfloat16
    fast = has_fast_bfloat16(device.type)
    return torch.bfloat16 if fast and (training or device.type == "cuda") else None


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Mixed precision on the device; None leaves the precision as it is."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def is_on(module: nn.Module, device: torch.device) -> bool:
    """Whether a module is on a device; one without an index, as the CPU's tensors name it, stands for all of its type."""
    here = next(module.parameters()).device
    return here.type == device.type and (None in (here.index, device.index) or here.index == device.index)


@lru_cache
def has_fast_bfloat16(device_type: str) -> bool:
    """Whether bfloat16 matrix products are faster than float32 ones."""
    if device_type == "cuda":
        return torch.cuda.get_device_capability() >= (8, 0)
    if device_type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return False


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that a GPU has run out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _FULL)


def release_memory(device: torch.device) -> None:
    """Give the memory of deleted tensors, which torch's allocator keeps, back to the device."""
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()
