"""What oneDNN computes here, and how many rows its kernels get."""

import platform
from functools import cache
from pathlib import Path

import torch


def is_on() -> bool:
    """Whether this build of PyTorch has oneDNN, and the caller did not switch it off."""
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


@cache
def knows_bfloat16() -> bool:
    """Whether it computes in bfloat16 on this processor; before AVX-512 it does not, and ``F.linear`` does without it."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@cache
def blas_is_as_fast() -> bool:
    """Whether the BLAS behind ``F.linear`` is MKL on a processor by Intel, for which it is made.

    In float32 it takes as long there for a layer as oneDNN, and half as long for the gradients (measured: 180 to 290 against
    100 to 220 GFLOP/s on two cores of a Xeon). On AMD's processors with AVX-512 it has less than half of oneDNN's speed.
    """
    return _has_mkl_on("GenuineIntel")


@cache
def blas_trains_faster() -> bool:
    """Whether layers in float32 have their gradients sooner from the BLAS behind ``F.linear``.

    So it is where :func:`blas_is_as_fast`, and with MKL on AMD's processors with AVX2 alone (100 to 165 against 75 to 120
    GFLOP/s on two cores of an EPYC).
    """
    has_avx2_alone = torch.backends.cpu.get_cpu_capability() == "AVX2"
    return blas_is_as_fast() or (has_avx2_alone and _has_mkl_on("AuthenticAMD"))


def _has_mkl_on(vendor: str) -> bool:
    cpuinfo = Path("/proc/cpuinfo")
    processor = cpuinfo.read_text(errors="replace") if cpuinfo.is_file() else platform.processor()
    return bool(torch.backends.mkl.is_available()) and vendor in processor


@cache
def is_slow_with_gelu() -> bool:
    """Whether products in float32 that end in GELU take longer than one after the other, with the same bits.

    With AVX2, 1,024 rows of 768 inputs and 3,072 outputs took 45.1 ms together, and 33.7 ms apart, of which GELU 1.5 (two cores
    of an AMD EPYC). With AVX-512 they stay together.
    """
    return bool(torch.backends.cpu.get_cpu_capability() == "AVX2")


@cache
def sums_by_rows() -> bool:
    """Whether the order of a sum in bfloat16 depends on the number of rows, and of threads: with AMX it does."""
    return bool(torch.cpu._is_amx_tile_supported())


def rounded(n_rows: int, n_between: int, apart: int) -> int:
    """The next of so many numbers between two powers of two, which are so far apart or more.

    oneDNN generates code for each number of rows that it meets, and keeps it.
    """
    step = max(apart, (1 << (n_rows - 1).bit_length()) // (2 * n_between))
    return -(-n_rows // step) * step
