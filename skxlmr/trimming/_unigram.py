"""Unigram models: a text is cut into the pieces with the best sum of scores.

If pieces go that the best way does not use, it stays the best: it keeps its sum, and there are only fewer others. Equal sums
are no exception. At each place the search takes the longest of the pieces that reach the best sum there, and on the best way
every sum stays the same to the last bit, since a sum elsewhere can only fall. One thing could rise: an unknown character costs
10 more than the piece with the lowest score. So this piece stays, whether it is used or not. That with the highest score stays
too, from which SentencePiece makes the scores of symbols that users defined.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from skxlmr.text import SentencePieceTokenizer
from skxlmr.text._sentencepiece import pieces as sp
from skxlmr.trimming._vocabulary import Bools, Vocabulary

_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Unigram(Vocabulary):
    """Pieces with scores.

    Parameters
    ----------
    pieces : sequence of str
        By their ids.
    scores : sequence of float
    is_special : sequence of bool
        Which are no pieces that the search takes by their score: unknown, control and user defined symbols, bytes.
    """

    def __init__(self, pieces: Iterable[str], scores: Sequence[float], is_special: Sequence[bool]):
        self.pieces = list(pieces)
        self._scores = np.array(scores, np.float64)
        self._is_special: Bools = np.array(is_special, bool)

    @classmethod
    def of_sentencepiece(cls, tokenizer: SentencePieceTokenizer) -> "Unigram":
        """Return the vocabulary of XLM-R's tokenizer, whose ids are shifted by one."""
        model = sp.pieces_of(tokenizer.model_proto)
        size = tokenizer.vocab_size
        pieces, scores, special = [""] * size, [0.0] * size, [True] * size
        for place, piece in enumerate(model[3:], 3):
            pieces[place + 1], scores[place + 1] = piece.text, piece.score
            special[place + 1] = piece.kind not in (sp.NORMAL, sp.UNUSED)
        return cls(pieces, scores, special)

    @classmethod
    def of_json(cls, model: dict[str, Any], size: int) -> "Unigram":
        """Return the vocabulary of a ``tokenizer.json``."""
        vocab = model["vocab"]
        falls_back = bool(model.get("byte_fallback"))
        missing = size - len(vocab)
        special = [bool(falls_back and _BYTE.fullmatch(piece)) for piece, _ in vocab]
        return cls(
            [*(piece for piece, _ in vocab), *[""] * missing],
            [*(float(score) for _, score in vocab), *[0.0] * missing],
            [*special, *[True] * missing],
        )

    def needed(self, kept: Bools) -> Bools:
        needed = kept | self._is_special
        places = np.flatnonzero(~self._is_special)
        if len(places):
            scores = self._scores[places]
            needed[places[[scores.argmin(), scores.argmax()]]] = True
        return needed
