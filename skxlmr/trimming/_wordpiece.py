"""WordPiece: at each place of a word the longest piece that fits is taken; a word with a place where none fits is unknown.

If the pieces of a word stay, the longest one at each place is the same. An unknown word needs those that are found before the
place where none fits: without one of them a shorter one would fit, and the search might end well.
"""

from typing import Any

import numpy as np

from skxlmr.text import FastTokenizer
from skxlmr.trimming._vocabulary import Bools, Vocabulary, by_ids


class WordPiece(Vocabulary):
    """A vocabulary of BERT.

    Parameters
    ----------
    tokenizer : FastTokenizer
        Of this kind.
    """

    def __init__(self, tokenizer: FastTokenizer):
        model: dict[str, Any] = tokenizer.content["model"]
        self.pieces = by_ids(model["vocab"], tokenizer.vocab_size)
        self._vocab = model["vocab"]
        self._prefix = tokenizer.continuing_prefix or ""
        self._most = model.get("max_input_chars_per_word", 100)
        self._beginnings: Bools = np.zeros(tokenizer.vocab_size, bool)  # of unknown words

    def characters(self) -> Bools:
        return np.array([len(piece.removeprefix(self._prefix)) == 1 or len(piece) == 1 for piece in self.pieces])

    def look(self, tokenizer: Any, texts: list[str]) -> None:
        for word in tokenizer.words(texts):
            found: list[int] = []
            if self._search(word, found) and len(word) <= self._most:
                self._beginnings[found] = True

    def _search(self, word: str, found: list[int]) -> bool:
        """Add the ids of the pieces of a word; returns whether there is a place where none fits."""
        start = 0
        while start < len(word):
            mark = self._prefix if start else ""
            for end in range(len(word), start, -1):
                if (i := self._vocab.get(mark + word[start:end])) is not None:
                    found.append(i)
                    start = end
                    break
            else:
                return True
        return False

    def needed(self, kept: Bools) -> Bools:
        return kept | self._beginnings
