"""Contributions as coloured text: HTML that any page can hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from skxlmr.inspection._attributions.value import TokenAttribution
from skxlmr.utils._shown.html import direction
from skxlmr.utils._shown.marks import visible as escape

# Orange and blue differ for colour-blind readers too; the line below a word tells the sign without any colour.
STYLE = """
.skxlmr-attr{--up:230,126,34;--down:31,119,180;line-height:1.9}
.skxlmr-attr section{margin:0 0 1.2em;padding:.2em 0 .4em;border-top:1px solid rgba(128,128,128,.4)}
.skxlmr-attr p{margin:.35em 0}
.skxlmr-attr .text{white-space:pre-wrap;overflow-wrap:anywhere}
.skxlmr-attr .note,.skxlmr-attr .name{font-size:.85em;opacity:.85}
.skxlmr-attr .w{padding:.1em .06em;margin-inline:1px;border-radius:3px}
.skxlmr-attr .up{background:rgba(var(--up),var(--a));border-bottom:3px solid rgb(var(--up))}
.skxlmr-attr .down{background:rgba(var(--down),var(--a));border-bottom:3px dashed rgb(var(--down))}
.skxlmr-attr .zero{border-bottom:3px solid transparent}
.skxlmr-attr .about{outline:2px solid currentColor;outline-offset:2px}
.skxlmr-attr table{border-collapse:collapse;line-height:1.4}
.skxlmr-attr td,.skxlmr-attr th{padding:.1em .7em;text-align:start;border-bottom:1px solid rgba(128,128,128,.3)}
.skxlmr-attr td.n{text-align:end;font-variant-numeric:tabular-nums}
.skxlmr-attr summary{cursor:pointer;font-size:.85em}
.skxlmr-attr .hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
"""
METHODS = {
    "integrated_gradients": "integrated gradients",
    "gradient_x_input": "gradient x input",
    "occlusion": "occlusion",
    "shapley": "Shapley values",
}
STRONGEST, WEAKEST = 0.6, 0.06  # how opaque the colour of a word is
FAINT = 0.02  # of the row's strongest value: no colour


def fragment(rows: Sequence[TokenAttribution]) -> str:
    """All rows, with a legend and their style."""
    legend = (
        '<p class="note"><span class="w up" style="--a:.45">raises it</span> <span class="w down" style="--a:.45">lowers '
        "it</span> The strongest word of each text has the strongest colour. Point at a word to see its value.</p>"
    )
    body = "".join(_section(number, row, len(rows)) for number, row in enumerate(rows))
    return f'<div class="skxlmr-attr"><style>{STYLE}</style>{legend}{body}</div>'


def heading(row: TokenAttribution) -> str:
    """What is explained, and what the number is, as plain text."""
    parts = [] if row.target is None else [f"{row.target}"]
    if row.prediction is not None:
        baseline = "" if row.baseline is None else f" ({number_text(row.baseline)} with all words masked)"
        parts.append(f"{number_text(row.prediction)}{baseline}")
    return ": ".join(parts)


def number_text(value: float, signed: bool = False) -> str:
    """A number as a reader wants it: three digits, and a minus that is one."""
    shown = f"{value:+.3g}" if signed else f"{value:.3g}"
    return shown.replace("-", "\u2212")


def _section(number: int, row: TokenAttribution, n_rows: int) -> str:
    label = f"Text {number + 1} of {n_rows}"
    head = f"<b><bdi>{escape(str(row.target))}</bdi></b> " if row.target is not None else ""
    rest = heading(row) if row.target is None else heading(row).removeprefix(str(row.target)).removeprefix(": ")
    method = METHODS.get(row.method, row.method)
    about = f"{head}{escape(rest)}" + (f'<span class="note"> by {escape(method)}</span>' if method else "")
    texts = "".join(_text(row, k) for k in range(len(row.texts)))
    lost = f'<p class="note">{row.n_dropped} tokens at the end were cut and have no value.</p>' if row.n_dropped else ""
    return (
        f'<section aria-label="{label}"><p>{about}</p>{texts}{lost}<p class="hidden">{escape(_spoken(row))}</p>{_table(row)}'
        "</section>"
    )


def _text(row: TokenAttribution, k: int) -> str:
    text, largest = row.texts[k], float(np.abs(row.values).max(initial=0.0))
    name = f'<p class="name">{escape(row.names[k])}</p>' if len(row.texts) > 1 else ""
    spans = "".join(_pieces(row, k, text, largest))
    return f'{name}<p class="text" dir="{direction(text)}">{spans}</p>'


def _pieces(row: TokenAttribution, k: int, text: str, largest: float) -> Iterator[str]:
    words = sorted(
        (start, end, value)
        for (number, start, end), value in zip(row.spans, row.values.tolist(), strict=True)
        if number == k
    )
    for (_, end, _), (start, _, _) in pairwise(words):
        if end > start:
            raise ValueError(f"words overlap at character {start} of {text!r:.60}")
    done = 0
    for start, end, value in words:
        yield escape(text[done:start])
        share = abs(value) / largest if largest else 0.0
        kind = "zero" if share < FAINT else "up" if value > 0 else "down"
        if row.explained is not None and row.explained[0] == k and start < row.explained[2] and end > row.explained[1]:
            kind += " about"
        opacity = WEAKEST + (STRONGEST - WEAKEST) * share
        tip = number_text(value, signed=True)
        yield f'<span class="w {kind}" style="--a:{opacity:.2f}" title="{tip}">{escape(text[start:end])}</span>'
        done = end
    yield escape(text[done:])


def _spoken(row: TokenAttribution) -> str:
    """What a reader of the screen is told, in place of colours."""
    strongest = row.strongest(5)
    up = [f"{word} {number_text(value, True)}" for word, value in strongest if value > 0]
    down = [f"{word} {number_text(value, True)}" for word, value in strongest if value < 0]
    parts = [f"{verb}: {', '.join(words)}." for verb, words in (("Raises it", up), ("Lowers it", down)) if words]
    return " ".join(parts)


def _table(row: TokenAttribution) -> str:
    if not row.spans:
        return '<p class="note">There are no words.</p>'
    cells = "".join(
        f'<tr><td><bdi>{escape(word)}</bdi></td><td class="n">{number_text(value, True)}</td></tr>'
        for word, value in row.strongest(len(row.spans))
    )
    return (
        "<details><summary>Values of the words</summary><table><tr><th>Word</th><th>Value</th></tr>"
        f"{cells}</table></details>"
    )
