"""Contributions as coloured text and as bars."""

import re

import numpy as np
import pytest

from skxlmr import XLMRobertaClassifier
from skxlmr.inspection import TokenAttribution, TokenAttributionDisplay, attributions
from tests.browser import needs_chromium, shown
from tests.contract import TEXTS

ENGLISH = ("Great <b>film</b>, but long & slow.", [(0, 5), (6, 17), (23, 27), (30, 34)], [1.5, 0.75, -0.5, -3.0])
ARABIC = ("فيلم جيد جدا", [(0, 4), (5, 8), (9, 12)], [0.1, 2.0, -1.0])
THAI = ("หนังดีมาก", [(0, 4), (4, 6), (6, 9)], [0.5, 1.0, 0.0])


@pytest.fixture
def display():
    texts, spans, values = zip(ENGLISH, ARABIC, THAI, strict=True)
    return TokenAttributionDisplay.from_values(texts, spans, values, targets=["bad", "جيد", None], method="shapley")


def test_words_have_sign_strength_and_value(display):
    html = display._repr_html_()
    found = re.findall(r'<span class="w (\w+)" style="--a:([\d.]+)" title="([^"]+)">([^<]*)</span>', html)
    signs = [(kind, title, word) for kind, _, title, word in found]
    assert signs[:4] == [
        ("up", "+1.5", "Great"),
        ("up", "+0.75", "&lt;b&gt;film&lt;/b&gt;"),
        ("down", "−0.5", "long"),
        ("down", "−3", "slow"),
    ]
    strengths = [float(strength) for _, strength, _, _ in found[:4]]
    assert strengths[3] == max(strengths) and strengths[2] == min(strengths)
    assert ("zero", "+0", "มาก") in signs


def test_texts_are_whole_and_escaped(display):
    html = display.to_html()
    for (text, _, _), block in zip(
        (ENGLISH, ARABIC, THAI), re.findall(r'<p class="text"[^>]*>(.*?)</p>', html), strict=True
    ):
        plain = re.sub(r"<[^>]+>", "", block).replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
        assert plain == text
    assert "<b>film" not in html
    assert re.findall(r'<p class="text" dir="(\w+)"', html) == ["ltr", "rtl", "ltr"]


def test_readers_of_the_screen_are_told(display):
    assert "Raises it: Great +1.5" in display.to_html() and "Lowers it: " in display.to_html()
    assert 'aria-label="Text 2 of 3"' in display.to_html()


def test_two_texts_what_is_explained_and_what_was_cut():
    row = TokenAttribution(
        ("Who?", "Anna sings"),
        ((0, 0, 3), (1, 0, 4), (1, 5, 10)),
        [1.0, 2.0, -0.5],
        "occlusion",
        "Anna",
        3.0,
        0.0,
        ("question", "context"),
        (1, 0, 4),
        7,
    )
    html = row._repr_html_()
    assert html.index("question") < html.index("context")
    assert '<span class="w up about" style="--a:0.60" title="+2">Anna</span>' in html and html.count(" about") == 1
    assert "7 tokens at the end were cut and have no value" in html
    assert "<b><bdi>Anna</bdi></b> 3 (0 with all words masked)" in html


def test_from_estimator_computes_what_attributions_does(fitted):
    classifier = fitted(XLMRobertaClassifier)
    display = TokenAttributionDisplay.from_estimator(classifier, TEXTS, "occlusion", target=1)
    for ours, row in zip(display.attributions, attributions(classifier, TEXTS, "occlusion", target=1), strict=True):
        np.testing.assert_array_equal(ours.values, row.values)
    assert repr(display) == "TokenAttributionDisplay(6 texts)" and not hasattr(display, "ax_")


def test_what_does_not_fit_is_named():
    with pytest.raises(ValueError, match="spans has 1 rows for 2 texts"):
        TokenAttributionDisplay.from_values(["a", "b"], [[(0, 1)]], [[1], [1]])
    with pytest.raises(ValueError, match="row 1: there are 1 words"):
        TokenAttributionDisplay.from_values(["a", "b"], [[(0, 1)], [(0, 1)]], [[1], [1, 2]])
    with pytest.raises(ValueError, match="words overlap at character 1 of 'abc'"):
        TokenAttributionDisplay.from_values(["abc"], [[(0, 2), (1, 3)]], [[1, 2]]).to_html()
    with pytest.raises(TypeError, match=r"row 0: the span \(0, 0.5, 2\): each value must be a whole number, found 0.5"):
        TokenAttributionDisplay.from_values(["abc"], [[(0.5, 2)]], [[1]])
    with pytest.raises(ValueError, match="row 1: texts: expected a text, got None"):
        TokenAttributionDisplay.from_values(["abc", None], [[(0, 1)], [(0, 1)]], [[1], [1]])


def test_spans_may_be_floats_that_are_whole():
    (row,) = TokenAttributionDisplay.from_values(["abc de"], [[(0.0, 3.0)]], [[1]]).attributions
    assert row.spans == ((0, 0, 3),) and row.words == ("abc",)


@pytest.fixture
def pyplot():
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as pyplot

    yield pyplot
    pyplot.close("all")


def test_bars_stand_in_the_order_of_the_text(display, pyplot):
    _, ax = pyplot.subplots()
    assert display.plot(ax) is display and display.ax_ is ax and display.figure_ is ax.figure
    assert [bar.get_width() for bar in display.bars_] == ENGLISH[2]
    assert ax.get_yticklabels()[0].get_text() == "Great"
    assert [bar.get_hatch() is not None for bar in display.bars_] == [False, False, True, True]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first on top
    assert ax.get_title() == "bad" and "Shapley values" in ax.get_xlabel()


def test_of_long_texts_the_strongest_words_are_drawn(display, pyplot):
    display.plot(n_words=2)
    assert [bar.get_width() for bar in display.bars_] == [-3.0, 1.5]
    display.plot(row=1)
    assert [label.get_text() for label in display.ax_.get_yticklabels()] == ["فيلم", "جيد", "جدا"]
    with pytest.raises(IndexError, match="row must be one of the 3 rows"):
        display.plot(row=3)
    with pytest.raises(ValueError, match="n_words must be 1 or more, got -1"):
        display.plot(n_words=-1)


@needs_chromium
@pytest.mark.parametrize(("scheme", "width"), [("light", 1600), ("dark", 400)])
def test_in_a_browser(display, tmp_path, scheme, width):
    with shown(display.to_html(), tmp_path, width=width, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        words = page.locator(".skxlmr-attr .text .w")
        assert words.count() == 10
        arabic = page.locator('[dir="rtl"] .w')
        boxes = [arabic.nth(i).bounding_box()["x"] for i in range(3)]
        assert boxes == sorted(boxes, reverse=True)  # from right to left
        styles = "el => [getComputedStyle(el).borderBottomStyle, getComputedStyle(el).backgroundColor]"
        (up, orange), (down, blue) = (page.locator(f".text .{kind}").first.evaluate(styles) for kind in ("up", "down"))
        assert (up, down) == ("solid", "dashed") and orange != blue
        page.locator("summary").first.focus()
        page.keyboard.press("Enter")
        assert page.locator("details[open] td.n").first.inner_text() == "−3"


def test_a_long_word_and_a_long_target_leave_room_for_the_bars(pyplot):
    """Matplotlib warns where they do not, and warnings are errors."""
    word, target = "x" * 200, "a target whose name is a whole sentence " * 4
    display = TokenAttributionDisplay.from_values([word], [[(0, 200)]], [[1.0]], targets=[target]).plot()
    display.figure_.canvas.draw()
    title = display.ax_.title.get_window_extent()
    assert title.x0 >= 0 and title.x1 <= display.figure_.bbox.width
    assert display.ax_.bbox.width > 0.3 * display.figure_.bbox.width
    assert display.ax_.get_yticklabels()[0].get_text() == "x" * 15 + "…" + "x" * 15


def test_letters_without_a_font_and_dollars_are_drawn_without_a_warning(pyplot):
    text = "\U0001f469\u200d\U0001f467 $a$ 这"
    display = TokenAttributionDisplay.from_values(
        [text], [[(0, 3), (4, 7), (8, 9)]], [[1.0, 2.0, -1.0]], targets=["$x$"]
    )
    display.plot().figure_.canvas.draw()
    assert display.ax_.get_yticklabels()[1].get_text() == r"\$a\$" and display.ax_.get_title() == r"\$x\$"
