"""One label for each word of pre-split rows.

Where a row is shown in several windows, its tokens occur several times: in training and in prediction the occurrence counts
that lies deepest inside its window.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skxlmr.batching import WHOLE, Batch, by_length, one_term, pack
from skxlmr.nn.layout import widen
from skxlmr.text import EncodedBatch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule


def best_places(encoded: EncodedBatch) -> NDArray[np.int64]:
    """Where each token of the texts stands with the most context on both sides.

    Parameters
    ----------
    encoded : EncodedBatch
        Rows, or windows of rows, of single texts: one special token on either side.

    Returns
    -------
    ndarray of int64
        Places in ``encoded.ids`` of the tokens of all input rows, row after row in the order of their texts; of a token
        that several windows show, the place with the largest distance to the nearer end of its window.
    """
    n_shown_W = encoded.lengths - 2
    window_T = np.repeat(np.arange(len(encoded)), n_shown_W)
    first_W = encoded.starts[:-1] + 1
    place_T = np.arange(n_shown_W.sum()) + (first_W - np.cumsum(n_shown_W) + n_shown_W)[window_T]
    before_T = place_T - first_W[window_T]
    context_T = np.minimum(before_T, n_shown_W[window_T] - 1 - before_T)
    position_T = before_T if encoded.window_starts is None else before_T + encoded.window_starts[window_T]
    row_T = encoded.input_rows[window_T]
    order = np.lexsort((-context_T, position_T, row_T))
    is_first = np.ones(len(order), bool)
    is_first[1:] = (np.diff(row_T[order]) != 0) | (np.diff(position_T[order]) != 0)
    return place_T[order[is_first]]


def starts_of_words(encoded: EncodedBatch, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of the tokens at ``places`` (from ``best_places``) is the first of its word."""
    assert encoded.word_ids is not None
    row_T = np.repeat(encoded.input_rows, encoded.lengths)[places]
    is_start = np.ones(len(places), bool)
    is_start[1:] = (np.diff(row_T) != 0) | (np.diff(encoded.word_ids[places]) != 0)
    return is_start


NO_LABEL = -1  # instead of a class: the word has none


class TokenTask:
    """A class for each word, learnt at the word's first token or at all of its tokens.

    Parameters
    ----------
    encoded : EncodedBatch
        Rows of words (with ``word_ids``), or windows of them.
    targets : ndarray of object, (n_input_rows,)
        Class of each word of a row, -1 for none: int64 arrays.
    weights : ndarray of object, (n_input_rows,)
        Weight of each word of a row: float32 arrays.
    loss : callable
        Values (N,) from logits (N, K) and classes (N,).
    all_subwords : bool
        Whether every token of a word has the word's class and weight, not only the first.
    """

    def __init__(
        self,
        encoded: EncodedBatch,
        targets: np.ndarray,
        weights: np.ndarray,
        loss: Callable[[Tensor, Tensor], Tensor],
        all_subwords: bool = False,
    ):
        self.encoded, self.loss, self.n_rows = encoded, loss, len(encoded)
        places = best_places(encoded)
        is_start = starts_of_words(encoded, places)
        word = np.cumsum(is_start) - 1  # of all rows
        chosen = np.ones_like(is_start) if all_subwords else is_start
        self.labels = np.full(len(encoded.ids), NO_LABEL, np.int64)  # of each token of each window
        self.weights = np.zeros(len(encoded.ids), np.float32)
        if len(places):
            self.labels[places[chosen]] = np.concatenate(targets)[word[chosen]]
            self.weights[places[chosen]] = np.concatenate(weights)[word[chosen]]

    def collate(self, rows: np.ndarray, rng: np.random.Generator, part: slice = WHOLE) -> Batch:
        """Make a batch of these windows."""
        rows = by_length(rows[part], self.encoded.lengths)
        places = self.encoded.token_places(rows)
        positions = np.flatnonzero(self.labels[places] != NO_LABEL)
        labelled = places[positions]
        row_of_token = np.repeat(self.encoded.input_rows[rows], self.encoded.lengths[rows])
        targets = {"positions": positions, "labels": self.labels[labelled]}
        return one_term(pack(self.encoded.take(rows)), targets, self.weights[labelled], row_of_token[positions])

    def losses(self, module: TaskModule, batch: Batch) -> dict[str, Tensor]:
        """Weighted loss of each labelled token."""
        logits_TK = module(batch.ids, batch.layout)
        logits = widen(logits_TK[batch.targets["positions"]])
        batch.note_predicted(logits)
        return {"loss": self.loss(logits, batch.targets["labels"]) * batch.targets["weights"]}
