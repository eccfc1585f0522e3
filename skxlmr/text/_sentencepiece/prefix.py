"""Encode only the beginning of a huge text, with the ids that encoding all of it would give.

A place between two characters that stand side by side in no piece of the vocabulary is a place where every segmentation
breaks. What SentencePiece chooses before such a place depends on nothing after it: its search goes from left to right, and
no piece reaches across. Its normaliser looks ahead too, but no further than its longest rule, so the place is looked for
well before the end of what is normalised. A text without such a place (one letter a million times) is encoded as a whole.
"""

import numpy as np
from sentencepiece import SentencePieceProcessor

from skxlmr.text._surrogates import without_surrogates

LONG_TEXT = 20_000  # characters from which on looking for a place to cut costs less than encoding the rest
CHARACTERS_PER_TOKEN = 8  # a first guess, about twice what running text has
LOOK_AHEAD = 64  # characters; the longest rule of NFKC has 18
MOST_CANDIDATES = 8


class PrefixCutter:
    """Finds how much of a text is enough for its first tokens.

    Parameters
    ----------
    processor : SentencePieceProcessor
        The model.
    pieces : list of str
        Its vocabulary.
    """

    def __init__(self, processor: SentencePieceProcessor, pieces: list[str]):
        self._processor = processor
        self._look_ahead = LOOK_AHEAD + max(map(len, pieces))
        # NUL keeps neighbouring pieces apart; the pairs with it that this adds only make the search more careful
        self._inner_pairs = np.unique(_pairs("\0".join(pieces)))

    def cut(self, text: str, limit: int) -> str:
        """Return a beginning of `text` with more than `limit` tokens, those of the whole text, or else all of it."""
        n = max(LONG_TEXT // 2, CHARACTERS_PER_TOKEN * limit)
        while n < len(text) - self._look_ahead:
            beginning = self._whole_tokens(without_surrogates(text[: n + self._look_ahead]), n)
            if beginning and len(self._processor.encode(beginning, out_type=int)) > limit:
                return beginning
            n *= 4
        return text

    def _whole_tokens(self, text: str, n: int) -> str | None:
        """Return the longest beginning of at most `n` characters, found soon, after which every segmentation breaks."""
        normalized, original = self._processor.normalize(text, with_offsets=True)
        original_C = np.array(original)
        breaks_C = ~np.isin(_pairs(normalized), self._inner_pairs)
        # a rule's output belongs together: cut only where the original text moves on
        places = 1 + np.flatnonzero(breaks_C & (np.diff(original_C)[:-1] > 0) & (original_C[1:-1] <= n))
        for k in places[: -MOST_CANDIDATES - 1 : -1]:
            beginning = text[: original_C[k]]
            if self._processor.normalize(beginning) == normalized[:k]:
                return beginning
        return None


def _pairs(text: str) -> np.ndarray:
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64)
    return codes[:-1] << 21 | codes[1:]
