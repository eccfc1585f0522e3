"""The linear layer, and which kernel runs it.

By default it is ``F.linear``, with the same results as the reference implementation. Inside ``fast_inference()``, on a
CPU, oneDNN's kernel is called directly: in float32 it is about twice as fast as the BLAS behind ``F.linear`` where that BLAS is
not tuned for the processor (measured: 420 against 190 GFLOP/s on two AMD cores), and GELU comes for free. It sums in another
order, so that the outputs of a base-size encoder differ by up to 1e-5, twice the rounding error of float32.

oneDNN generates code for each number of rows that it meets and keeps about a megabyte of it. So the number is rounded up, with
rows of zeros, to one of a few; the results of the other rows stay the same, to the last bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skxlmr.nn.kernels.trained import is_trained, trained_linear
from skxlmr.utils._devices.fork import will_compute

_fast: ContextVar[bool] = ContextVar("fast", default=False)
_alone: ContextVar[bool] = ContextVar("alone", default=False)


@contextmanager
def fast_inference() -> Iterator[None]:
    """Inside the block compute without gradients and with the fastest kernels for this; in this thread only."""
    with fast_kernels(), torch.inference_mode():
        yield


@contextmanager
def fast_kernels(rows_are_alone: bool = False) -> Iterator[None]:
    """Inside the block, and in this thread only, use the fastest kernels; the caller switches gradients off.

    With ``rows_are_alone`` no output may depend on the rows around it.
    """
    will_compute()
    tokens = _fast.set(True), _alone.set(rows_are_alone)
    try:
        yield
    finally:
        _fast.reset(tokens[0])
        _alone.reset(tokens[1])


def rows_are_alone() -> bool:
    """Whether no output may depend on the rows around it."""
    return _alone.get()


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool = False) -> Tensor:
    """``x @ weight.T + bias``, then exact GELU if asked for.

    Parameters
    ----------
    x : Tensor of shape (..., n_inputs)
    weight : Tensor of shape (n_outputs, n_inputs)
    bias : Tensor of shape (n_outputs,), optional
    gelu : bool

    Returns
    -------
    Tensor of shape (..., n_outputs)
    """
    if not torch.compiler.is_compiling() and _fast.get() and _onednn_applies(x, weight):
        kind, algorithm = ("gelu", "none") if gelu else ("none", "")
        rows = with_spare_rows(x.reshape(-1, x.shape[-1]))
        y = torch.ops.mkldnn._linear_pointwise(rows.contiguous(), weight, bias, kind, [], algorithm)
        return y[: x.numel() // x.shape[-1]].view(*x.shape[:-1], len(weight))
    x = trained_linear(x, weight, bias) if is_trained(x, weight) else F.linear(x, weight, bias)
    return F.gelu(x) if gelu else x


def with_spare_rows(x: Tensor) -> Tensor:
    """Rows (T, D) with rows of zeros after them, up to a number that oneDNN meets often; the same where it does not compute.

    A layer adds them to a copy of its input; the encoder does so once, before its first layer.
    """
    if torch.compiler.is_compiling() or not _fast.get() or x.device.type != "cpu":
        return x
    n_spare = _rounded(len(x)) - len(x)
    return F.pad(x, (0, 0, 0, n_spare)) if n_spare else x


def _rounded(n_rows: int) -> int:
    """The next of 8 numbers between two powers of two, at least 16 apart; one row has a kernel of its own."""
    if n_rows <= 1:
        return n_rows
    step = max(16, 1 << max((n_rows - 1).bit_length() - 4, 0))
    return -(-n_rows // step) * step


def _onednn_applies(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype
        and x.numel() > 0
        and torch.backends.mkldnn.is_available()
        and bool(torch.backends.mkldnn.enabled)
        and (x.dtype == torch.float32 or (x.dtype == torch.bfloat16 and _onednn_knows_bfloat16()))
        and not torch.is_autocast_enabled("cpu")  # which casts the weights
    )


@cache
def _onednn_knows_bfloat16() -> bool:
    """Whether oneDNN computes in bfloat16 on this processor; before AVX-512 it does not, and ``F.linear`` does without it."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Linear(nn.Linear):
    """``torch.nn.Linear`` through :func:`linear`."""

    def forward(self, x: Tensor, gelu: bool = False) -> Tensor:
        """Outputs (..., n_outputs) of inputs (..., n_inputs), through GELU if asked for."""
        return linear(x, self.weight, self.bias, gelu)
