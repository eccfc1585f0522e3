"""Pieces of HTML for notebooks and for files that open without a network."""

import json
import unicodedata
from collections.abc import Iterable
from html import escape
from typing import Any

# Follows the reader's colours in a notebook; a page of its own sets them for light and dark screens
PAGE_STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 80rem; padding: 0 1rem; }
"""


def direction(text: Iterable[str], otherwise: str = "ltr") -> str:
    """``"rtl"`` or ``"ltr"``, as the first letter with a direction runs (Unicode's rule P2); ``otherwise`` if there is none."""
    for letter in text:
        kind = unicodedata.bidirectional(letter)
        if kind in ("R", "AL"):
            return "rtl"
        if kind == "L":
            return "ltr"
    return otherwise


def in_script(value: Any) -> str:
    """A value as JSON that may stand inside a ``<script>``: no text in it ends the element or begins a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def document(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """A page of its own, which needs no network.

    Parameters
    ----------
    title : str
        Plain text.
    body, style, script : str
        HTML, CSS and JavaScript.
    """
    end = f"<script>{script}</script>\n" if script else ""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # no part of the page may fetch anything, whatever a text in it says
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
        "script-src 'unsafe-inline'; img-src data:\">\n"
        f"<title>{escape(title)}</title>\n<style>{PAGE_STYLE}{style}</style>\n</head>\n<body>\n{body}\n{end}</body>\n</html>\n"
    )


def framed(page: str, title: str, height: int) -> str:
    """A page with a script inside a notebook's cell: in a frame, where neither disturbs the other."""
    return (
        f'<iframe srcdoc="{escape(page, quote=True)}" title="{escape(title, quote=True)}" sandbox="allow-scripts" '
        f'style="width:100%;height:{height}px;border:0"></iframe>'
    )
