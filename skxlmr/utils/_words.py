"""Texts cut into words: runs of letters, marks and digits, or single other characters.

In scripts that put no spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Myanmar, ...), each character with its marks
is a word.

Format characters, which show nothing themselves (joiners, directional marks, soft hyphens, the byte order mark), may stand
inside a word, but no word begins or ends with one. The zero-width space separates words as a space does.
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


_ZERO_WIDTH_SPACE = "\u200b"
_VISIBLE_FORMATS = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\U000110bd\U000110cd")


def cut_words(text: str) -> list[tuple[int, int]]:
    """Where each word of the text begins and ends, in characters."""
    words: list[tuple[int, int]] = []
    kind_before, reach = "space", -1  # as far as the last word can go on
    for i, character in enumerate(text):
        kind = _kind(character)
        if kind == "space":
            continue
        touches = reach == i
        if kind == "format":
            reach += touches
            continue
        continues = touches and (kind == "mark" or (kind == "letter" and kind_before == "letter"))
        if continues:
            words[-1] = (words[-1][0], i + 1)
        else:
            words.append((i, i + 1))
        reach = i + 1
        if not (kind == "mark" and continues):
            kind_before = "letter" if kind == "mark" else kind
    return words


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """The same part of the text without white space and format characters at its ends, which may leave nothing of it.

    A variation selector after the part belongs to its last character.
    """
    while start < end and _kind(text[end - 1]) in ("space", "format"):
        end -= 1
    while start < end and _kind(text[start]) in ("space", "format"):
        start += 1
    while start < end < len(text) and _is_variation_selector(text[end]):
        end += 1
    return start, end


def separates_words(character: str) -> bool:
    """Whether words end at this character: white space or the zero-width space."""
    return character.isspace() or character == _ZERO_WIDTH_SPACE


def is_unspaced(character: str) -> bool:
    """Whether it is a letter of a script that puts no spaces between words."""
    place = bisect_right(_UNSPACED_FIRST, ord(character)) - 1
    return place >= 0 and ord(character) <= _UNSPACED[place][1]


@cache
def _kind(character: str) -> str:
    if separates_words(character):
        return "space"
    category = unicodedata.category(character)
    if category == "Cf" and not 0xE0020 <= ord(character) <= 0xE007F:  # those are the letters of flags
        return "letter" if character in _VISIBLE_FORMATS else "format"
    if category in ("Mn", "Mc", "Me", "Cf"):  # they stay with what precedes them
        return "mark"
    if category[0] not in "LN":
        return "single"
    return "single" if is_unspaced(character) else "letter"


def _is_variation_selector(character: str) -> bool:
    return "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
