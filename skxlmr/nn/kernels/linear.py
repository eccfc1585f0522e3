"""The linear layer, and which kernel runs it.

By default it is ``F.linear``, with the same results as the reference implementation. Inside ``fast_inference()``, on a
CPU, oneDNN's kernel is called directly: in float32 it is about twice as fast as the BLAS behind ``F.linear`` where that BLAS is
not tuned for the processor (measured: 450 against 200 GFLOP/s on two AMD cores), and activation and residual come for free. It
sums in another order, so that the outputs of a base-size encoder differ by up to 1e-5, twice the rounding error of float32.

oneDNN generates code for each number of rows that it meets and keeps about a megabyte of it. So the number is rounded up, with
rows of zeros, to one of a few; the results of the other rows stay the same, to the last bit. One row alone would be summed in
another order than several: it gets a second one.

With AMX the order of a sum in bfloat16 depends on the number of rows. Where a row must have the same results whatever is
computed with it (``fast_kernels(alone=True)``), such products are taken in parts of one size, with weights that are repacked
from the start: the order is the same then, and a product takes up to a quarter longer.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.module import _has_any_global_hook

from skxlmr.nn.kernels import int8, onednn
from skxlmr.nn.kernels.packed import WORTH, Weights, packed
from skxlmr.nn.kernels.trained import gelu, is_trained, trained_linear
from skxlmr.utils._devices.fork import will_compute

_fast: ContextVar[bool] = ContextVar("fast", default=False)
_alone: ContextVar[bool] = ContextVar("alone", default=False)
_has_onednn: ContextVar[bool] = ContextVar("has_onednn", default=False)

# Of a product whose order of sums depends on the number of rows: 64 would take a third longer, 256 too long for few texts.
ROWS_AT_A_TIME = 128
APART = 2**15  # outputs from which on a GELU of its own is worth a call

# Each activation under its name in config.json: the function, and what oneDNN calls it.
_gelu_tanh = partial(F.gelu, approximate="tanh")
ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], str, str]] = {
    "none": (lambda x: x, "none", ""),
    "gelu": (gelu, "gelu", "none"),
    "gelu_new": (_gelu_tanh, "gelu", "tanh"),
    "gelu_pytorch_tanh": (_gelu_tanh, "gelu", "tanh"),
    "relu": (F.relu, "relu", ""),
}


@contextmanager
def fast_inference(in_int8: bool = False) -> Iterator[None]:
    """Inside the block compute without gradients and with the fastest kernels for this; in this thread only.

    With ``in_int8`` the layers of encoders are computed in int8 (:mod:`skxlmr.nn.kernels.int8`).
    """
    with fast_kernels(in_int8=in_int8), torch.inference_mode():
        yield


@contextmanager
def fast_kernels(in_int8: bool = False, alone: bool = False) -> Iterator[None]:
    """Inside the block, and in this thread only, use the fastest kernels; the caller switches gradients off.

    With ``alone`` the number of rows changes no bit of a row.
    """
    will_compute()
    tokens = _fast.set(True), _alone.set(alone), _has_onednn.set(onednn.is_on())
    try:
        with int8.int8_layers(in_int8):
            yield
    finally:
        _fast.reset(tokens[0])
        _alone.reset(tokens[1])
        _has_onednn.reset(tokens[2])


def linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none", residual: Tensor | None = None
) -> Tensor:
    """``x @ weight.T + bias``, then the activation, then the residual added.

    Parameters
    ----------
    x : Tensor of shape (..., n_inputs)
    weight : Tensor of shape (n_outputs, n_inputs)
    bias : Tensor of shape (n_outputs,), optional
    activation : str
        A key of ``ACTIVATIONS``.
    residual : Tensor of shape (..., n_outputs), optional
        With an activation there is none.

    Returns
    -------
    Tensor of shape (..., n_outputs)
    """
    dtype = _dtype_of_onednn(x, weight)
    if dtype is None:
        return _by_torch(x, weight, bias, activation, residual)
    return _product(_in_type(x, dtype), *_cast(weight, bias, dtype), activation, residual)


class Linear(nn.Linear):
    """``torch.nn.Linear`` through :func:`linear`, with weights in the form that the kernel wants."""

    def forward(self, x: Tensor, activation: str = "none", residual: Tensor | None = None) -> Tensor:
        """Outputs (..., n_outputs) of inputs (..., n_inputs), through an activation or with a residual added."""
        dtype = _dtype_of_onednn(x, self.weight)
        if dtype is None:
            return _by_torch(x, self.weight, self.bias, activation, residual)
        n_rows = WORTH if _alone.get() else x.numel() // self.in_features
        weights = packed((self,), dtype, n_rows) or _cast(self.weight, self.bias, dtype)
        return _product(_in_type(x, dtype), *weights, activation, residual)


class LayerLinear(Linear):
    """A dense layer of an encoder's layers: computed in int8 where that is asked for, as poolers and heads never are."""

    def forward(self, x: Tensor, activation: str = "none", residual: Tensor | None = None) -> Tensor:
        """Outputs (..., n_outputs) of inputs (..., n_inputs), through an activation or with a residual added."""
        if not int8.computes_in_int8():
            return super().forward(x, activation, residual)
        return int8.dense((self,), x, activation, residual)


class TextLinear(Linear):
    """A dense layer of vectors of which each stands for a text, such as those of heads."""

    def forward(self, x: Tensor, activation: str = "none", residual: Tensor | None = None) -> Tensor:
        """Outputs (N, n_outputs) of inputs (N, n_inputs), through an activation; there is no residual."""
        assert residual is None, "no head has one"
        return of_texts(partial(super().forward, activation=activation), x)


class OutputLinear(TextLinear):
    """The layer whose outputs are logits of texts. They may be numbers of any size, of which half precision keeps three digits.

    So they are computed in the precision of the weights, also inside autocast; not in training, where they are standardised.
    """

    def forward(self, x: Tensor, activation: str = "none", residual: Tensor | None = None) -> Tensor:
        """As of :class:`TextLinear`."""
        if self.training or not torch.is_autocast_enabled(x.device.type):
            return super().forward(x, activation, residual)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.to(self.weight.dtype), activation, residual)


def of_texts(half: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``half(*inputs)`` for rows (N, D) of which each stands for a text.

    Batches have all numbers of texts, and oneDNN keeps code for each, also for activations: in inference there are rows of
    zeros up to a power of two, which cost little, since these products are small.
    """
    x = inputs[0]
    n_rows = x.shape[0]
    # nothing is asked of the number of rows where a graph is compiled, which serves all
    if not on_fast_cpu(x) or int8.computes_in_int8() or x.dim() != 2 or n_rows <= 8:
        return half(*inputs)
    n_spare = (1 << (n_rows - 1).bit_length()) - n_rows
    return half(*(_longer(each, n_spare) for each in inputs))[:n_rows]


def together(layers: Sequence[Linear], x: Tensor) -> Sequence[Tensor]:
    """Outputs of several layers with as many outputs each, of the same inputs: one product where weights are copied anyway.

    All layers have biases, or none has.
    """
    if int8.computes_in_int8() and all(map(is_plain, layers)):
        return int8.dense(layers, x).chunk(len(layers), -1)
    if not all(map(is_plain, layers)):
        return [layer(x) for layer in layers]
    dtype = _dtype_of_onednn(x, layers[0].weight)
    if dtype is None:
        is_cast_anyway = torch.is_autocast_enabled("cpu") and is_trained(x, layers[0].weight)
        if not is_cast_anyway:
            return [layer(x) for layer in layers]
        parameters = (tensor for layer in layers for tensor in (layer.weight, layer.bias))
        return trained_linear(x, *parameters).chunk(len(layers), -1)
    x = _in_type(x, dtype)
    weights = packed(layers, dtype, WORTH if _alone.get() else x.numel() // layers[0].in_features)
    if weights is None:
        return [_product(x, *_cast(layer.weight, layer.bias, dtype)) for layer in layers]
    return _product(x, *weights).chunk(len(layers), -1)


def is_plain(layer: nn.Module) -> bool:
    """Whether a layer is what it says, and nobody watches it: then its product may be taken together with other steps."""
    if type(layer) not in (Linear, LayerLinear) or "forward" in vars(layer) or _has_any_global_hook():
        return False
    return not (layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def _by_torch(x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, residual: Tensor | None) -> Tensor:
    x = trained_linear(x, weight, bias) if is_trained(x, weight) else F.linear(x, weight, bias)
    activate = ACTIVATIONS[activation][0]
    # Without AVX512 GELU of -3.140625, say, is another number in bfloat16 where the share of a thread ends
    in_double = on_fast_cpu(x) and x.dtype == torch.bfloat16 and _alone.get()
    x = activate(x.double()).to(x.dtype) if in_double else activate(x)
    return x if residual is None else x + residual


def _in_type(x: Tensor, dtype: torch.dtype) -> Tensor:
    """``x.to(dtype)``, without a call where there is nothing to do."""
    return x if x.dtype == dtype else x.to(dtype)


def _cast(weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Weights:
    if weight.dtype == dtype:
        return weight, bias
    return weight.to(dtype), None if bias is None else bias.to(dtype)


def _product(
    x: Tensor, weight: Tensor, bias: Tensor | None, activation: str = "none", residual: Tensor | None = None
) -> Tensor:
    """The layer by oneDNN's kernel; the weight is plain or repacked, and all have one type but the residual."""
    if x.dim() != 2:
        other = None if residual is None else residual.reshape(-1, residual.shape[-1])
        y = _product(x.reshape(-1, x.shape[-1]), weight, bias, activation, other)
        return y.view(*x.shape[:-1], y.shape[-1])
    n_rows, n_at_a_time = x.shape[0], _rows_at_a_time(x) if _alone.get() else 0
    if 0 < n_at_a_time < n_rows:
        parts = x.split(n_at_a_time)
        others = [None] * len(parts) if residual is None else residual.split(n_at_a_time)
        found = [_product(part, weight, bias, activation, other) for part, other in zip(parts, others, strict=True)]
        return torch.cat(found)
    n_spare = _n_spare(x)
    rows = _longer(x, n_spare).contiguous()
    if residual is not None and residual.dtype == x.dtype:
        other = _longer(residual, n_spare).contiguous()
        y = torch.ops.mkldnn._linear_pointwise.binary(rows, other, weight, bias, "add")
    else:
        _, kind, algorithm = ACTIVATIONS[activation]
        if activation == "gelu" and _is_faster_apart(rows, weight):
            y = torch.ops.aten.gelu_(torch.ops.mkldnn._linear_pointwise.default(rows, weight, bias, "none", [], ""))
        else:
            y = torch.ops.mkldnn._linear_pointwise.default(rows, weight, bias, kind, [], algorithm)
    y = y[:n_rows] if n_spare else y
    return y if residual is None or residual.dtype == x.dtype else y + residual


def _is_faster_apart(rows: Tensor, weight: Tensor) -> bool:
    """Whether a product is taken without its GELU, which follows in place."""
    n_outputs = rows.shape[0] * weight.shape[0]
    return n_outputs >= APART and rows.dtype == torch.float32 and onednn.is_slow_with_gelu()


def with_spare_rows(x: Tensor) -> Tensor:
    """Rows (T, D) with rows of zeros after them, up to a number that oneDNN meets often; the same where it does not compute.

    A layer adds them to a copy of its input; the encoder does so once, before its first layer.
    """
    return _longer(x, _n_spare(x)) if on_fast_cpu(x) else x


def _longer(x: Tensor, n_spare: int) -> Tensor:
    return F.pad(x, (0, 0, 0, n_spare)) if n_spare else x


def _n_spare(x: Tensor) -> int:
    """How many rows of zeros belong after these."""
    n_rows, n_at_a_time = x.shape[0], _rows_at_a_time(x) if _alone.get() else 0
    return -n_rows % n_at_a_time if n_at_a_time else _rounded(n_rows) - n_rows


def _rows_at_a_time(x: Tensor) -> int:
    """Rows of each product with these inputs, where rows are computed as if alone; 0 if it has them all."""
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    return ROWS_AT_A_TIME if dtype == torch.bfloat16 and onednn.sums_by_rows() else 0


@lru_cache(4096)
def _rounded(n_rows: int) -> int:
    """The next power of two up to 8, from 2 on; then one of 8 numbers between two powers of two, at least 8 apart."""
    if n_rows <= 8:
        return max(2, 1 << (n_rows - 1).bit_length()) if n_rows else 0
    return onednn.rounded(n_rows, 8, 8)


def on_fast_cpu(x: Tensor) -> bool:
    """Whether a CPU computes with this tensor inside ``fast_kernels()``, and nothing is compiled."""
    return not torch.compiler.is_compiling() and _fast.get() and x.is_cpu


def _dtype_of_onednn(x: Tensor, weight: Tensor) -> torch.dtype | None:
    """Type in which oneDNN's kernel is to compute; None where ``F.linear`` is."""
    if not on_fast_cpu(x) or not _has_onednn.get() or not x.numel():
        return None
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")  # to which autocast would cast both
    elif x.dtype == weight.dtype:
        dtype = x.dtype
    else:
        return None
    is_known = dtype == torch.float32 or (dtype == torch.bfloat16 and onednn.knows_bfloat16())
    return dtype if is_known and torch.float64 not in (x.dtype, weight.dtype) else None


def row_by_row(half: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``half(*inputs)`` for a half of a layer that takes each row (..., D) by itself; in int8 some rows at a time."""
    x = inputs[-1]
    if not int8.computes_in_int8():
        return half(*inputs)
    return int8.in_parts(half, *(each.flatten(0, -2) for each in inputs)).view(x.shape)
