"""Batches of prompts with their choices, and the loss over the choices of each row.

Shape legend: R rows, K most choices of a row, N sequences, one for each choice of each row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skxlmr.batching import WHOLE, Batch, one_term, pack
from skxlmr.nn import losses
from skxlmr.nn.layout import widen
from skxlmr.text import EncodedBatch
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule


class ChoiceTask:
    """The right one of two or more choices for each row of the input; a row's choices are always in one batch.

    Parameters
    ----------
    encoded : EncodedBatch
        The prompt with each choice, a row's choices one after another; ``row_of_window`` says which row each belongs to.
    targets : ndarray of shape (n_rows,) int64
        Index of the right choice of each row.
    weights : ndarray of shape (n_rows,) float32
    """

    def __init__(self, encoded: EncodedBatch, targets: np.ndarray, weights: np.ndarray):
        self.encoded, self.targets, self.weights = encoded, targets, weights
        self.n_rows = len(targets)

    def collate(self, rows: np.ndarray, rng: np.random.Generator, part: slice = WHOLE) -> Batch:
        """Make a batch of these rows of the input."""
        rows = rows[part]
        encoded = self.encoded.take_input_rows(rows)
        order_N = np.argsort(-encoded.lengths, kind="stable")  # longest first, which attention is fastest at
        places = by_row(np.argsort(order_N), encoded.n_windows, fill=-1)
        targets = {"places": places, "y": self.targets[rows]}
        return one_term(pack(encoded.take(order_N)), targets, self.weights[rows], rows)

    def losses(self, module: TaskModule, batch: Batch) -> dict[str, Tensor]:
        """Weighted cross-entropy of each row over its own choices."""
        scores_N = widen(module(batch.ids, batch.layout))
        places_RK = batch.targets["places"]
        scores_RK = scores_N[places_RK.clamp(min=0)].masked_fill(places_RK < 0, -torch.inf)
        batch.note_predicted(scores_RK)
        return {"loss": losses.cross_entropy(scores_RK, batch.targets["y"]) * batch.targets["weights"]}


def by_row(values_N: np.ndarray, n_choices_R: np.ndarray, fill: float, n_columns: int = 0) -> np.ndarray:
    """Values of all choices as one line per row, (R, K), or more columns if asked; ``fill`` beyond the choices of a row."""
    values_RK = np.full((len(n_choices_R), n_choices_R.max(initial=n_columns)), fill, values_N.dtype)
    values_RK[np.arange(values_RK.shape[1]) < n_choices_R[:, None]] = values_N
    return values_RK
