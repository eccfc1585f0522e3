"""The built site: it is whole without a network, its search finds things, and it fits the screen.

A build takes a minute or more, so these tests look at one that is there:
``SKXLMR_SITE=build/docs python -m pytest tests/test_site.py``.
"""

import os
import re
from pathlib import Path

import pytest

import skxlmr
from skxlmr import datasets, inspection, metrics
from tests.browser import chromium, needs_chromium, opened

SITE = Path(os.environ.get("SKXLMR_SITE", ""))
pytestmark = pytest.mark.skipif(
    "SKXLMR_SITE" not in os.environ, reason="needs the built site: SKXLMR_SITE names its folder (docs/contributing.md)"
)
CLASS = "api/generated/skxlmr.XLMRobertaClassifier.html"
PAGES = ["index.html", "getting_started.html", "user_guide.html", "api/index.html", CLASS, "gallery/index.html"]
# Text that reaches over the right edge of the screen, unless something in the article scrolls to it.
OVER_THE_EDGE = """
() => {
    const found = [], range = document.createRange();
    const walker = document.createTreeWalker(document.querySelector("main"), NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
        range.selectNodeContents(walker.currentNode);
        if (range.getBoundingClientRect().right <= document.documentElement.clientWidth + 1) continue;
        let around = walker.currentNode.parentElement;
        if (around.getBoundingClientRect().width <= 2) continue;  // for screen readers only
        while (around && !["auto", "scroll"].includes(getComputedStyle(around).overflowX)) around = around.parentElement;
        if (!around?.closest(".bd-article")) found.push(walker.currentNode.textContent);
    }
    return found;
}
"""


@pytest.fixture(scope="module")
def browser():
    with chromium() as started:
        yield started


def at(page, **query):
    return (SITE.resolve() / page).as_uri() + "".join(f"?{name}={value}" for name, value in query.items())


@pytest.mark.parametrize("module", [skxlmr, metrics, datasets, inspection], ids=lambda module: module.__name__)
def test_every_public_name_has_a_page(module):
    """Where the diagrams of estimators lead to."""
    for name in module.__all__:
        text = (SITE / "api" / "generated" / f"{module.__name__}.{name}.html").read_text(encoding="utf-8")
        assert f'id="{module.__name__}.{name}"' in text


def test_pages_load_nothing_from_elsewhere():
    for page in SITE.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]*)\"", text)
        loaded += re.findall(r"<link\b[^>]*\brel=\"(?:stylesheet|preload|icon)\"[^>]*\bhref=\"([^\"]*)\"", text)
        assert not [source for source in loaded if re.match(r"(https?:)?//", source)], page
    for style in SITE.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_language_models_find_everything():
    """In the format of llmstxt.org: links with descriptions, below headings."""
    lines = (SITE / "llms.txt").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# skxlmr" and lines[2].startswith("> ")
    links = [re.fullmatch(r"- \[([^]]+)\]\(([^)]+)\): (\S.*)", line) for line in lines if line.startswith("- ")]
    assert None not in links, [line for line in lines if line.startswith("- ") and line.endswith(": ")]
    assert {name for module in (skxlmr, metrics, inspection) for name in module.__all__} <= {link[1] for link in links}
    for link in links:
        assert (SITE / link[2].removeprefix("./")).is_file(), link[0]
    whole = (SITE / "llms-full.txt").read_text(encoding="utf-8")
    assert "\n# User guide\n" in whole and "\nclass_weight : dict, list, 'balanced' or None, default=None\n" in whole
    assert "\n## skxlmr.XLMRobertaVectorizer.transform\n" in whole


@needs_chromium
def test_the_search_works_offline(browser):
    """From a folder too; ``opened`` lets nothing be fetched and no error pass."""
    pages = {
        "GridSearchCV": "tuning.html",
        "XLMRobertaClassifier": CLASS,
        "recall_at_k": "skxlmr.metrics.recall_at_k.html",
    }
    with opened(at("index.html"), browser=browser) as page:
        for query, address in pages.items():
            page.goto(at("search.html", q=query))
            page.wait_for_selector("#search-results p.search-summary:has-text('found')")
            page.click(f"#search-results a[href*='{address}']")
            page.wait_for_url(f"**/*{address}*")


@needs_chromium
@pytest.mark.parametrize("width", [400, 1600])
def test_pages_fit_the_screen(browser, width):
    with opened(at("index.html"), width, browser=browser) as shown:
        for page in [*PAGES, *(file.relative_to(SITE).as_posix() for file in SITE.glob("gallery/plot_*.html"))]:
            shown.goto(at(page))
            assert shown.evaluate("document.documentElement.scrollWidth") <= width, page
            assert shown.evaluate(OVER_THE_EDGE) == [], page


@needs_chromium
def test_pages_follow_dark_screens(browser):
    def brightness(scheme):
        with opened(at(CLASS), browser=browser, color_scheme=scheme) as page:
            return [
                sum(map(int, re.findall(r"\d+", page.evaluate(f"getComputedStyle(document.body).{what}"))[:3]))
                for what in ("backgroundColor", "color")
            ]

    paper, ink = brightness("light")
    night, chalk = brightness("dark")
    assert paper - ink > 500 and chalk - night > 400
