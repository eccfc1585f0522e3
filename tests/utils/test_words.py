"""How texts are cut into words, and what of a part of a text can be seen."""

import pytest

from skxlmr.utils._words import cut_words, trim


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't go, 3.5 km!", ["Don", "'", "t", "go", ",", "3", ".", "5", "km", "!"]),
        ("naïve cafe\u0301 Ελλάδα Москва2", ["naïve", "cafe\u0301", "Ελλάδα", "Москва2"]),
        ("हिन्दी में நான்", ["हिन्दी", "में", "நான்"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("我在Berlin工作。", ["我", "在", "Berlin", "工", "作", "。"]),
        ("カタカナ ﾊﾝ", ["カ", "タ", "カ", "ナ", "ﾊ", "ﾝ"]),
        ("ที่นี่ abc", ["ที่", "นี่", "abc"]),
        ("한국어 말", ["한국어", "말"]),
        ("a_b\tc\nd\u00a0e", ["a", "_", "b", "c", "d", "e"]),
        ("👍🏽 \U00020000\U00020001", ["👍", "🏽", "\U00020000", "\U00020001"]),
        (" \u0301a", ["\u0301a"]),
        ("  ", []),
        # the zero-width space is a space
        ("a\u200bb", ["a", "b"]),
        ("ក្រុង\u200bភ្នំ", ["ក្", "រុ", "ង", "ភ្", "នំ"]),
        # other characters that show nothing may stand inside a word, not at its ends
        ("\ufeffAnna \u2067Lee\u2069", ["Anna", "Lee"]),
        ("\u200fשלום\u200f, \u200eAnna\u200e\u200e", ["שלום", ",", "Anna"]),
        ("An\u00adna\u00ad x\u2060y\u2060", ["An\u00adna", "x\u2060y"]),
        ("അവന്\u200d می\u200c", ["അവന്", "می"]),
        ("\u200d \u200c\u2060", []),
        ("\u200d\u0301a", ["\u0301a"]),
        ("👩\u200d💻", ["👩", "💻"]),
        # these are format characters that can be seen
        ("\u0601١٢", ["\u0601١٢"]),
        ("🏴\U000e0067\U000e0062\U000e007f", ["🏴\U000e0067\U000e0062\U000e007f"]),
    ],
)
def test_words_of_texts(text, words):
    places = cut_words(text)
    assert [text[start:end] for start, end in places] == words


@pytest.mark.parametrize(
    ("text", "part", "seen"),
    [
        ("Anna Lee", (0, 8), (0, 8)),
        ("\u200f Anna\u200b\n", (0, 8), (2, 6)),
        (" \u00ad ", (0, 3), (0, 0)),
        ("❤\ufe0f x", (0, 1), (0, 2)),
        ("葛\U000e0100城", (0, 1), (0, 2)),
        ("ab", (1, 1), (1, 1)),
    ],
)
def test_what_can_be_seen_of_a_part(text, part, seen):
    assert trim(text, *part) == seen
