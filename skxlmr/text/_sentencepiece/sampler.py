"""Draw a segmentation of a text from a SentencePiece model."""

import math
import random
import re
from bisect import bisect
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from skxlmr.text._sampling import SubwordSampling

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

UNKNOWN_PENALTY = 10.0  # SentencePiece's: how much less likely an unknown character is than the least likely piece
_WORD = re.compile("▁?[^▁]*[^▁]|▁")


class SegmentationSampler:
    """Draws segmentations from SentencePiece's distribution, with a seed alone.

    SentencePiece's own generator cannot be used: version 0.2.3 mixes its seed with a number that each process draws.

    Parameters
    ----------
    processor : SentencePieceProcessor
        A Unigram model.
    pieces : list of str
        Its vocabulary.

    Raises
    ------
    ValueError
        If the model is not a Unigram model, or falls back to bytes.
    """

    def __init__(self, processor: "SentencePieceProcessor", pieces: list[str]):
        try:
            processor.nbest_encode("a", nbest_size=2, out_type=int)
        except RuntimeError as error:
            raise ValueError(f"sampling needs a Unigram model; SentencePiece says: {error}") from error
        if any(processor.is_byte(i) for i in range(min(len(pieces), 512))):
            raise ValueError("sampling needs a model whose unknown characters do not fall back to bytes")
        self._processor = processor
        self._unknown = processor.unk_id()
        ids = list(range(len(pieces)))
        kinds = (processor.is_control(ids), processor.is_unknown(ids), processor.is_unused(ids))
        ordinary = [i for i, special in enumerate(zip(*kinds, strict=True)) if not any(special)]
        self._ids = {pieces[i]: i for i in ordinary}
        self._scores = {i: processor.get_score(i) for i in ordinary}
        self._longest = max(map(len, self._ids), default=1)
        self._unknown_score = min(self._scores.values(), default=0.0) - UNKNOWN_PENALTY
        # if no piece reaches across a space, words can be drawn one by one: the same distribution, and cacheable
        self._by_word = not any("▁" in piece[1:] for piece in self._ids)
        self._remembered = lru_cache(50_000)(self._lattice)

    def draw(self, texts: list[str], sampling: SubwordSampling) -> list[list[tuple[int, int]]]:
        """Draw a segmentation of each text: SentencePiece's id of each piece, and how many normalised characters it has."""
        rng = random.Random(sampling.seed)
        one = self._draw_among_best if sampling.nbest_size > 1 else self._draw_among_all
        return [self._with_unknown_joined(one(text, sampling, rng)) for text in texts]

    def _draw_among_best(self, text: str, sampling: SubwordSampling, rng: random.Random) -> list[tuple[int, int]]:
        best = self._processor.nbest_encode(text, nbest_size=sampling.nbest_size, out_type=str)
        found = [[(self._ids.get(piece, self._unknown), len(piece)) for piece in pieces] for pieces in best]
        scores = [sum(self._score(i, n) for i, n in segmentation) for segmentation in found]
        weights = [math.exp(sampling.alpha * (score - max(scores))) for score in scores]
        return rng.choices(found, weights)[0] if found else []

    def _draw_among_all(self, text: str, sampling: SubwordSampling, rng: random.Random) -> list[tuple[int, int]]:
        normalized = self._processor.normalize(text)
        drawn: list[tuple[int, int]] = []
        for word in _WORD.findall(normalized) if self._by_word else [normalized]:
            lattice = (self._remembered if len(word) < 50 else self._lattice)(word, sampling.alpha)
            pieces = []
            end = len(word)
            while end:
                cumulated, candidates = lattice[end - 1]
                pieces.append(candidates[min(bisect(cumulated, rng.random()), len(candidates) - 1)])
                end -= pieces[-1][1]
            drawn += reversed(pieces)
        return drawn

    def _lattice(self, word: str, alpha: float) -> list[tuple[list[float], list[tuple[int, int]]]]:
        """Return the pieces that may end at each place in `word`, with cumulative probabilities (forward filtering)."""
        total = [0.0]  # log of the sum of the weights of all segmentations up to each place
        lattice = []
        for end in range(1, len(word) + 1):
            candidates = []
            for n in range(1, min(end, self._longest) + 1):
                i = self._ids.get(word[end - n : end])
                if i is not None or n == 1:
                    candidates.append((self._unknown if i is None else i, n))
            logs = [total[end - n] + alpha * self._score(i, 1) for i, n in candidates]
            weights = [math.exp(value - max(logs)) for value in logs]
            total.append(max(logs) + math.log(sum(weights)))
            lattice.append(([weight / sum(weights) for weight in accumulate(weights)], candidates))
        return lattice

    def _score(self, i: int, n: int) -> float:
        return self._scores.get(i, n * self._unknown_score)

    def _with_unknown_joined(self, pieces: list[tuple[int, int]]) -> list[tuple[int, int]]:
        """Merge neighbouring unknown pieces into one, as SentencePiece does."""
        joined: list[tuple[int, int]] = []
        for i, n in pieces:
            if i == self._unknown and joined and joined[-1][0] == i:
                joined[-1] = (i, joined[-1][1] + n)
            else:
                joined.append((i, n))
        return joined
