"""The page in a browser: hover, keyboard, search, legend, narrow and wide, light and dark."""

import numpy as np
import pytest

from skxlmr.inspection import EmbeddingDisplay
from tests.browser import chromium, needs_chromium, opened

pytestmark = needs_chromium
ARABIC = "كان الفندق نظيفًا وهادئًا"
TEXTS = ["a clean room", "ein sauberes Zimmer", ARABIC, "ห้องพักสะอาดมาก", "a <b>loud</b> street", "eine laute Straße"]
LABELS, GROUPS = ["good", "good", "good", "good", "bad", "bad"], ["en", "de", "ar", "th", "en", "de"]
# from left to right, alternately low and high
POINTS = np.array([[0, 0], [1, 1], [2, 0], [3, 1], [4, 0], [5, 1]], float)


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    file = tmp_path_factory.mktemp("map") / "map.html"
    EmbeddingDisplay(POINTS, labels=LABELS, groups=GROUPS, texts=TEXTS, label_name="opinion").to_html(file)
    return file.as_uri()


def bright(page):
    """Numbers of the points that are not dimmed."""
    return page.evaluate("[...document.querySelectorAll('.p')].flatMap((p, k) => p.matches('.dim') ? [] : [k])")


def test_hover_and_legend(browser, address):
    with opened(address, browser=browser) as page:
        points, tip = page.locator(".p"), page.locator(".tip")
        assert points.count() == 6 and tip.is_hidden()
        points.nth(4).hover()
        assert tip.locator("div").inner_text() == "a <b>loud</b> street"
        assert tip.locator("small").inner_text() == "opinion: bad · group: en"
        assert tip.locator("div").evaluate("each => getComputedStyle(each).direction") == "ltr"
        points.nth(2).hover()
        assert tip.locator("div").inner_text() == ARABIC
        assert tip.locator("div").evaluate("each => getComputedStyle(each).direction") == "rtl"
        page.mouse.move(2, 2)
        assert tip.is_hidden()
        page.get_by_role("button", name="good").click()
        assert bright(page) == [0, 1, 2, 3]
        page.get_by_role("button", name="en", exact=True).click()
        assert bright(page) == [0] and page.locator("output").inner_text() == "1 of 6 points"
        page.get_by_role("button", name="good").click()
        page.get_by_role("button", name="de", exact=True).click()
        assert bright(page) == [0, 1, 4, 5]


def test_search(browser, address):
    with opened(address, browser=browser) as page:
        page.get_by_label("Search").fill("LAUTE")
        assert bright(page) == [5]
        page.get_by_label("Search").fill("")
        assert bright(page) == list(range(6)) and page.locator("output").inner_text() == "6 points"


def test_keyboard(browser, address):
    with opened(address, browser=browser) as page:
        tip = page.locator(".tip div")
        page.get_by_label("Search").focus()
        page.keyboard.press("Tab")
        assert tip.inner_text() == TEXTS[0]
        read = []
        for key in ("ArrowUp", "ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
            page.keyboard.press(key)
            read.append(TEXTS.index(tip.inner_text()))
        assert read == [1, 3, 5, 4, 2]
        assert (
            page.evaluate("document.activeElement.getAttribute('aria-label')") == f"{ARABIC}, opinion: good, group: ar"
        )
        page.keyboard.press("Escape")
        assert page.locator(".tip").is_hidden()
        page.keyboard.press("Tab")  # one stop for all points
        assert page.evaluate("document.activeElement.tagName") == "BUTTON"
        page.keyboard.press("Enter")
        assert page.locator("button[aria-pressed=true]").count() == 1


@pytest.mark.parametrize("width", [400, 1600])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_widths_and_screens(browser, address, width, scheme):
    with opened(address, width=width, browser=browser, color_scheme=scheme) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator(".p path").nth(0).bounding_box()
        assert 6 <= box["width"] <= 14  # points don't shrink with the map
        for k in range(6):
            page.locator(".p").nth(k).hover()
            tip = page.locator(".tip").bounding_box()
            assert tip["x"] >= 0 and tip["x"] + tip["width"] <= width and tip["y"] >= 0
        background, color = page.evaluate(
            "[getComputedStyle(document.querySelector('.tip')).backgroundColor, "
            "getComputedStyle(document.querySelector('.tip')).color]"
        )
        lightness = [int(each.strip("rgb()").split(",")[0]) for each in (background, color)]
        assert (
            (lightness[0] > 200 and lightness[1] < 60)
            if scheme == "light"
            else (lightness[0] < 60 and lightness[1] > 200)
        )


def test_in_a_notebook_it_is_a_frame(browser, tmp_path):
    shown = EmbeddingDisplay(POINTS, texts=TEXTS)._repr_html_()
    (tmp_path / "cell.html").write_text(f"<meta charset=utf-8>{shown}", encoding="utf-8")
    with opened((tmp_path / "cell.html").as_uri(), browser=browser) as page:
        frame = page.frame_locator("iframe")
        frame.locator(".p").nth(2).hover()
        assert frame.locator(".tip").inner_text() == ARABIC
