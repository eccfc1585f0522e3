"""Tokens of many texts, packed, before truncation and special tokens.

Shape suffixes: N rows, T tokens of all rows together.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tokens:
    """Tokens of many texts, packed, without special tokens around them: what a tokenizer makes of plain texts.

    `offsets` (T, 2) int32 are there if asked for, `word_ids` (T,) int32 where the texts were pre-split words.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    offsets: NDArray[np.int32] | None = None
    word_ids: NDArray[np.int32] | None = None


def spans(starts_N: NDArray[np.int64], lengths_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the elements of N spans, one span after another."""
    ends_N = np.cumsum(lengths_N)
    return np.repeat(starts_N - ends_N + lengths_N, lengths_N) + np.arange(lengths_N.sum())
