import random
import re

import pytest

from skxlmr.utils._shown.marks import Mark, check_colors, color_of, marked_text, visible

LABEL = re.compile(r'<span class="skxlmr-label" dir="auto">.*?</span>')


def text_of(html):
    """What is left without tags and labels."""
    return re.sub(r"<[^>]*>", "", LABEL.sub("", html))


def marked_parts(html):
    """(label, text) of each part, in the order in which the parts end."""
    found, starts, text = [], [], ""
    for tag, label, plain in re.findall(
        r'(<mark[^>]*>|</mark>)|<span class="skxlmr-label" dir="auto">(.*?)</span>|([^<]+)', html
    ):
        if tag.startswith("<mark"):
            starts.append(len(text))
        elif label:
            found.append((label, text[starts[-1] :]))
        elif tag:
            starts.pop()
        text += plain
    assert not starts
    return found


def test_parts_stand_in_their_marks():
    html = marked_text("Anna lives in Rome", [Mark(14, 18, "LOC"), Mark(0, 4, "PER")])
    assert marked_parts(html[html.index(">") + 1 :]) == [("PER", "Anna"), ("LOC", "Rome")]
    assert text_of(html) == "Anna lives in Rome"


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([(0, 8), (2, 4)], [("1", "cd"), ("0", "abcdefgh")]),  # nested
        ([(2, 4), (2, 4)], [("1", "cd"), ("0", "cd")]),  # the same part
        ([(2, 6), (4, 8)], [("1 \u2026", "ef"), ("0", "cdef"), ("\u2026 1", "gh")]),  # crossing
        ([(0, 2), (2, 4)], [("0", "ab"), ("1", "cd")]),  # touching
    ],
)
def test_nested_and_overlapping_marks(spans, expected):
    html = marked_text("abcdefghij", [Mark(*span, str(i)) for i, span in enumerate(spans)])
    assert marked_parts(html[html.index(">") + 1 :]) == expected
    assert text_of(html) == "abcdefghij"


def test_any_marks_leave_the_text_as_it_is_and_tags_in_order():
    rng = random.Random(0)
    text = "The black cat \u05d9\u05e9\u05df\u05b0 \U0001f44d\U0001f3fd ends."
    for _ in range(300):
        spans = [sorted(rng.sample(range(len(text) + 1), 2)) for _ in range(rng.randint(0, 6))]
        html = marked_text(text, [Mark(*span, str(i)) for i, span in enumerate(spans)])
        assert text_of(html) == text
        parts = marked_parts(html[html.index(">") + 1 :])
        for i, (start, end) in enumerate(spans):
            shown = "".join(part for label, part in parts if label.strip(" \u2026") == str(i))
            assert text[start:end] in shown and len(shown) <= end - start + 2  # at most to whole graphemes


def test_a_mark_that_is_widened_says_so():
    html = marked_text("Cafe\u0301", [Mark(0, 4, "ORG", "found")])
    assert 'title="found; drawn around whole letters, characters 0 to 5"' in html
    assert "drawn" not in marked_text("Cafe\u0301", [Mark(0, 5, "ORG", "found")])


def test_texts_are_never_html():
    evil = "</div><script>alert('1')</script>&amp;\"\x00\ud800"
    html = marked_text(evil, [Mark(0, 6, evil, evil)])
    assert "<script" not in html and html.count("</div>") == 1
    assert "\x00" not in html and "\u2400" in html
    html.encode()
    assert visible("a\tb\nc\x1b\x7f\x85") == "a\tb\nc\u241b\u2421\ufffd"


def test_direction_of_a_text():
    assert 'dir="rtl"' in marked_text("\u05d0\u05e0\u05d4", [])
    assert 'dir="ltr"' in marked_text("Anna", [])


@pytest.mark.parametrize(
    ("text", "start", "end", "runs"),
    [
        ("Anna \u05d0\u05e0\u05d4", 0, 4, ""),
        ("Anna \u05d0\u05e0\u05d4", 5, 8, "rtl"),
        ("Anna \u05d0\u05e0\u05d4 12", 9, 11, "rtl"),
        ("12 Anna", 0, 2, ""),
        ("\u05d0\u05e0\u05d4 Anna", 0, 3, ""),
        ("\u05d0\u05e0\u05d4 Anna", 4, 8, "ltr"),
    ],
)
def test_marks_say_where_they_run_against_the_text(text, start, end, runs):
    html = marked_text(text, [Mark(start, end, "A", state="right")])
    assert f'<mark class="{f"right {runs}".strip()}"' in html


def test_far_from_marks_the_text_is_folded():
    text = "x" * 500 + " KEY " + "y" * 30 + " KEY " + "z" * 300
    html = marked_text(text, [Mark(501, 504, "A"), Mark(536, 539, "A")], context=20)
    assert [int(n) for n in re.findall(r"(\d+) characters", html)] == [481, 281]
    assert text_of(html).count("x") == 19 and text_of(html).count("y") == 30
    assert "characters" not in marked_text(text, [], context=None)
    assert "characters" not in marked_text("short", [], context=20)
    assert re.findall(r"(\d+) characters", marked_text("x" * 500, [], context=20)) == ["460"]


def test_folds_do_not_split_graphemes():
    html = marked_text("e\u0301" * 200 + "KEY", [Mark(400, 403, "A")], context=21)
    shown = text_of(html).partition("]")[2]
    assert shown == "e\u0301" * 11 + "KEY"  # 21 characters, and the half of a letter


def test_colors_belong_to_labels():
    assert color_of("PER") == color_of("per") != color_of("LOC")
    assert color_of("anything") == color_of("anything", {"PER": "red"})
    assert color_of("PER", {"PER": "red"}) == "red"
    assert "background:red" in marked_text("ab", [Mark(0, 1, "PER")], {"PER": "red"})


@pytest.mark.parametrize("color", ["red;x", 'red"', "#12", "url(x)", 3, ""])
def test_what_is_no_color_is_refused(color):
    with pytest.raises(ValueError, match=r"colors\['PER'\] must be"):
        check_colors({"PER": color})
    check_colors({"PER": "#ff0000", "LOC": "teal"})
