"""The dense layers of the encoder in int8, for inference on CPUs that multiply 8-bit integers fast.

Weights are rounded to 8 bits per output, the inputs of a layer per token, both symmetrically: the largest magnitude of a row
becomes 127. The product is exact in int32; what comes before and after it is float32. So the output of a token depends on the
input of that token alone, to the last bit, whatever the number of rows.

oneDNN's kernel is fast with unsigned inputs; these are the signed ones plus 128, which the kernel takes off again.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skxlmr.nn.kernels import onednn
from skxlmr.nn.kernels.packed import made_once, side_by_side

ROWS_AT_ONCE = 256  # of a layer's input: most of what lies between two steps stays in the processor's cache
LEAST = 1e-30  # a row of zeros has a scale too
# Plus a number between -127 and 127, in float32: a whole number, whose lowest byte is that one plus 128
SHIFT = 1.5 * 2**23 + 128
_127 = torch.tensor(127.0, dtype=torch.float32, device="cpu")

_IN_PLACE: dict[str, Callable[[Tensor], Tensor]] = {
    "none": lambda y: y,
    "gelu": lambda y: torch.ops.aten.gelu.out(y, out=y),
    "gelu_new": lambda y: torch.ops.aten.gelu.out(y, approximate="tanh", out=y),
    "gelu_pytorch_tanh": lambda y: torch.ops.aten.gelu.out(y, approximate="tanh", out=y),
    "relu": torch.relu_,
}

_is_on: ContextVar[bool] = ContextVar("int8", default=False)


@contextmanager
def int8_layers(wanted: bool) -> Iterator[None]:
    """Inside the block, and in this thread only, compute the layers of encoders in int8, or not."""
    token = _is_on.set(wanted)
    try:
        yield
    finally:
        _is_on.reset(token)


def computes_in_int8() -> bool:
    """Whether a layer that is called now computes in int8; a compiled module never does."""
    return not torch.compiler.is_compiling() and _is_on.get()


def dense(layers: Sequence[nn.Linear], x: Tensor, activation: str = "none", residual: Tensor | None = None) -> Tensor:
    """Outputs of dense layers with the same input, side by side, computed in int8; then the activation, or a residual added.

    Parameters
    ----------
    layers : sequence of Linear
        With as many inputs, and with biases if they are several. Their int8 copies are made at the first call, and again when
        a weight has changed.
    x : Tensor of shape (..., n_inputs)
    activation : str
        As in :func:`skxlmr.nn.kernels.linear.linear`.
    residual : Tensor of shape (..., n_outputs), optional
        With an activation there is none.

    Returns
    -------
    Tensor of shape (..., n_outputs), of the type of ``x``
    """
    weights = made_once(layers, "int8", Int8Weights, 1, 0) or Int8Weights(*side_by_side(layers))
    rows = x.flatten(0, -2)
    others = None if residual is None else residual.flatten(0, -2)
    n_outputs = len(weights.scale_N)
    if 0 < len(rows) <= ROWS_AT_ONCE:
        outputs = weights.outputs(rows, activation, others)
    else:
        outputs = x.new_empty(len(rows), n_outputs)
        for part in _parts(len(rows)):
            weights.outputs(rows[part], activation, None if others is None else others[part], outputs[part])
    return outputs.view(*x.shape[:-1], n_outputs)


def in_parts(run: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """``run`` on some rows of the inputs at a time, so that what lies between its steps stays in the processor's cache.

    Parameters
    ----------
    run : callable
        Inputs (t, ...) -> Tensor (t, D), whose rows depend on the same rows of the inputs.
    *inputs : Tensor of shape (T, ...)
        The last one has the shape of the outputs.

    Returns
    -------
    Tensor of shape (T, D)
    """
    outputs = torch.empty_like(inputs[-1])
    for part in _parts(len(outputs)):
        outputs[part] = run(*(x[part] for x in inputs))
    return outputs


def _parts(n_rows: int) -> list[slice]:
    return [slice(first, first + ROWS_AT_ONCE) for first in range(0, n_rows, ROWS_AT_ONCE)]


class Int8Weights:
    """Weights of dense layers in int8, in the form that oneDNN wants.

    Parameters
    ----------
    weight_ND : Tensor
    bias_N : Tensor or None
    """

    def __init__(self, weight_ND: Tensor, bias_N: Tensor | None):
        weight_ND = weight_ND.float()
        largest_N = weight_ND.abs().amax(1).clamp_(min=LEAST)
        signed_ND = (weight_ND * (127 / largest_N[:, None])).round_().to(torch.int8)
        self._packed = torch.ops.onednn.qlinear_prepack(signed_ND, None)
        self.scale_N = largest_N / 127**2  # the weights' scale, and what the scale of a token lacks
        self._zeros_N = self.scale_N.new_zeros(len(signed_ND), dtype=torch.int64)
        self._bias_N = self.scale_N.new_zeros(len(signed_ND)) if bias_N is None else bias_N.to(torch.float32, copy=True)
        self._shift_D = self.scale_N.new_full((weight_ND.shape[1],), SHIFT)

    def outputs(self, x: Tensor, activation: str, residual: Tensor | None, out: Tensor | None = None) -> Tensor:
        """Outputs (T, N) of inputs (T, D), through the activation and with the residual added; in ``out`` if it is given."""
        rows = x.float()
        largest_T = torch.maximum(rows.amax(1, keepdim=True), rows.amin(1, keepdim=True).neg_()).clamp_(min=LEAST)
        # rounded to whole numbers, and taken from the lowest byte: faster than to round, to convert and to add 128
        unsigned = torch.addcmul(self._shift_D, rows, _127 / largest_T).view(torch.int32).to(torch.uint8)
        if len(x) > 1 and (n_rows := onednn.rounded(len(x), 8, 16)) > len(x):
            unsigned = F.pad(unsigned, (0, 0, 0, n_rows - len(x)))
        y = torch.ops.onednn.qlinear_pointwise(
            *(unsigned, 1.0, 128, self._packed, self.scale_N, self._zeros_N, None),
            *(1.0, 0, torch.float32, "none", [], ""),
        )[: len(x)]
        fits = out is not None and out.dtype == torch.float32
        y = torch.addcmul(self._bias_N, y, largest_T, out=out if fits else y)
        y = _IN_PLACE[activation](y)
        if residual is not None:
            y += residual
        if out is None:
            return y.to(x.dtype)
        return y if fits else out.copy_(y)
