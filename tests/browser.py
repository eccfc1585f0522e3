"""A headless Chromium for tests of pages; they are skipped, saying so, where none is installed."""

import os
import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt install chromium")


@contextmanager
def chromium():
    """A browser for several pages, as to start one takes longer than what is done with it."""
    from playwright.sync_api import sync_playwright

    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if root else [])
        yield browser
        browser.close()


@contextmanager
def opened(url, width=1000, height=800, browser=None, **options):
    """The page at an address, a ``playwright`` Page; errors in its console, and whatever it fetches, end the test.

    ``file://`` addresses may fetch other files. Without ``browser``, see :func:`chromium`, one is started for the page.
    Options are those of a browser context, such as ``color_scheme="dark"``.
    """
    if browser is None:
        with chromium() as browser, opened(url, width, height, browser, **options) as page:
            yield page
        return
    errors = []
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    page = context.new_page()
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: errors.append(request.url) if request.url.startswith("http") else None)
    page.goto(url)
    yield page
    context.close()
    assert not errors, errors


@contextmanager
def shown(html, folder, **options):
    """The page of some HTML, written to a file in ``folder``."""
    file = folder / "page.html"
    file.write_text(html, encoding="utf-8")
    with opened(file.as_uri(), **options) as page:
        yield page
