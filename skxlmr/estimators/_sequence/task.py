"""One target for each text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from skxlmr.batching import WHOLE, Batch, by_length, one_term, pack
from skxlmr.nn.layout import widen
from skxlmr.text import EncodedBatch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule


class SequenceTask:
    """One target (or one vector of targets) for each row of the input; its windows, if it has several, share its weight.

    Parameters
    ----------
    encoded : EncodedBatch
        The rows.
    targets : ndarray of shape (n_rows,) int64 or (n_rows, n_outputs) float32
    weights : ndarray of shape (n_rows,) float32
    loss : callable
        Values (N,) from logits (N, K) and targets.
    n_classes : sequence of int
        Number of classes of each column of targets; empty where these are no classes.
    """

    def __init__(
        self,
        encoded: EncodedBatch,
        targets: np.ndarray,
        weights: np.ndarray,
        loss: Callable[[Tensor, Tensor], Tensor],
        n_classes: Sequence[int] = (),
    ):
        self.encoded, self.targets, self.loss, self.n_classes = encoded, targets, loss, list(n_classes)
        self.weights = (weights / encoded.n_windows).astype(np.float32)
        self.n_rows = len(encoded)

    def collate(self, rows: np.ndarray, rng: np.random.Generator, part: slice = WHOLE) -> Batch:
        """Make a batch of these rows of ``encoded``."""
        rows = by_length(rows[part], self.encoded.lengths)
        packed, rows = pack(self.encoded.take(rows)), self.encoded.input_rows[rows]
        return one_term(packed, {"y": self.targets[rows]}, self.weights[rows], rows)

    def losses(self, module: TaskModule, batch: Batch) -> dict[str, Tensor]:
        """Weighted loss of each row."""
        logits = widen(module(batch.ids, batch.layout))
        if self.n_classes:
            batch.note_predicted(*logits.split(self.n_classes, dim=1))
        return {"loss": self.loss(logits, batch.targets["y"]) * batch.targets["weights"]}
