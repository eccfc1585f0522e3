"""Which pieces must stay in a vocabulary so that texts whose pieces all stay are still cut into the same ones."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]


class Vocabulary(ABC):
    """Pieces by their ids, and how a tokenizer finds them in a text.

    Attributes
    ----------
    pieces : list of str
        By their ids; an id without a piece has an empty one.
    """

    pieces: list[str]

    @abstractmethod
    def needed(self, kept: Bools) -> Bools:
        """Return which pieces must stay if these do, themselves included."""

    def characters(self) -> Bools:
        """Return which pieces are one character: with them, what can be spelled now can be spelled afterwards."""
        return np.array([len(piece) == 1 for piece in self.pieces])

    def look(self, tokenizer: Any, texts: list[str]) -> None:  # noqa: B027  # most need not look
        """Look at texts with unknown tokens, before `needed` is asked; the tokenizer is that of their language."""


def by_ids(vocab: Mapping[str, int], size: int) -> list[str]:
    """Return the tokens of a vocabulary by their ids."""
    pieces = [""] * size
    for piece, i in vocab.items():
        pieces[i] = piece
    return pieces
