"""Weights of dense layers in the form that a kernel wants, made once and kept beside the layers.

oneDNN computes with weights in blocks. Given a plain matrix it puts the blocks together in each call, which takes up to a fifth
of the time of a call with few rows. So the blocks are made once, as soon as a layer has seen so many rows that they pay, and
serve as long as the weights stay what they are. They change no number: the kernel and its order of sums are the same.

What is kept is no part of the module: no state dict, pickle or copy has it, and it goes with the layer.
"""

from collections.abc import Callable, Sequence
from ctypes import string_at
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

# Where a tensor lies in memory, how often it was changed in place, its strides, and some of its numbers: what is changed
# through `.data` or NumPy is not counted.
Mark = tuple[int, int, tuple[int, ...], bytes]
SAMPLE = 16  # bytes

# Making the blocks takes as long as computing some 250 rows; each call saves a part of its time.
WORTH = 1024  # rows

Weights = tuple[Tensor, Tensor | None]


def mark_of(tensor: Tensor) -> Mark | None:
    """What tells a tensor that is as it was; None for one that does not count its changes, or that is a type of its own."""
    if tensor.is_inference() or type(tensor) not in (Tensor, nn.Parameter):
        return None
    first, sample = tensor.data_ptr(), b""
    if tensor.is_cpu and tensor.is_contiguous():
        sample = string_at(first + tensor.nbytes // 2, min(tensor.nbytes // 2, SAMPLE))
    return first, tensor._version, tensor.stride(), sample


class _Kept:
    """What is kept for some layers with their present weights."""

    def __init__(self, kind: object, marks: Sequence[Mark]):
        self.kind, self.marks, self.n_rows, self.made = kind, marks, 0, None


_kept: WeakKeyDictionary[nn.Module, Any] = WeakKeyDictionary()


def made_once(
    layers: Sequence[nn.Linear], kind: object, make: Callable[[Tensor, Tensor | None], Any], n_rows: int, worth: int
) -> Any:
    """What ``make`` made of the weights of these layers, side by side.

    Parameters
    ----------
    layers : sequence of nn.Linear
        With biases, if they are several. One set of layers has the same first one in each call.
    kind : object
        What is made: only one kind is kept at a time.
    make : callable
        (weight (n_outputs, n_inputs), bias or None) -> anything. It is called again once the weights have changed.
    n_rows, worth : int
        Rows of this call, and after how many rows it is worth to make it.

    Returns
    -------
    object, or None if it is not worth it yet, or if nobody could tell a change of the weights
    """
    marks = []
    for layer in layers:
        for tensor in (layer.weight, layer.bias):
            if tensor is not None:
                found = mark_of(tensor)
                if found is None:
                    return None
                marks.append(found)
    kept = _kept.get(layers[0])
    if kept is None or kept.kind != kind or kept.marks != marks:
        kept = _kept[layers[0]] = _Kept(kind, marks)
    if kept.made is None:
        kept.n_rows += n_rows
        if kept.n_rows >= worth:
            with torch.inference_mode(False), torch.no_grad():
                kept.made = make(*side_by_side(layers))
    return kept.made


def side_by_side(layers: Sequence[nn.Linear]) -> Weights:
    """Weight (sum of outputs, n_inputs) and bias of several layers; those of one are not copied."""
    if len(layers) == 1:
        return layers[0].weight.detach(), None if layers[0].bias is None else layers[0].bias.detach()
    return torch.cat([layer.weight for layer in layers]), torch.cat([layer.bias for layer in layers])


def packed(layers: Sequence[nn.Linear], dtype: torch.dtype, n_rows: int) -> Weights | None:
    """Weight of the layers as oneDNN's kernel takes it, and bias; None if they are not worth it yet. See :func:`made_once`."""

    def make(weight: Tensor, bias: Tensor | None) -> Weights:
        blocks = torch.ops.mkldnn._reorder_linear_weight(weight.to(dtype).contiguous(), WORTH)
        return blocks, None if bias is None else bias.to(dtype, copy=True)

    return made_once(layers, dtype, make, n_rows, WORTH)


def forget(module: nn.Module) -> None:
    """Give back what is kept for the layers of a module, whose weights are about to change."""
    for part in module.modules():
        _kept.pop(part, None)
