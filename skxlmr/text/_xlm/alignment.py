"""Find where the characters of a rewritten text come from, given only the text before and after."""

import unicodedata

import numpy as np
from numpy.typing import NDArray

FARTHEST = 24  # characters that a rewriting rule may replace at once
SURE = 3  # consecutive matching characters that end a replaced stretch


def align(original: str, rewritten: str) -> NDArray[np.int32]:
    """Return the place of each character of `rewritten` in `original`: shape (len(rewritten), 2).

    Both are compared without case, accents, width and white space. Where they differ (a quotation mark, an ellipsis, two
    swapped marks), every rewritten character lies on the whole original stretch.

    Parameters
    ----------
    original : str
        The text before.
    rewritten : str
        The text after.
    """
    a, a_places = _folded(original)
    b, b_places = _folded(rewritten)
    ends = _ends(original)
    places = np.zeros((len(rewritten), 2), np.int32)
    i = j = 0
    while j < len(b):
        if i < len(a) and a[i] == b[j]:
            step_a = step_b = 1
        else:
            step_a, step_b = _resynchronised(a[i : i + FARTHEST + SURE], b[j : j + FARTHEST + SURE])
        begin = a_places[i] if i < len(a) else len(original)
        end = ends[a_places[i + step_a - 1]] if step_a else begin
        for k in b_places[j : j + step_b]:
            known = places[k, 1] > places[k, 0]  # a character folded to several lies where all of them do
            places[k] = (min(begin, places[k, 0]) if known else begin, max(end, places[k, 1]) if known else end)
        i, j = i + step_a, j + step_b
    return places


def _folded(text: str) -> tuple[str, list[int]]:
    """Return `text` without what rewriting may change anywhere, and the place of each character that is left."""
    folded, places = [], []
    for i, character in enumerate(text):
        for part in unicodedata.normalize("NFKD", character.lower()):
            if not (part.isspace() or unicodedata.category(part)[0] in "MC"):
                folded.append(part)
                places.append(i)
    return "".join(folded), places


def _ends(text: str) -> list[int]:
    """Return where each character ends, including combining marks after it."""
    ends = list(range(1, len(text) + 1))
    for i in range(len(text) - 2, -1, -1):
        if unicodedata.category(text[i + 1])[0] == "M":
            ends[i] = ends[i + 1]
    return ends


def _resynchronised(a: str, b: str) -> tuple[int, int]:
    """Return how many characters of each to skip, as few as possible, before both match again; all if they never do."""
    for skipped in range(1, 2 * FARTHEST):
        for step_b in range(max(0, skipped - FARTHEST), min(skipped, FARTHEST) + 1):
            step_a = skipped - step_b
            if step_a > len(a) or step_b > len(b):
                continue
            if a[step_a : step_a + SURE] == b[step_b : step_b + SURE]:
                return step_a, step_b
    return min(len(a), FARTHEST), max(1, min(len(b), FARTHEST))
