"""The linear layer with a graph, as a fit on a CPU computes it: forwards and backwards with oneDNN.

Outside ``fast_training()`` a layer is ``F.linear``, whose products are those of the BLAS: in float32 less than half as fast
where it is not tuned for the processor (measured: 205 against 400 to 490 GFLOP/s on two AMD cores with AVX-512). Where it is
faster, float32 stays ``F.linear``. In mixed precision with bfloat16 the products are oneDNN's already; here

- the weight is cast again in the backward pass, so that no copy of all weights is kept from one pass to the other;
- the gradient of the bias is summed in float32.

The backward pass itself has no gradient: a second one raises.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from skxlmr.nn.kernels import onednn

_trains: ContextVar[bool] = ContextVar("trains", default=False)


@contextmanager
def fast_training() -> Iterator[None]:
    """Inside the block, and in this thread only, linear layers on a CPU have the fastest kernels for training."""
    token = _trains.set(True)
    try:
        yield
    finally:
        _trains.reset(token)


def is_trained(x: Tensor, weight: Tensor) -> bool:
    """Whether :func:`trained_linear` computes a layer: inside :func:`fast_training`, on a CPU, in a precision it knows."""
    return (
        not torch.compiler.is_compiling()
        and _trains.get()
        and x.device.type == "cpu"
        and weight.dtype == torch.float32
        and x.numel() > 0
        and onednn.is_on()
        and (_casts_to_bfloat16(x) if torch.is_autocast_enabled("cpu") else _stays_float32(x))
    )


def _stays_float32(x: Tensor) -> bool:
    return x.dtype == torch.float32 and not onednn.blas_trains_faster()


def _casts_to_bfloat16(x: Tensor) -> bool:
    return (
        x.dtype in (torch.float32, torch.bfloat16)
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and onednn.knows_bfloat16()
    )


def gelu(x: Tensor) -> Tensor:
    """Exact GELU (..., D); in a fit on a CPU, in float32, of a transposed view.

    Of contiguous rows it and its gradient are oneDNN's, which generates about a megabyte of code for each number of rows and
    keeps it. Of a transposed view they are PyTorch's own, which take 1 ms more for 440 rows of 3,072 (two cores of an EPYC;
    2.6 ms with oneDNN), and need no code. Values differ by rounding.
    """
    if torch.compiler.is_compiling() or not _trains.get() or x.dtype != torch.float32 or x.device.type != "cpu":
        return F.gelu(x)
    return F.gelu(x.reshape(-1, x.shape[-1]).t()).t().reshape(x.shape)


def trained_linear(x: Tensor, *parameters: Tensor | None) -> Tensor:
    """``x @ weight.T + bias``; in float32, or in bfloat16 inside autocast.

    Parameters
    ----------
    x : Tensor of shape (..., n_inputs)
    *parameters : Tensor of shape (n_outputs, n_inputs), Tensor of shape (n_outputs,) or None
        Weight and bias. In bfloat16 those of several layers may follow each other, all with biases or all without.

    Returns
    -------
    Tensor of shape (..., n_outputs)
        Of several layers the outputs lie side by side.
    """
    function = _Bfloat16 if torch.is_autocast_enabled("cpu") else _Float32
    y: Tensor = function.apply(x.reshape(-1, x.shape[-1]), *parameters)
    return y.view(*x.shape[:-1], y.shape[-1])


# Rows of zeros are added up to a number that oneDNN meets often, since it generates code for each. For the gradient of a weight
# that is 2 MB a kernel, and fewer numbers are used.


class _Float32(torch.autograd.Function):
    """All in float32."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        few, rows = _with_spare_rows(x)
        ctx.save_for_backward(few if ctx.needs_input_grad[1] else None, weight)
        return _product(rows, weight, bias)[: len(x)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        few, rows = _with_spare_rows(slope)
        return (
            _product(rows, weight.t())[: len(slope)] if of_x else None,
            _product(few.t(), x.t()) if of_weight else None,
            slope.sum(0) if of_bias else None,
        )


class _Bfloat16(torch.autograd.Function):
    """Operands are cast to bfloat16; gradients of weights and biases are float32, as these are."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor | None) -> Tensor:
        weights, biases = parameters[::2], parameters[1::2]
        few, rows = _with_spare_rows(x, torch.bfloat16)
        kept = x if x.dtype == few.dtype else few  # what others keep too is no copy
        ctx.save_for_backward(kept if any(ctx.needs_input_grad[1::2]) else None, *weights)
        with torch.autocast("cpu", enabled=False):
            y = F.linear(rows, _cast(weights), None if biases[0] is None else _cast(biases))
        return y[: len(x)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        x, *weights = ctx.saved_tensors
        of_x, *needed = ctx.needs_input_grad
        few, rows = _with_spare_rows(slope)
        few_x = _with_spare_rows(x)[0] if any(needed[::2]) else None
        widths, nothing = list(map(len, weights)), [None] * len(weights)
        of_weights = nothing if few_x is None else few.t().mm(few_x).split(widths)
        of_biases = slope.sum(0, dtype=torch.float32).split(widths) if any(needed[1::2]) else nothing
        gradients = [gradient for pair in zip(of_weights, of_biases, strict=True) for gradient in pair]
        return (
            rows.mm(_cast(weights))[: len(slope)] if of_x else None,
            *(gradient.float() if is_needed else None for gradient, is_needed in zip(gradients, needed, strict=True)),
        )


def _cast(tensors: Sequence[Any]) -> Tensor:
    """The tensors in bfloat16, one after another."""
    if len(tensors) == 1:
        cast: Tensor = tensors[0].to(torch.bfloat16)
        return cast
    sizes = list(map(len, tensors))
    cast = tensors[0].new_empty((sum(sizes), *tensors[0].shape[1:]), dtype=torch.bfloat16)
    for part, tensor in zip(cast.split(sizes), tensors, strict=True):
        part.copy_(tensor)
    return cast


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """``x @ weight.T + bias`` by oneDNN; transposed operands need no copies."""
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return y


def _with_spare_rows(x: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
    """Rows (T, D), contiguous, with rows of zeros after them: up to one of few numbers, and up to one of twice as many."""
    n_few, n_rows = onednn.rounded(len(x), 4, 16), onednn.rounded(len(x), 8, 16)
    if n_few == len(x):
        few = x.to(dtype or x.dtype).contiguous()
    else:
        few = x.new_empty((n_few, x.shape[1]), dtype=dtype or x.dtype)
        few[: len(x)].copy_(x)
        few[len(x) :].zero_()
    return few, few[:n_rows]
