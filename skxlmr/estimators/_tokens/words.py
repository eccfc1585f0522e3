"""Texts cut into words: runs of letters, marks and digits, or single other characters.

In scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Myanmar, ...), each character with its marks
is a word.
"""

import unicodedata
from bisect import bisect_right
from functools import cache

# First and last code points of letters of unspaced scripts, ascending.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x1950, 0x19DF),  # Tai Le, New Tai Lue
    (0x1A20, 0x1AAF),  # Tai Tham
    (0x2E80, 0x2FDF),  # radicals
    (0x3005, 0x3007),  # iteration mark, closing mark, zero
    (0x3021, 0x30FF),  # Hangzhou numerals, Hiragana, Katakana
    (0x31F0, 0x31FF),  # Katakana extensions
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),  # half-width Katakana
    (0x1B000, 0x1B16F),  # Kana supplements
    (0x20000, 0x3FFFF),  # Han extensions
)
_UNSPACED_FIRST = [first for first, _ in _UNSPACED]


def cut_words(text: str) -> list[tuple[int, int]]:
    """Where each word of the text begins and ends, in characters."""
    words: list[tuple[int, int]] = []
    kind_before, end = "space", -1
    for i, character in enumerate(text):
        kind = _kind(character)
        if kind == "space":
            continue
        continues = end == i and (kind == "mark" or (kind == "letter" and kind_before == "letter"))
        if continues:
            words[-1] = (words[-1][0], i + 1)
        else:
            words.append((i, i + 1))
        end = i + 1
        if not (kind == "mark" and continues):
            kind_before = "letter" if kind == "mark" else kind
    return words


@cache
def _kind(character: str) -> str:
    if character.isspace():
        return "space"
    category = unicodedata.category(character)
    if category[0] == "M" or category == "Cf":  # marks and joiners stay with what precedes them
        return "mark"
    if category[0] not in "LN":
        return "single"
    place = bisect_right(_UNSPACED_FIRST, ord(character)) - 1
    return "single" if place >= 0 and ord(character) <= _UNSPACED[place][1] else "letter"
