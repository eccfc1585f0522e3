"""Tokens of many texts, packed, before truncation and special tokens; each distinct text encoded once.

Shape suffixes: N texts, T tokens of all texts together.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain

import numpy as np
from numpy.typing import NDArray

Ids = Sequence[int] | NDArray[np.integer]  # of one row
Counts = NDArray[np.int64]  # also places


@dataclass(frozen=True)
class Tokens:
    """Tokens of many texts without special tokens around them.

    Attributes
    ----------
    ids : ndarray of shape (n_tokens,), int32
    starts, lengths : ndarray of shape (n_texts,), int64
        Where each text lies in `ids`. Equal texts lie in the same place.
    offsets : ndarray of shape (n_tokens, 2), int32, optional
        Where each token lies in its text.
    is_beginning : ndarray of shape (n_texts,), bool, optional
        Texts of which only the beginning was encoded; None if all were encoded to their end.
    word_ids : ndarray of shape (n_tokens,), int32, optional
        Index of each token's word in its row of pre-split words.
    """

    ids: NDArray[np.int32]
    starts: Counts
    lengths: Counts
    offsets: NDArray[np.int32] | None = None
    is_beginning: NDArray[np.bool_] | None = None
    word_ids: NDArray[np.int32] | None = None

    @classmethod
    def packed(cls, ids: NDArray[np.int32], lengths: Counts, offsets: NDArray[np.int32] | None = None) -> "Tokens":
        """Tokens of texts that lie one after another."""
        return cls(ids, np.cumsum(lengths) - lengths, lengths, offsets)

    def take(self, texts: Counts | slice) -> "Tokens":
        """Return these texts. No token is copied."""
        is_beginning = None if self.is_beginning is None else self.is_beginning[texts]
        return replace(self, starts=self.starts[texts], lengths=self.lengths[texts], is_beginning=is_beginning)

    def joined(self, n_words_N: Counts) -> "Tokens":
        """Return the tokens of rows of this many texts, which are the rows' words, with `word_ids`."""
        source_T = spans(self.starts, self.lengths)
        word_ids_T = np.repeat(spans(np.zeros_like(n_words_N), n_words_N), self.lengths).astype(np.int32)
        ends_W = np.concatenate(([0], np.cumsum(self.lengths)))
        ends_N = ends_W[np.concatenate(([0], np.cumsum(n_words_N)))]
        offsets_T2 = None if self.offsets is None else self.offsets[source_T]
        return replace(Tokens.packed(self.ids[source_T], np.diff(ends_N), offsets_T2), word_ids=word_ids_T)

    def with_unknown(self, unk_token_id: int) -> "Tokens":
        """Return packed tokens with one unknown token, at (0, 0), for each text that had none."""
        empty = np.flatnonzero(self.lengths == 0)
        if not len(empty):
            return self
        places = self.starts[empty]
        offsets_T2 = None if self.offsets is None else np.insert(self.offsets, places, 0, axis=0)
        return Tokens.packed(np.insert(self.ids, places, unk_token_id), np.maximum(self.lengths, 1), offsets_T2)


def encode_distinct(encode: Callable[[list[str]], Tokens], *columns: list[str]) -> list[Tokens]:
    """Encode each distinct text of all columns once, and return the tokens of each column.

    Parameters
    ----------
    encode : callable
        Returns the packed tokens of a list of texts.
    columns : list of str
    """
    texts = columns[0] if len(columns) == 1 else list(chain.from_iterable(columns))
    numbers = dict.fromkeys(texts, 0)
    if len(numbers) == len(texts):
        tokens = encode(texts)
    else:
        for i, text in enumerate(numbers):
            numbers[text] = i
        tokens = encode(list(numbers)).take(np.fromiter(map(numbers.__getitem__, texts), np.int64, len(texts)))
    if len(columns) == 1:
        return [tokens]
    ends = list(accumulate(map(len, columns)))
    return [tokens.take(slice(end - len(column), end)) for column, end in zip(columns, ends, strict=True)]


def spans(starts_N: Counts, lengths_N: Counts) -> Counts:
    """Indices of the elements of N spans, one span after another."""
    ends_N = np.cumsum(lengths_N)
    return np.repeat(starts_N - ends_N + lengths_N, lengths_N) + np.arange(lengths_N.sum())
