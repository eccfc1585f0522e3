"""Texts cut into what gets a value: words as the tokenizer's pieces merge, which no cut through a character's parts divides."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np

from skxlmr.utils._shown.graphemes import is_boundary
from skxlmr.utils._words import trim

Span = tuple[int, int]  # first character, and the one after the last


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
        is_cut[place] = is_boundary(text, place)
    is_cut[[0, -1]] = True
    for start, end in tokens_T2.tolist():
        is_cut[start + 1 : end] = False
    bounds = np.flatnonzero(is_cut)
    segments = [trim(text, start, end) for start, end in pairwise(bounds.tolist())]
    if not segments:  # an empty text may still have a token
        segments = [(0, 0)]
    is_shown = np.array([start < end for start, end in segments])
    of_token_T = np.clip(np.searchsorted(bounds, tokens_T2[:, 0], "right") - 1, 0, len(segments) - 1)
    if is_shown.any():
        shown = np.flatnonzero(is_shown)
        of_token_T = shown[np.minimum(np.searchsorted(shown, of_token_T), len(shown) - 1)]
    used, part_T = np.unique(of_token_T, return_inverse=True)
    return [segments[i] for i in used.tolist()], part_T
