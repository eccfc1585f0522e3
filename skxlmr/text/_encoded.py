"""Ids of many rows, packed, with what else is known about each token."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from skxlmr.text._tokens import spans


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Token ids of many rows, one row after another with no padding.

    Attributes
    ----------
    ids : ndarray of shape (n_tokens,), int32
        Token ids, special tokens included.
    lengths : ndarray of shape (n_rows,), int64
        Tokens of each row.
    n_dropped : ndarray of shape (n_rows,), int64
        Tokens that truncation cut from each row. For a text so long that its end was never looked at, a lower bound:
        more than 0 whenever something was cut.
    offsets : ndarray of shape (n_tokens, 2), int32, optional
        Where each token begins and ends in its text, in characters of the original str; in its word, for pre-split
        words. White space around a token is not part of it, unless it is all there is. (0, 0) for the special tokens
        around the texts.
    sequence_ids : ndarray of shape (n_tokens,), int8, optional
        Which text of the pair a token belongs to, 0 or 1; -1 for the special tokens around them. With `offsets`.
    word_ids : ndarray of shape (n_tokens,), int32, optional
        Index of each token's word in its row of pre-split words, -1 for the special tokens around them.
    row_of_window : ndarray of shape (n_rows,), int64, optional
        Where long texts became windows: the row of the input that each window shows.
    window_starts : ndarray of shape (n_rows,), int64, optional
        Tokens of the windowed text that precede each window.
    second_starts : ndarray of shape (n_rows,), int64, optional
        For pairs whose texts count their positions each on its own: where the second text begins in its row.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    n_dropped: NDArray[np.int64]
    offsets: NDArray[np.int32] | None = None
    sequence_ids: NDArray[np.int8] | None = None
    word_ids: NDArray[np.int32] | None = None
    row_of_window: NDArray[np.int64] | None = None
    window_starts: NDArray[np.int64] | None = None
    second_starts: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each row starts in `ids`, and where the last one ends: shape (n_rows + 1,), int64."""
        return np.concatenate(([0], np.cumsum(self.lengths)))

    @cached_property
    def input_rows(self) -> NDArray[np.int64]:
        """Row of the input that each row shows: `row_of_window`, or each its own. Shape (n_rows,), int64, ascending."""
        return np.arange(len(self)) if self.row_of_window is None else self.row_of_window

    @property
    def n_windows(self) -> NDArray[np.int64]:
        """Windows of each row of the input, 1 where its text did not overflow: shape (n_input_rows,), int64."""
        if self.row_of_window is None:
            return np.ones(len(self), np.int64)
        return np.bincount(self.row_of_window).astype(np.int64)

    def row(self, i: int) -> NDArray[np.int32]:
        """Ids of row `i`, a view."""
        return self.ids[self.span(i)]

    def span(self, i: int) -> slice:
        """Where row `i` lies in `ids`, `offsets`, `sequence_ids` and `word_ids`."""
        i = range(len(self))[i]
        return slice(int(self.starts[i]), int(self.starts[i + 1]))

    def token_places(self, rows: NDArray[np.integer]) -> NDArray[np.int64]:
        """Where the tokens of these rows lie in `ids`, one row after another."""
        return spans(self.starts[rows], self.lengths[rows])

    def take_input_rows(self, rows: NDArray[np.integer]) -> "EncodedBatch":
        """Return all windows of these rows of the input, each named once, and number the rows anew in that order."""
        if self.row_of_window is None:
            return self.take(rows)
        n_windows = self.n_windows
        first_window = np.cumsum(n_windows) - n_windows
        taken = self.take(spans(first_window[rows], n_windows[rows]))
        return replace(taken, row_of_window=np.repeat(np.arange(len(rows)), n_windows[rows]))

    def take(self, indices: Sequence[int] | NDArray[np.integer | np.bool_] | slice) -> "EncodedBatch":
        """Return the rows that `indices` (integers, a mask or a slice) choose, in that order."""
        rows = np.arange(len(self))[indices]
        lengths = self.lengths[rows]
        tokens = self.token_places(rows)
        return EncodedBatch(
            self.ids[tokens],
            lengths,
            self.n_dropped[rows],
            None if self.offsets is None else self.offsets[tokens],
            None if self.sequence_ids is None else self.sequence_ids[tokens],
            None if self.word_ids is None else self.word_ids[tokens],
            None if self.row_of_window is None else self.row_of_window[rows],
            None if self.window_starts is None else self.window_starts[rows],
            None if self.second_starts is None else self.second_starts[rows],
        )
