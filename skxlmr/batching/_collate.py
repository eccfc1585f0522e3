"""Packed batches with their targets, and how the losses of a task are computed.

A task holds the encoded rows and offers two things to the fit loop: ``collate(rows, rng)`` makes a batch on the host, and
``losses(module, batch)`` returns one weighted value for each item of each loss term. The loop divides the sum of a term by the
sum of its weights over a whole optimiser step, so that accumulated batches have the gradient of one large batch.

``collate(rows, rng, part)`` makes a batch of ``rows[part]`` alone, but with the draws of the batch of all ``rows``: its parts
together hold what the whole would, masks included.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from skxlmr.nn import TokenLayout
from skxlmr.text import EncodedBatch
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor

WHOLE = slice(None)  # all rows of a batch


@dataclass
class Batch:
    """A packed batch and its targets.

    Attributes
    ----------
    ids : Tensor of int64, (T,)
    layout : TokenLayout
    targets : dict of str to Tensor
        What the losses need.
    totals : dict of str to float
        For each loss term the sum of its weights.
    rows : dict of str to ndarray of int
        For each loss term the row of X that each of its items comes from.
    predicted : Tensor or None
        The lowest and the highest number of a class that the losses were computed from, (2, n_columns), where there are
        classes.
    """

    ids: Tensor
    layout: TokenLayout
    targets: dict[str, Tensor] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    predicted: Tensor | None = None

    def note_predicted(self, *logits: Tensor) -> None:
        """Keep which classes the logits (N, n_classes) of each column predict: all the same, or several."""
        if len(logits[0]):
            codes_NC = torch.stack([of_column.detach().argmax(1) for of_column in logits], 1)
            self.predicted = torch.stack([codes_NC.amin(0), codes_NC.amax(0)])

    def to(self, device: torch.device) -> Batch:
        """Copy to a device, unless it is there already; the host does not wait for the copy."""
        if self.ids.device == device:
            return self
        targets = {name: _copied(target, device) for name, target in self.targets.items()}
        return Batch(_copied(self.ids, device), self.layout.to(device), targets, self.totals, self.rows)


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy of a host tensor on a device; CUDA copies in the background only from pinned memory."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def one_term(
    packed: tuple[Tensor, TokenLayout],
    targets: dict[str, np.ndarray],
    weights: np.ndarray,
    rows: np.ndarray,
    term: str = "loss",
) -> Batch:
    """A batch of packed rows with one loss term: its targets, and the weight and the row of X of each of its items."""
    tensors = {name: torch.from_numpy(values) for name, values in {**targets, "weights": weights}.items()}
    return Batch(*packed, tensors, {term: float(weights.sum(dtype=np.float64))}, {term: rows})


def pack(encoded: EncodedBatch, device: torch.device | str = "cpu") -> tuple[Tensor, TokenLayout]:
    """Tensor of ids (T,) and layout of encoded rows."""
    ids = torch.from_numpy(encoded.ids.astype(np.int64))
    return ids.to(device, non_blocking=True), layout_of(encoded, device)


def layout_of(encoded: EncodedBatch, device: torch.device | str = "cpu") -> TokenLayout:
    """Where encoded rows lie when packed."""
    second_starts = None if encoded.second_starts is None else encoded.second_starts.tolist()
    return TokenLayout(encoded.lengths.tolist(), device, second_starts=second_starts)


def by_length(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The rows of one batch, longest first: their order does not matter to the loss, but to the speed of attention."""
    return rows[np.argsort(-lengths[rows], kind="stable")]


def concatenate(*parts: EncodedBatch) -> EncodedBatch:
    """The rows of all parts."""
    ids, lengths, n_dropped = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "lengths", "n_dropped")
    )
    second_starts = is_minimum = None
    if any(part.second_starts is not None for part in parts):
        # In a row without a second text, the end is where one would begin.
        second_starts = np.concatenate([p.lengths if p.second_starts is None else p.second_starts for p in parts])
    if any(part.n_dropped_is_minimum is not None for part in parts):
        is_minimum = np.concatenate(
            [np.zeros(len(p), bool) if p.n_dropped_is_minimum is None else p.n_dropped_is_minimum for p in parts]
        )
    return EncodedBatch(ids, lengths, n_dropped, second_starts=second_starts, n_dropped_is_minimum=is_minimum)
