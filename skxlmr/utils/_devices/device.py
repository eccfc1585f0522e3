"""Devices: which one to use, which precision it is fast at, and its memory."""

from __future__ import annotations

import os
import platform
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from skxlmr.utils._imports.later import torch
from skxlmr.utils._warnings import warn_once_per_call

if TYPE_CHECKING:
    from torch import nn

# What a plain RuntimeError says if memory runs out outside torch's allocator, or on Apple's GPUs
_FULL = (
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "MPS backend out of memory",
)


class _InstancesOfTorchDevice(type):
    def __instancecheck__(cls, value: object) -> bool:
        return "torch" in sys.modules and isinstance(value, torch.device)


class Device(metaclass=_InstancesOfTorchDevice):
    """In place of ``torch.device`` in ``isinstance``: it does not import torch, and nobody has a device before that."""


Device.__module__, Device.__qualname__ = "torch", "device"  # what messages call it


def resolve_device(device: str | torch.device) -> torch.device:
    """Device for ``'auto'`` (CUDA, then MPS, then CPU) or a name; under ``torchrun`` each process has a GPU of its own.

    Raises
    ------
    ValueError
        If the name is not a device, or this machine does not have it.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return _own_gpu()
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if device == "cpu":
        return torch.device("cpu")
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


def _own_gpu() -> torch.device:
    number = int(os.environ.get("LOCAL_RANK", 0)) if "TORCHELASTIC_RUN_ID" in os.environ else 0  # as torchrun sets them
    return torch.device("cuda", number) if 0 < number < torch.cuda.device_count() else torch.device("cuda")


def resolve_precision(dtype: str, device: torch.device, training: bool) -> torch.dtype | None:
    """Type of mixed precision, or None for plain float32.

    ``torch.int8``, for predictions only, means that the dense layers of the encoder's layers are computed in it, and everything
    else in float32. Training is then that of ``'auto'``.

    Raises
    ------
    ValueError
        For float16 on a CPU; for int8 on a GPU, or on a CPU that is not fast at it.
    """
    if dtype == "float32":
        return None
    if dtype == "int8":
        check_int8(device)
        return fast_half(device) if training else torch.int8
    if dtype == "bfloat16":
        return torch.bfloat16
    if dtype == "float16":
        if device.type == "cpu":
            raise ValueError(
                "dtype='float16' is for GPUs: a CPU computes it more slowly than float32, and less exactly. Set dtype='auto', "
                "or 'bfloat16' if the CPU has AVX512-BF16 or AMX"
            )
        return torch.float16
    return fast_half(device) if training or device.type == "cuda" else None


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    """Mixed precision on the device, or with None that of the weights, also inside an autocast block of the caller.

    Until such a block ends, torch would go on with the casts of the weights that it made first, although a fit changes them.
    So none is kept.
    """
    if dtype is None and not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, dtype, enabled=dtype is not None, cache_enabled=False)


def is_on(module: nn.Module, device: torch.device) -> bool:
    """Whether a module is on a device; one without an index, as the CPU's tensors name it, stands for all of its type."""
    here = next(module.parameters()).device
    return here.type == device.type and (None in (here.index, device.index) or here.index == device.index)


@lru_cache
def fast_half(device: torch.device) -> torch.dtype | None:
    """Half precision in which matrix products are faster than in float32, bfloat16 if both are; None if there is none.

    NVIDIA's GPUs have fast bfloat16 since Ampere (compute capability 8.0: A100, RTX 30), and fast float16 since Volta (7.0:
    V100, T4, RTX 20); those before multiply bfloat16 too, but slowly.
    """
    if device.type == "cuda":
        capability = torch.cuda.get_device_capability(device)
        return torch.bfloat16 if capability >= (8, 0) else torch.float16 if capability >= (7, 0) else None
    if device.type == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return torch.bfloat16
    return None


def warn_if_slow(device: torch.device) -> None:
    """Warn of bfloat16, in which something is about to be computed, on a CPU that is slow at it."""
    if device.type == "cpu" and is_slow_at_bfloat16():
        warn_once_per_call(
            "dtype='bfloat16' takes many times as long as float32 on this processor, which has no instructions for it: set "
            "dtype='auto', or 'float32'"
        )


def is_slow_at_bfloat16() -> bool:
    """Whether this is an x86 CPU for which oneDNN has no products in bfloat16.

    Those of PyTorch itself took nine times as long as products in float32 (AMD EPYC with AVX2).
    """
    has_products = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return platform.machine() in ("x86_64", "AMD64") and not has_products


def check_int8(device: torch.device) -> None:
    """Refuse int8 where it is not fast.

    Raises
    ------
    ValueError
        On a GPU, or on a CPU without instructions for it: there oneDNN's sums may overflow too.
    """
    if device.type != "cpu":
        raise ValueError(
            f"dtype='int8' is for predictions on CPUs, and the device is {str(device)!r}: set device='cpu', or dtype='auto' "
            "for the half precision that the GPU is fast at"
        )
    if not multiplies_int8():
        raise ValueError(
            "dtype='int8' needs a CPU with AVX512-VNNI or AMX, and PyTorch with oneDNN: without them int8 is slower than "
            "float32, and less exact. Set dtype='auto': an estimator that was loaded has set_params(dtype='auto'), the command "
            "line --dtype auto"
        )


def multiplies_int8() -> bool:
    """Whether this CPU has instructions for it, and this build of PyTorch has oneDNN, which uses them."""
    has_instructions = torch.cpu._is_vnni_supported() or torch.cpu._is_amx_tile_supported()
    return torch.backends.mkldnn.is_available() and has_instructions


def overflow(what: str) -> FloatingPointError:
    """The error for outputs that float16 cannot hold."""
    return FloatingPointError(
        f"{what} is not finite: float16 ends at 65504, and this checkpoint computes larger numbers on the way. Set "
        "dtype='float32', or 'bfloat16', whose range is that of float32"
    )


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether the error says that a GPU has run out of memory."""
    return isinstance(error, torch.OutOfMemoryError) or any(text in str(error) for text in _FULL)


def release_memory(device: torch.device) -> None:
    """Give the memory of deleted tensors, which torch's allocator keeps, back to the device."""
    if device.type != "cpu":
        torch.get_device_module(device).empty_cache()
