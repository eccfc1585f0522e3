"""Question answering: the answer's first and last token in every window of its context.

Shape legend: N rows of the input, W windows, T tokens of all windows together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skxlmr.batching import WHOLE, Batch, by_length, one_term, pack
from skxlmr.nn.layout import widen
from skxlmr.nn.losses import span_cross_entropy
from skxlmr.text import EncodedBatch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule


def context_starts(encoded: EncodedBatch) -> NDArray[np.int64]:
    """Place of the first context token in each window ``<s> question </s></s> context </s>``, (W,)."""
    assert encoded.sequence_ids is not None, "encode with offsets"
    n_context_W = np.add.reduceat((encoded.sequence_ids == 1).astype(np.int64), encoded.starts[:-1])
    return encoded.lengths - 1 - n_context_W


def span_positions(encoded: EncodedBatch, spans_N2: NDArray[np.int64]) -> NDArray[np.int64]:
    """Places in each window of the first and the last token of the answer, (W, 2).

    Parameters
    ----------
    encoded : EncodedBatch
        Questions with windows of their contexts, with offsets.
    spans_N2 : ndarray of shape (N, 2), int64
        Where each row's answer starts and ends in its context, in characters; (-1, -1) for no answer.

    Returns
    -------
    ndarray of shape (W, 2), int64
        (0, 0), the place of ``<s>``, where a window does not show all tokens of the answer, or there is none.
    """
    assert encoded.offsets is not None and encoded.sequence_ids is not None, "encode with offsets"
    row_W, first_W = encoded.input_rows, context_starts(encoded)
    shown_from_W = np.zeros_like(row_W) if encoded.window_starts is None else encoded.window_starts
    shown_to_W = shown_from_W + encoded.lengths - 1 - first_W

    window_T = np.repeat(np.arange(len(encoded)), encoded.lengths)
    row_T = row_W[window_T]
    place_T = np.arange(len(window_T)) - encoded.starts[window_T]
    number_T = place_T - first_W[window_T] + shown_from_W[window_T]  # of a token in its whole context
    starts_T, ends_T = spans_N2[row_T].T
    answers_T = (encoded.sequence_ids == 1) & (encoded.offsets[:, 0] < ends_T) & (encoded.offsets[:, 1] > starts_T)

    # every token of the context is in a window: together they show the answer's first and last token
    begin_N, end_N = np.full(len(spans_N2), len(window_T)), np.full(len(spans_N2), -1)
    np.minimum.at(begin_N, row_T[answers_T], number_T[answers_T])
    np.maximum.at(end_N, row_T[answers_T], number_T[answers_T])
    begin_W, end_W = begin_N[row_W], end_N[row_W]
    is_whole_W = (begin_W >= shown_from_W) & (end_W < shown_to_W) & (end_W >= 0)
    to_place_W = first_W - shown_from_W
    return np.where(is_whole_W[:, None], np.stack([begin_W, end_W], 1) + to_place_W[:, None], 0)


class SpanTask:
    """An answer for each row of the input, to be found in those of its windows that show all of it.

    The other windows point to ``<s>``, and each window weighs as much as its row.

    Parameters
    ----------
    encoded : EncodedBatch
        Questions with windows of their contexts, with offsets.
    spans : ndarray of shape (n_input_rows, 2), int64
        Where each answer starts and ends in its context, in characters; (-1, -1) for no answer.
    weights : ndarray of shape (n_input_rows,) float32

    Attributes
    ----------
    n_hidden : int
        Rows with an answer that no window shows as a whole: all of their windows point to ``<s>``.
    """

    def __init__(self, encoded: EncodedBatch, spans: NDArray[np.int64], weights: np.ndarray):
        self.encoded, self.weights = encoded, weights
        self.positions = span_positions(encoded, spans)
        self.n_rows = len(encoded)
        is_shown_N = np.zeros(len(spans), bool)
        is_shown_N[encoded.input_rows[self.positions[:, 0] > 0]] = True
        self.n_hidden = int(np.count_nonzero((spans[:, 0] >= 0) & ~is_shown_N))

    def collate(self, rows: np.ndarray, rng: np.random.Generator, part: slice = WHOLE) -> Batch:
        """Make a batch of these windows."""
        rows = by_length(rows[part], self.encoded.lengths)
        packed, targets = pack(self.encoded.take(rows)), {"positions": self.positions[rows]}
        rows = self.encoded.input_rows[rows]
        return one_term(packed, targets, self.weights[rows], rows, "span")

    def losses(self, module: TaskModule, batch: Batch) -> dict[str, Tensor]:
        """Weighted loss of each window: the mean of its start's and its end's."""
        logits_T2 = widen(module(batch.ids, batch.layout))
        values_N2 = span_cross_entropy(logits_T2, batch.layout.lengths_N, batch.targets["positions"])
        return {"span": values_N2.mean(1) * batch.targets["weights"]}
