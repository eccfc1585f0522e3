import random

import pytest

from skxlmr.utils._shown.graphemes import is_boundary, whole_graphemes

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        ("Cafe\u0301s", (0, 4), (0, 5)),  # an accent of its own
        ("Cafe\u0301s", (5, 6), (5, 6)),
        (f"a{FAMILY}b", (2, 3), (1, 6)),
        ("\U0001f1e9\U0001f1ea\U0001f1eb\U0001f1f7", (1, 2), (0, 2)),  # the second half of the first of two flags
        ("\U0001f44d\U0001f3fd!", (0, 1), (0, 2)),
        ("\u0e01\u0e33", (0, 1), (0, 2)),  # Thai
        ("\u0e01\u0e31\u0e48", (1, 2), (0, 3)),
        ("\u0915\u094d\u0937", (2, 3), (0, 3)),  # a conjunct of Devanagari
        ("\u05e9\u05c1\u05dc", (0, 1), (0, 2)),  # a Hebrew letter with its point
        ("\u0644\u0651\u0627", (1, 2), (0, 2)),
        ("\u1112\u1161\u11ab", (0, 1), (0, 3)),  # Hangul in parts
        ("\ud55c\uae00", (0, 1), (0, 1)),
        ("a\r\nb", (2, 3), (1, 3)),
        ("plain", (1, 3), (1, 3)),
        ("\u5317\u4eac", (0, 1), (0, 1)),
        ("a\ud83d\ude00", (2, 3), (2, 3)),  # halves of a surrogate pair are characters in Python
        ("", (0, 0), (0, 0)),
    ],
)
def test_parts_are_widened_to_whole_graphemes(text, span, expected):
    assert whole_graphemes(text, *span) == expected


def graphemes(regex, text):
    bounds = [0]
    for part in regex.findall(r"\X", text):
        bounds.append(bounds[-1] + len(part))
    return set(bounds)


def test_no_boundary_lies_inside_a_grapheme_of_unicode():
    regex = pytest.importorskip("regex")
    letters = (
        "ab \r\n1\u0301\u05d0\u05b0\u0627\u064b\u0600\u0915\u0937\u094d\u093f\u0903\u0d15\u0d4d\u0e01\u0e33\u0e31\u0e40"
        "\u1100\u1161\u11a8\uac00\uac01\u200b\u200c\u200d\U0001f468\U0001f3fd\u2764\ufe0f\U0001f1e6\U0001f1e7\U000e0067"
        "\U0001f3f4\u4e2d\u304b\u3099\uff9e\u2028\ufeff\u0bcd\u0b95\u1039\u1000\u00ad\u20e3\u231a"
    )
    rng = random.Random(0)
    for _ in range(4000):
        text = "".join(rng.choices(letters, k=rng.randint(2, 7)))
        own = {i for i in range(len(text) + 1) if is_boundary(text, i)}
        assert own <= graphemes(regex, text), ascii(text)


@pytest.mark.parametrize(
    "text",
    [
        "Die Stadt Köln, 25 °C",
        "हिन्दी में संस्कृत और क्षेत्र",
        "அம்மா மக்கள்",
        "ภาษาไทยน้ำ",
        "שָׁלוֹם עולם",
        "السَّلامُ عليكم",
        "한국어 문장",
        "日本語の文。",
        f"{FAMILY} \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd!",
        "Việt Nam",
    ],
)
def test_graphemes_of_words_are_those_of_unicode(text):
    regex = pytest.importorskip("regex")
    assert {i for i in range(len(text) + 1) if is_boundary(text, i)} == graphemes(regex, text)
