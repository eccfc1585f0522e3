"""Labels of any script in pictures: fonts that have their letters, and no warning where none does."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from itertools import groupby
from operator import itemgetter

import numpy as np

from skxlmr.utils._shown.graphemes import whole_graphemes
from skxlmr.utils._shown.html import direction

MISSING = "\u25a1"  # in place of a letter that no font has
MOST_COLUMNS = 32  # of a label; longer ones would leave no room for the picture
MOST_COLUMNS_ALONG = 60  # of a label along an axis, or above a picture
MIRRORED = str.maketrans("()[]{}<>«»", ")(][}{><»«")
LAST_RESORT = "Last Resort"  # matplotlib's own, which has a box for every letter


def drawn(labels: Sequence[str], most_columns: int = MOST_COLUMNS) -> tuple[list[str], list[str]]:
    """Labels as matplotlib can draw them, and the fonts to draw them with.

    A letter that no font has which matplotlib knows becomes a white square. Dollar signs are no formulas. A label that is too
    long has dots in place of its middle, and a line break becomes a space.

    Parameters
    ----------
    labels : sequence of str
    most_columns : int
        Width of a label. Chinese, Japanese and Korean letters take two columns each.

    Returns
    -------
    labels : list of str
    families : list of str
        Names of fonts, the usual one first.
    """
    import matplotlib
    from matplotlib.font_manager import FontProperties, findfont

    labels = [shortened(label, most_columns) for label in labels]
    path = findfont(FontProperties())
    known, families = set(_letters_of(path)), [FontProperties(fname=path).get_name()]
    for character in sorted({character for label in labels for character in label}):
        if ord(character) not in known and (found := _font_of(character)) is not None:
            families.append(found[0])
            known |= _letters_of(found[1])
    release = [int(part) for part in matplotlib.__version__.split(".")[:2]]
    lays_out = release >= [3, 11]  # right-to-left scripts, with their letters joined
    return [_as_drawn(label, known, lays_out) for label in labels], families


def in_legend(label: str) -> str:
    """A label that legends show: matplotlib leaves out what begins with an underscore."""
    return f" {label}" if str(label).startswith("_") else label


def shortened(label: str, most_columns: int) -> str:
    """A label with dots in place of its middle if it is wider; no letter is cut from its marks."""
    label = "".join(" " if character.isspace() else character for character in label)
    ends = np.cumsum([_columns(character) for character in label])  # columns up to the end of each character
    if not len(ends) or ends[-1] <= most_columns:
        return label
    half = (most_columns - 1) // 2
    head, tail = int((ends <= half).sum()), int((ends < ends[-1] - half).sum()) + 1
    return label[: whole_graphemes(label, head, head)[0]] + "…" + label[whole_graphemes(label, tail, tail)[1] :]


def _columns(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "FW" else 1


def _as_drawn(label: str, known: set[int], lays_out: bool) -> str:
    seen = "".join(character if ord(character) in known else MISSING for character in label)
    if not lays_out:
        seen = _from_left_to_right(seen)
    return seen.replace("$", r"\$")


def _from_left_to_right(text: str) -> str:
    """Characters as they stand in a line: those of right-to-left scripts turned round, numbers and Latin words not."""
    kinds = [unicodedata.bidirectional(character) for character in text]
    is_right = [kind in ("R", "AL") for kind in kinds]
    if not any(is_right):
        return text
    base = direction(text) == "rtl"
    strong = [k for k, kind in enumerate(kinds) if kind in ("R", "AL", "L", "EN", "AN")]
    for k, kind in enumerate(kinds):
        if kind not in ("R", "AL", "L", "EN", "AN"):  # as the letters on both sides, where these agree
            before = next((is_right[j] for j in reversed(strong) if j < k), base)
            after = next((is_right[j] for j in strong if j > k), base)
            is_right[k] = before if before == after else base
    runs = []
    for right, run in groupby(zip(is_right, text, strict=True), key=itemgetter(0)):
        characters = "".join(character for _, character in run)
        runs.append(characters[::-1].translate(MIRRORED) if right else characters)
    return "".join(reversed(runs) if base else runs)


@cache
def _font_of(character: str) -> tuple[str, str] | None:
    """Name and file of a regular font that has the letter, one of its script and without serifs if there is one."""
    from matplotlib.font_manager import fontManager

    regular = {
        (font.name, font.fname)
        for font in fontManager.ttflist
        if font.style == "normal" and str(font.weight) in ("400", "normal") and LAST_RESORT not in font.name
    }
    script = unicodedata.name(character, "unknown").split()[0].title().replace("Cjk", "CJK")
    likely = sorted(regular, key=lambda font: (script not in font[0], "Sans" not in font[0], font))
    return next((font for font in likely if ord(character) in _letters_of(font[1])), None)


@cache
def _letters_of(path: str) -> set[int]:
    from matplotlib.font_manager import get_font

    return set(get_font(path).get_charmap())
