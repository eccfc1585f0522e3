"""The page in a browser: what it shows are the numbers of the display, by mouse and by keyboard, on small and large screens."""

import re
from functools import partial

import numpy as np
import pytest

from skxlmr import XLMRobertaVectorizer
from skxlmr.inspection import AttentionDisplay
from tests.browser import chromium, needs_chromium
from tests.browser import shown as shown_in
from tests.inspection.attention.test_measures import drawn_weights

pytestmark = needs_chromium

QUANTISED = 0.004  # what eight bits may change of a weight
ENGLISH = "The battery lasts two days, and the screen is bright."
ARABIC = "تدوم البطارية يومين والشاشة ساطعة"
THAI = "แบตเตอรี่ใช้งานได้สองวัน"


@pytest.fixture(scope="module")
def shown():
    """Shows a page; all in one browser."""
    with chromium() as browser:
        yield partial(shown_in, browser=browser)


@pytest.fixture(scope="module")
def display():
    return AttentionDisplay.from_estimator(XLMRobertaVectorizer("skxlmr-mini"), [[ENGLISH, ARABIC], [THAI, ENGLISH]])


@pytest.fixture(scope="module")
def texts():
    return AttentionDisplay.from_estimator(XLMRobertaVectorizer("skxlmr-mini"), [ARABIC, THAI, ENGLISH])


def shown_weights(page, side, panel=0):
    """The numbers behind the shading of a side; nan where the page has none (hidden or not active)."""
    tokens = page.locator(".panel").nth(panel).locator(f".side.{side} .token")
    return np.array(tokens.evaluate_all("all => all.map(one => parseFloat(one.dataset.weight ?? 'NaN'))"))


def labels(page, side, panel=0):
    return page.locator(".panel").nth(panel).locator(f".side.{side} .token bdi").all_inner_texts()


def token(page, side, place, panel=0):
    return page.locator(".panel").nth(panel).locator(f".side.{side} .token").nth(place)


def cell(page, layer, head):
    return page.locator(f"#grid td[data-layer='{layer}'][data-head='{head}']")


def assert_no_overflow(page):
    inner, outer = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert inner <= outer


def test_a_click_changes_the_layer_and_hovering_shows_the_numbers(display, shown, tmp_path):
    weights = display.attentions[0]
    with shown(display.to_html(), tmp_path, width=1600, height=900) as page:
        assert_no_overflow(page)
        assert [text.strip("·") for text in labels(page, "looks")] == display.tokens[0] == labels(page, "seen")
        token(page, "looks", 3).hover()
        np.testing.assert_allclose(shown_weights(page, "seen"), weights[-1, :, 3].mean(0), atol=QUANTISED)
        for layer, head in ((1, 2), (0, 5)):
            cell(page, layer, head).click()
            assert cell(page, layer, head).get_attribute("aria-selected") == "true"
            assert page.locator(".panel h2").inner_text() == f"Text 0, layer {layer}, head {head}"
            token(page, "looks", 5).hover()
            np.testing.assert_allclose(shown_weights(page, "seen"), weights[layer, head, 5], atol=QUANTISED)
            token(page, "seen", 7).hover()
            np.testing.assert_allclose(shown_weights(page, "looks"), weights[layer, head, :, 7], atol=QUANTISED)
            assert np.isnan(shown_weights(page, "seen")).all()
        # the five strongest by name, both ways
        best = np.argsort(-weights[0, 5, 7])[0]
        said = page.locator("#numbers p").all_inner_texts()
        assert said[0].replace("\u2068", "").startswith(f"{display.tokens[0][7]} looks at {display.tokens[0][best]}")
        assert " is looked at by " in said[1]
        value = float(page.locator("#numbers p").first.locator(".number").first.inner_text())
        assert value == pytest.approx(weights[0, 5, 7, best], abs=QUANTISED + 0.005)
        # the table's numbers are Python's
        for measure in ("special", "entropy", "distance", "other_text"):
            page.locator("#measure").select_option(measure)
            said = page.locator("#grid td").evaluate_all("all => all.map(one => one.title)")
            expected = display.measures()[measure]
            expected = np.concatenate([expected, expected.mean(1, keepdims=True)], axis=1)  # all heads
            found = [float(title.partition(": ")[2].partition(" ")[0]) for title in said]
            np.testing.assert_allclose(found, expected.ravel(), atol=0.006)
            about = page.locator("#about-head").inner_text()
            assert about.startswith(f"Layer 0, head 5: {expected[0, 5]:.2f} ")


def test_links_filters_and_what_stays_chosen(display, shown, tmp_path):
    weights, special = display.attentions[0], np.array(display.sequence_ids[0]) < 0
    with shown(display.to_html(), tmp_path, width=1000) as page:
        cell(page, 2, 1).click()
        token(page, "looks", 4).click()
        page.mouse.move(0, 0)
        assert token(page, "looks", 4).get_attribute("aria-pressed") == "true"
        paths = page.locator("svg.links path")

        def n_links(row):
            return int((row >= row.max() * float(page.locator("#threshold").input_value()) / 100).sum())

        for percent in ("0", "90", "25"):
            page.locator("#threshold").evaluate(f"e => {{ e.value = {percent}; e.dispatchEvent(new Event('input')); }}")
            assert abs(paths.count() - n_links(weights[2, 1, 4])) <= (0 if percent == "0" else 1)
        assert page.locator("#threshold-said").inner_text() == "25\xa0%"
        cell(page, 3, 0).click()  # the token stays chosen from head to head
        np.testing.assert_allclose(shown_weights(page, "seen"), weights[3, 0, 4], atol=QUANTISED)
        page.locator("#special").check()
        assert len(labels(page, "seen")) == (~special).sum() and "<s>" not in labels(page, "looks")
        assert page.locator(".token.active bdi").inner_text().strip("·") == display.tokens[0][4]
        np.testing.assert_allclose(shown_weights(page, "seen"), weights[3, 0, 4][~special], atol=QUANTISED)
        page.locator("#special").uncheck()
        assert page.locator(".token.special").count() == 2 * special.sum()


def test_words_of_a_translation_meet_in_both_directions(display, shown, tmp_path):
    words = np.array(display.word_ids[0])
    n_first = words[np.array(display.sequence_ids[0]) == 0].max() + 1
    between = display.between_words(0, 1, 3)
    expected = {
        "first": between[:n_first, n_first:],
        "second": between[n_first:, :n_first].T,
        "both": (between[:n_first, n_first:] + between[n_first:, :n_first].T) / 2,
    }
    with shown(display.to_html(), tmp_path, width=1000) as page:
        cell(page, 1, 3).click()
        assert not page.locator("#directions").is_visible()
        page.locator("input[value=words]").check()
        assert labels(page, "looks") == re.findall(r"\w+|[.,]", ENGLISH) and labels(page, "seen") == ARABIC.split()
        for direction, meets in expected.items():
            page.locator(f"input[value={direction}]").check()
            token(page, "looks", 1).hover()
            np.testing.assert_allclose(shown_weights(page, "seen"), meets[1], atol=3 * QUANTISED)  # of several tokens
            token(page, "seen", 2).hover()
            np.testing.assert_allclose(shown_weights(page, "looks"), meets[:, 2], atol=3 * QUANTISED)
        assert page.locator("#numbers").inner_text().startswith("يومين meets ")


def test_two_texts_side_by_side(texts, shown, tmp_path):
    with shown(texts.to_html(), tmp_path, width=1600, height=900) as page:
        assert page.locator(".pairs:visible").count() == 0
        page.locator("#beside").select_option("1")
        cell(page, 0, 4).click()
        assert page.locator(".panel h2").all_inner_texts() == [f"Text {i}, layer 0, head 4" for i in (0, 1)]
        left, right = (page.locator(".panel").nth(i).bounding_box() for i in (0, 1))
        assert left["x"] + left["width"] <= right["x"] and left["y"] == right["y"]
        for i in (0, 1):
            token(page, "looks", 2, panel=i).hover()
            np.testing.assert_allclose(
                shown_weights(page, "seen", panel=i), texts.attentions[i][0, 4, 2], atol=QUANTISED
            )
        # the Arabic text runs from right to left, and so do its links; the Thai one from left to right
        for i, (reading, from_right) in enumerate([("rtl", True), ("ltr", False)]):
            panel = page.locator(".panel").nth(i)
            assert panel.get_attribute("dir") == reading
            looks, seen = (panel.locator(f".side.{side}").bounding_box()["x"] for side in ("looks", "seen"))
            assert (looks > seen) == from_right
            assert panel.locator(".source").inner_text() == texts.sources[i][0]
        page.locator("#text").select_option("2")
        assert labels(page, "seen")[1] == "The"


def test_by_keyboard_on_a_small_dark_screen(display, shown, tmp_path):
    weights = display.attentions[1]
    above = len(weights) - 2  # the layer above the last row of the grid
    with shown(display.to_html(), tmp_path, width=400, height=800, color_scheme="dark") as page:
        assert_no_overflow(page)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"

        def press(*keys):
            for key in keys:
                page.keyboard.press(key)

        def focused():
            return page.evaluate(
                "document.activeElement.getAttribute('aria-label') ?? document.activeElement.innerText"
            )

        press("Tab")
        assert page.evaluate("document.activeElement.id") == "text"
        press("ArrowDown")  # the Thai text, whose pair has tokens enough for a small screen
        while page.evaluate("document.activeElement.getAttribute('role')") != "gridcell":
            press("Tab")
        press("Home", "ArrowUp", "ArrowRight")
        assert focused().startswith(f"layer {above}, head 1: ")
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        press("Tab", "ArrowDown", "ArrowDown", "ArrowDown")
        assert page.locator(".token:focus").get_attribute("title") == display.tokens[1][3]
        np.testing.assert_allclose(shown_weights(page, "seen"), weights[above, 1, 3], atol=QUANTISED)
        press("Enter", "ArrowRight", "End")
        assert page.locator(".side.seen .token:focus").get_attribute("title") == "</s>"
        np.testing.assert_allclose(shown_weights(page, "looks"), weights[above, 1, :, -1], atol=QUANTISED)
        press("Tab")  # away: the token that was pressed is shown again, until it is let go
        np.testing.assert_allclose(shown_weights(page, "seen"), weights[above, 1, 3], atol=QUANTISED)
        press("Shift+Tab", "Escape", "Tab")
        assert np.isnan(shown_weights(page, "seen")).all()
        page.locator("input[value=words]").check()
        page.locator("#beside").select_option("0")
        assert_no_overflow(page)
        # whatever can be operated has a name
        unnamed = (
            "e => !(e.labels?.length || e.getAttribute('aria-label') || (e.matches('button') && e.innerText.trim()))"
        )
        assert (
            page.locator("button, select, input, [role=gridcell]").evaluate_all(f"all => all.filter({unnamed}).length")
            == 0
        )


def test_hostile_and_odd_tokens_many_heads_and_one_text(shown, tmp_path):
    tokens = ["</script><script>alert(1)</script>", "<b>bold</b>", "&amp;", "W" * 200, "\u0e35", ""]
    display = AttentionDisplay.from_values(drawn_weights((12, 16, 6, 6)), tokens)
    for width in (400, 1600):
        with shown(display.to_html(), tmp_path, width=width) as page:
            assert_no_overflow(page)
            assert labels(page, "looks") == [*tokens[:4], "\u25cc\u0e35", ""]
            assert page.locator("b").count() == 0 and not page.locator("#text").is_visible()
            assert page.locator("#grid td").count() == 12 * 17


def test_a_frame_in_a_notebook(texts, shown, tmp_path):
    with shown(texts._repr_html_(), tmp_path) as page:
        frame = page.frame_locator("iframe")
        frame.locator("#grid td").first.click()
        assert frame.locator(".panel h2").inner_text() == "Text 0, layer 0, head 0"
