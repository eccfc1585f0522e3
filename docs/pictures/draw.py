"""Draws the pictures of the README anew, with Chromium: python docs/pictures/draw.py (needs playwright and matplotlib)."""

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import sync_playwright

from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer
from skxlmr.datasets import load_reviews
from skxlmr.inspection import AttentionDisplay, TokenAttributionDisplay

HERE = Path(__file__).resolve().parent
BEGINNINGS = ("Pizza bruciata", "Сковорода пригорает", "部屋は狭いですが", "Gömlek ilk")  # of reviews of the table
PAIR = [("The battery lasts two days.", "تدوم البطارية يومين.")]


def pages():
    """The name of each picture, its page, the width and height of the window, and what is done there."""
    reviews = load_reviews().frame
    classifier = XLMRobertaClassifier(
        "skxlmr-mini", learning_rate=1e-3, max_epochs=8, random_state=0, device="cpu", dtype="float32"
    )
    classifier.fit(reviews["review"], reviews["category"])
    texts = [text for start in BEGINNINGS for text in reviews["review"] if text.startswith(start)]
    yield "explained", TokenAttributionDisplay.from_estimator(classifier, texts).to_html(), 760, 300, lambda page: None
    vectorizer = XLMRobertaVectorizer("skxlmr-mini", device="cpu")
    html = AttentionDisplay.from_estimator(vectorizer, PAIR).to_html()
    yield "attention", html, 1000, 700, lambda page: page.get_by_label("words of one text and of the other").click()


def main():
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, html, width, height, act in pages():
            file = Path(folder) / f"{name}.html"
            file.write_text(html, encoding="utf-8")
            page = browser.new_page(viewport={"width": width, "height": height})
            page.goto(file.as_uri())
            act(page)
            page.screenshot(path=HERE / f"{name}.png", full_page=True)
            print(name, (HERE / f"{name}.png").stat().st_size)
        browser.close()


if __name__ == "__main__":
    main()
