"""Find a beginning of a huge text whose tokens are also the first tokens of the whole text.

If no piece of the vocabulary contains two neighbouring characters one after the other, every segmentation breaks between
them. What SentencePiece chooses before such a place does not depend on what follows: its search runs from left to right,
and no piece crosses the place. Its normaliser looks ahead, but no further than its longest rule, so the place is chosen
well before the end of the normalised part. A text without such a place (one letter a million times) is encoded whole.
"""

from typing import TYPE_CHECKING

import numpy as np

from skxlmr.text._surrogates import without_surrogates

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

LONG_TEXT = 20_000  # characters; in shorter texts, finding a place to cut costs more than encoding the rest
CHARACTERS_PER_TOKEN = 8  # first guess, about twice that of running text
LOOK_AHEAD = 64  # characters; the longest rule of NFKC has 18
MOST_CANDIDATES = 8


class PrefixCutter:
    """Cuts a text after enough characters for its first tokens.

    Parameters
    ----------
    processor : SentencePieceProcessor
        The model.
    pieces : list of str
        Its vocabulary.
    """

    def __init__(self, processor: "SentencePieceProcessor", pieces: list[str]):
        self._processor = processor
        self._look_ahead = LOOK_AHEAD + max(map(len, pieces))
        # NUL separates the pieces; the pairs with NUL that this adds only rule out more places
        self._inner_pairs = np.unique(_pairs("\0".join(pieces)))

    def cut(self, text: str, limit: int) -> str:
        """Return a beginning of `text` that has more than `limit` tokens, all of them those of `text`; else `text`."""
        n = max(LONG_TEXT // 2, CHARACTERS_PER_TOKEN * limit)
        while n < len(text) - self._look_ahead:
            beginning = self._whole_tokens(without_surrogates(text[: n + self._look_ahead]), n)
            if beginning and len(self._processor.encode(beginning, out_type=int)) > limit:
                return beginning
            n *= 4
        return text

    def _whole_tokens(self, text: str, n: int) -> str | None:
        """Return a beginning of at most `n` characters, among the longest, after which every segmentation breaks."""
        normalized, original = self._processor.normalize(text, with_offsets=True)
        original_C = np.array(original)
        breaks_C = ~np.isin(_pairs(normalized), self._inner_pairs)
        # never cut inside the output of one rule: the place in the original text must advance
        places = 1 + np.flatnonzero(breaks_C & (np.diff(original_C)[:-1] > 0) & (original_C[1:-1] <= n))
        for k in places[: -MOST_CANDIDATES - 1 : -1]:
            beginning = text[: original_C[k]]
            if self._processor.normalize(beginning) == normalized[:k]:
                return beginning
        return None


def _pairs(text: str) -> np.ndarray:
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64)
    return codes[:-1] << 21 | codes[1:]
