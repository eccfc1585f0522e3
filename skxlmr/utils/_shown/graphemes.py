"""What readers take for one character: a letter with its marks, an emoji with its skin tone, a flag, a syllable of Hangul.

The rules are those of Unicode's extended grapheme clusters (UAX 29), and coarser in a few rare places: no cluster is cut.
"""

import unicodedata
from functools import cache

_ZWJ = "\u200d"
_PREPENDED = frozenset("\u0600\u0601\u0602\u0603\u0604\u0605\u06dd\u070f\u0890\u0891\u08e2\u0d4e\U000110bd\U000110cd")
_JOINS_CONSONANTS = frozenset("\u094d\u09cd\u0acd\u0b4d\u0c4d\u0d4d\u1039\u17d2\u1a60\u1b44\U00011133\U0001193e")
# marks of other categories, halves of a vowel sign among them
_ALSO_EXTEND = frozenset("\u200c\u200d\u0e33\u0eb3\uff9e\uff9f")
_JAMO = (
    ("L", 0x1100, 0x115F),
    ("V", 0x1160, 0x11A7),
    ("T", 0x11A8, 0x11FF),
    ("L", 0xA960, 0xA97C),
    ("V", 0xD7B0, 0xD7C6),
    ("T", 0xD7CB, 0xD7FB),
)


def whole_graphemes(text: str, start: int, end: int) -> tuple[int, int]:
    """The same part of the text, widened to whole graphemes."""
    while not is_boundary(text, start):
        start -= 1
    while not is_boundary(text, end):
        end += 1
    return start, end


def is_boundary(text: str, i: int) -> bool:
    """Whether a grapheme ends before the character ``i`` and another begins there."""
    if i <= 0 or i >= len(text):
        return True
    before, after = text[i - 1], text[i]
    if before.isascii() and after.isascii():
        return (before, after) != ("\r", "\n")
    if _is_control(before) or _is_control(after):
        return True
    if _extends(after) or before in _PREPENDED:
        return False
    if _is_half_of_flag(after) and _is_half_of_flag(before):
        return _run(text, i) % 2 == 0
    if _continues_syllable(before, after):
        return False
    base = i - 1
    while base > 0 and _extends(text[base]):
        base -= 1
    between = text[base + 1 : i]
    if between.endswith(_ZWJ) and _is_picture(text[base]) and _is_picture(after):
        return False
    return _JOINS_CONSONANTS.isdisjoint(text[base:i]) or unicodedata.category(after) != "Lo"


@cache
def _is_control(character: str) -> bool:
    category = unicodedata.category(character)
    return category in ("Cc", "Zl", "Zp", "Cs") or (
        category == "Cf" and not _extends(character) and character not in _PREPENDED
    )


@cache
def _extends(character: str) -> bool:
    is_mark = unicodedata.category(character) in ("Mn", "Me", "Mc")
    is_part_of_emoji = 0x1F3FB <= ord(character) <= 0x1F3FF or 0xE0020 <= ord(character) <= 0xE007F
    return is_mark or is_part_of_emoji or character in _ALSO_EXTEND


def _is_half_of_flag(character: str) -> bool:
    return 0x1F1E6 <= ord(character) <= 0x1F1FF


def _run(text: str, end: int) -> int:
    """Halves of flags before ``end``."""
    start = end
    while start > 0 and _is_half_of_flag(text[start - 1]):
        start -= 1
    return end - start


def _is_picture(character: str) -> bool:
    return unicodedata.category(character) in ("So", "Sm", "Cn") or character in "\u203c\u2049\u3030\u303d"


def _continues_syllable(before: str, after: str) -> bool:
    """Whether both are parts of one syllable of Hangul."""
    first, second = _jamo(before), _jamo(after)
    return (first == "L" and second in ("L", "V", "LV", "LVT")) or (
        (first in ("LV", "V") and second in ("V", "T")) or (first in ("LVT", "T") and second == "T")
    )


def _jamo(character: str) -> str:
    """``L``, ``V``, ``T``, ``LV`` or ``LVT`` for leading consonant, vowel, trailing consonant and what is composed of them."""
    code = ord(character)
    if 0xAC00 <= code <= 0xD7A3:
        return "LV" if (code - 0xAC00) % 28 == 0 else "LVT"
    return next((name for name, low, high in _JAMO if low <= code <= high), "")
