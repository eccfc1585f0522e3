"""Ids of many rows, packed, with what else is known about each token."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from skxlmr.text._tokens import spans
from skxlmr.utils._lazy import lazy

_PER_TOKEN = ("ids", "offsets", "sequence_ids", "word_ids")


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Token ids of many rows, one row after another without padding.

    Attributes
    ----------
    ids : ndarray of shape (n_tokens,), int32
        Token ids, special tokens included.
    lengths : ndarray of shape (n_rows,), int64
        Tokens of each row.
    n_dropped : ndarray of shape (n_rows,), int64
        Tokens that truncation cut from each row; see `n_dropped_is_minimum`.
    offsets : ndarray of shape (n_tokens, 2), int32, optional
        Where each token begins and ends in its text (in its word, for pre-split words), in characters of the original
        str. White space around a token is left out, unless there is nothing else. (0, 0) for the special tokens around
        the texts.
    sequence_ids : ndarray of shape (n_tokens,), int8, optional
        Which text of the pair a token belongs to, 0 or 1; -1 for the special tokens around them. With `offsets`.
    word_ids : ndarray of shape (n_tokens,), int32, optional
        Index of each token's word in its row of pre-split words, -1 for the special tokens around them.
    row_of_window : ndarray of shape (n_rows,), int64, optional
        Where long texts became windows: the row of the input that each window shows.
    window_starts : ndarray of shape (n_rows,), int64, optional
        Tokens of the windowed text that precede each window.
    second_starts : ndarray of shape (n_rows,), int64, optional
        For pairs whose second text the model tells apart, where it begins in its row: from there on, tokens have type 1
        (BERT), or count their positions from 0 again (the original XLM).
    n_dropped_is_minimum : ndarray of shape (n_rows,), bool, optional
        Rows that lost at least `n_dropped` tokens, perhaps more: the end of a very long text is never looked at. None if
        every count is exact.
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
    n_dropped_is_minimum: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.lengths)

    @lazy
    def starts(self) -> NDArray[np.int64]:
        """Where each row starts in `ids`, and where the last one ends: shape (n_rows + 1,), int64."""
        return np.concatenate(([0], np.cumsum(self.lengths)))

    @lazy
    def input_rows(self) -> NDArray[np.int64]:
        """Row of the input that each row shows; without windows, each its own. Shape (n_rows,), int64, ascending."""
        return np.arange(len(self)) if self.row_of_window is None else self.row_of_window

    @property
    def n_windows(self) -> NDArray[np.int64]:
        """Windows of each row of the input, 1 where its text fits: shape (n_input_rows,), int64."""
        if self.row_of_window is None:
            return np.ones(len(self), np.int64)
        return np.bincount(self.row_of_window).astype(np.int64)

    def describe_longest_loss(self) -> str:
        """Return how much the row lost that lost most, in words: "1,062 tokens" or "at least 3,307 tokens"."""
        is_minimum = self.n_dropped_is_minimum is not None and bool(self.n_dropped_is_minimum.any())
        return describe_loss(int(self.n_dropped.max(initial=0)), is_minimum)

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
        """Return all windows of these rows of the input, each named once, numbered from 0 in that order."""
        if self.row_of_window is None:
            return self.take(rows)
        n_windows = self.n_windows
        first_window = np.cumsum(n_windows) - n_windows
        taken = self.take(spans(first_window[rows], n_windows[rows]))
        return replace(taken, row_of_window=np.repeat(np.arange(len(rows)), n_windows[rows]))

    def take(self, indices: Sequence[int] | NDArray[np.integer | np.bool_] | slice) -> "EncodedBatch":
        """Return the rows that `indices` (integers, a mask or a slice) choose, in that order."""
        rows = np.arange(len(self))[indices]
        tokens = self.token_places(rows)
        known = [field.name for field in fields(self) if getattr(self, field.name) is not None]
        return EncodedBatch(**{name: getattr(self, name)[tokens if name in _PER_TOKEN else rows] for name in known})


def describe_loss(n: int, is_minimum: bool) -> str:
    """Return a number of lost tokens in words: "1,062 tokens" or "at least 3,307 tokens"."""
    return f"{'at least ' if is_minimum else ''}{n:,} token{'' if n == 1 else 's'}"
