"""Texts cut into what gets a value: words as the tokenizer's pieces merge, which no cut through a character's parts divides."""

import unicodedata
from collections.abc import Iterable

import numpy as np

from skxlmr.utils._words import trim

Span = tuple[int, int]  # first character, and the one after the last

_JOINER, _VIRAMAS = "\u200d", "\u1039\u17d2"  # the latter stack the next letter below: Myanmar, Khmer
_CONTINUING = frozenset("\u0e33\u0eb3\uff9e\uff9f")  # letters by category, but never apart from what precedes them


def merged_words(text: str, words: Iterable[Span], tokens_T2: np.ndarray) -> tuple[list[Span], np.ndarray]:
    """The parts of a text that get a value, and the part that each token belongs to.

    Words that a token joins are one part, and so are those that share a character with its marks (a grapheme). Tokens that
    show nothing, such as the mark before a word, belong to what follows.

    Parameters
    ----------
    text : str
    words : iterable of (start, end)
        Where parts may begin and end.
    tokens_T2 : ndarray of shape (n_tokens, 2)
        Where each token begins and ends; equal for tokens that show nothing.

    Returns
    -------
    parts : list of (start, end)
        Ascending; only those that have tokens.
    part_T : ndarray of int, (n_tokens,)
    """
    is_cut = np.zeros(len(text) + 1, bool)
    for place in {place for word in words for place in word}:
        is_cut[place] = not _splits_grapheme(text, place)
    is_cut[[0, -1]] = True
    for start, end in tokens_T2.tolist():
        is_cut[start + 1 : end] = False
    bounds = np.flatnonzero(is_cut)
    segments = [trim(text, int(start), int(end)) for start, end in zip(bounds[:-1], bounds[1:], strict=True)]
    if not segments:  # an empty text may still have a token
        segments = [(0, 0)]
    is_shown = np.array([start < end for start, end in segments])
    of_token_T = np.clip(np.searchsorted(bounds, tokens_T2[:, 0], "right") - 1, 0, len(segments) - 1)
    if is_shown.any():
        shown = np.flatnonzero(is_shown)
        of_token_T = shown[np.minimum(np.searchsorted(shown, of_token_T), len(shown) - 1)]
    used, part_T = np.unique(of_token_T, return_inverse=True)
    return [segments[i] for i in used.tolist()], part_T


def _splits_grapheme(text: str, place: int) -> bool:
    """Whether a cut before this character would divide what a reader sees as one (an approximation of Unicode's UAX 29)."""
    if not 0 < place < len(text):
        return False
    before, after = text[place - 1], text[place]
    if unicodedata.category(after) in ("Mn", "Mc", "Me") or after == _JOINER or after in _CONTINUING:
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff" or 0xE0020 <= ord(after) <= 0xE007F:  # skin tones, letters of flags
        return True
    if before == _JOINER or before in _VIRAMAS or (before == "\r" and after == "\n"):
        return True
    if not _is_regional(after):
        return False
    n_before = 0
    while n_before < place and _is_regional(text[place - 1 - n_before]):
        n_before += 1
    return n_before % 2 == 1  # two of them are a flag


def _is_regional(character: str) -> bool:
    return "\U0001f1e6" <= character <= "\U0001f1ff"
