"""Parts of a text marked in HTML, each with its label: nested, overlapping, in any script, without a network."""

import heapq
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from zlib import crc32

from skxlmr.utils._shown.graphemes import whole_graphemes
from skxlmr.utils._shown.html import direction
from skxlmr.utils._whole_numbers import whole_number

# Dark text is readable on each, and most readers with a colour vision deficiency can tell them apart (tints of Okabe and Ito)
TINTS = (
    "#a6d8f5", "#f9cf8f", "#8fd9bf", "#f0c9df", "#f5ec9d", "#f3b392", "#b9c6f2", "#d3d3d3", "#cde8a0", "#d9c2ee",
)  # fmt: skip
_USUAL = {"PER": 0, "PERSON": 0, "LOC": 1, "GPE": 1, "LOCATION": 1, "ORG": 2, "ORGANIZATION": 2, "MISC": 3, "DATE": 4}
_COLOR = re.compile("#[0-9a-fA-F]{3}|#[0-9a-fA-F]{6}|[a-zA-Z]+")
# What has no shape of its own, or may not stand in UTF-8
_UNSEEN = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: "\u2421"}
_UNSEEN |= dict.fromkeys([*range(0x80, 0xA0), *range(0xD800, 0xE000)], "\ufffd")
_STATES = {"right": " \u2713", "wrong": " \u2717 wrong", "missed": " \u25cb missed", "true": ""}
_FOLDED = 40  # fewer characters than these are not worth folding

STYLE = """
.skxlmr-texts { display: grid; grid-template-columns: auto minmax(0, 1fr); gap: .4rem .8rem; margin: .5rem 0; }
.skxlmr-number { opacity: .7; font-size: .8em; line-height: 2.4; text-align: end; font-variant-numeric: tabular-nums; }
.skxlmr-text { white-space: pre-wrap; overflow-wrap: anywhere; line-height: 2; font-size: 1rem; text-align: start; }
.skxlmr-text mark, .skxlmr-key mark { color: #1a1a1a; border: 1.5px solid #555; border-radius: .3em;
  padding: .12em .25em; margin: 0 .05em; -webkit-box-decoration-break: clone; box-decoration-break: clone; }
.skxlmr-text mark.wrong, .skxlmr-key mark.wrong { border: 2px dashed #1a1a1a; }
.skxlmr-text mark.missed, .skxlmr-text mark.true, .skxlmr-key mark.missed, .skxlmr-key mark.true {
  background: none !important; color: inherit; border: 2px dotted; }
.skxlmr-label { font-size: .7em; font-weight: 700; margin-left: .4em; white-space: nowrap; unicode-bidi: isolate;
  -webkit-user-select: none; user-select: none; }
.skxlmr-text[dir=rtl] .skxlmr-label, .skxlmr-text .rtl > .skxlmr-label { margin: 0 .4em 0 0; }
.skxlmr-text .ltr > .skxlmr-label { margin: 0 0 0 .4em; }
/* an invisible letter, so that the label of a word stays with it in a text of the other direction */
.skxlmr-text .ltr::after { content: "\\200e"; }
.skxlmr-text .rtl::after { content: "\\200f"; }
.skxlmr-gap { white-space: nowrap; }
.skxlmr-gap, .skxlmr-more { opacity: .75; font-size: .85em; font-style: italic; unicode-bidi: isolate; }
/* twice, so that it counts more than what pages say about tables in notebooks */
.skxlmr-table.skxlmr-table { border-collapse: collapse; font-size: .9em; margin: .2rem 0 1rem; width: auto; }
.skxlmr-table.skxlmr-table :is(td, th) { padding: .1rem .7rem .1rem 0; text-align: start; vertical-align: top; }
.skxlmr-key { display: flex; flex-wrap: wrap; gap: .4rem .8rem; margin: .5rem 0; font-size: .9em; line-height: 1.8; }
"""


@dataclass(frozen=True)
class Mark:
    """A part of a text.

    Attributes
    ----------
    start, end : int
        Its first character, and the one after its last.
    label : str
        Shown behind it.
    title : str
        Tooltip.
    state : {"", "right", "wrong", "missed", "true"}
        Drawn with a line of its own; missed and true ones have no background.
    color : str, optional
        In CSS; that of the label if None.
    """

    start: int
    end: int
    label: str
    title: str = ""
    state: str = ""
    color: str | None = None


def color_of(label: str, colors: Mapping[str, str] | None = None) -> str:
    """The background of a label, the same wherever it is shown."""
    if colors and label in colors:
        return colors[label]
    return TINTS[_USUAL.get(label.upper(), crc32(label.encode("utf-8", "replace")) % len(TINTS))]


def check_colors(colors: Mapping[str, str] | None) -> None:
    """Refuse what is not a colour of CSS by its name or ``#rrggbb``, which could end the attribute that it stands in."""
    for label, color in (colors or {}).items():
        if not isinstance(color, str) or not _COLOR.fullmatch(color):
            raise ValueError(f"colors[{label!r}] must be a name or '#rrggbb', got {color!r}")


def check_context(context: int | None) -> int | None:
    """Refuse what is no number of characters: a negative one would fold the marks themselves."""
    if context is None:
        return None
    number = whole_number(context, "context")
    if number < 0:
        raise ValueError(f"context must be a number of characters from 0, or None, got {number}")
    return number


def visible(text: str) -> str:
    """A text as HTML; control characters and halves of surrogate pairs become visible."""
    return escape(text.translate(_UNSEEN))


def label_html(mark: Mark, before: str = "", after: str = "") -> str:
    """The label behind a mark, with what says whether it is right."""
    state = _STATES[mark.state] if mark.state else ""
    return f'<span class="skxlmr-label" dir="auto">{before}{visible(mark.label)}{state}{after}</span>'


def opening(mark: Mark, colors: Mapping[str, str] | None = None, runs: str = "") -> str:
    """The tag that begins a mark, whose text runs against the whole one if ``runs`` is ``"ltr"`` or ``"rtl"``."""
    classes = " ".join(filter(None, (mark.state, runs)))
    state = f' class="{classes}"' if classes else ""
    title = f' title="{visible(mark.title)}"' if mark.title else ""
    return f'<mark{state} style="background:{mark.color or color_of(mark.label, colors)}"{title}>'


def marked_text(
    text: str, marks: Iterable[Mark], colors: Mapping[str, str] | None = None, context: int | None = None
) -> str:
    """A text with its marks, as one element that runs in the direction of the text.

    A mark that begins or ends inside a grapheme is drawn around the whole grapheme, and its tooltip says so. Marks may nest. A
    mark that reaches beyond another one that it begins in is drawn in two parts, whose labels have dots.

    Parameters
    ----------
    text : str
    marks : iterable of Mark
        Within the text, not empty.
    colors : mapping of str to str, optional
        Of labels.
    context : int, optional
        Characters that are shown before and after marks; None shows the whole text.
    """
    parts = _nested([_widened(text, mark) for mark in marks])
    folds = deque(_folds(len(text), [part.mark for part in parts], context))
    written: list[str] = []
    still_open: list[_Part] = []
    at, whole = 0, direction(text)

    def write_to(end: int) -> None:
        nonlocal at
        while folds and folds[0][1] <= end:
            first, last = folds.popleft()
            first, last = whole_graphemes(text, first, first)[1], whole_graphemes(text, last, last)[0]
            if last - first >= _FOLDED:
                written.append(visible(text[at:first]))
                written.append(f'<span class="skxlmr-gap">[\u2026 {last - first:,} characters \u2026]</span>')
                at = last
        written.append(visible(text[at:end]))
        at = max(at, end)

    def close_until(start: int) -> None:
        while still_open and still_open[-1].mark.end <= start:
            part = still_open.pop()
            write_to(part.mark.end)
            written.append(
                label_html(part.mark, "\u2026 " if part.goes_on_from else "", " \u2026" if part.goes_on else "")
            )
            written.append("</mark>")

    for part in parts:
        close_until(part.mark.start)
        write_to(part.mark.start)
        runs = direction(map(text.__getitem__, range(part.mark.end - 1, -1, -1)), whole)  # of its last letter
        written.append(opening(part.mark, colors, "" if runs == whole else runs))
        still_open.append(part)
    close_until(len(text))
    write_to(len(text))
    return f'<div class="skxlmr-text" dir="{whole}">{"".join(written)}</div>'


def numbered(blocks: Sequence[str], n_left_out: int = 0, what: str = "texts") -> str:
    """Blocks of HTML under each other with their numbers, and how many more there are."""
    rows = "".join(f'<span class="skxlmr-number">{i}</span>{block}' for i, block in enumerate(blocks))
    more = f'<p class="skxlmr-more">\u2026 and {n_left_out:,} more {what}</p>' if n_left_out else ""
    return f'<div class="skxlmr-texts">{rows}</div>{more}'


@dataclass(frozen=True)
class _Part:
    """A mark, or a part of one that another mark cuts."""

    mark: Mark
    goes_on_from: bool = False
    goes_on: bool = False


def _widened(text: str, mark: Mark) -> Mark:
    start, end = whole_graphemes(text, mark.start, mark.end)
    if (start, end) == (mark.start, mark.end):
        return mark
    note = f"drawn around whole letters, characters {start} to {end}"
    return replace(mark, start=start, end=end, title=f"{mark.title}; {note}" if mark.title else note)


def _nested(marks: Sequence[Mark]) -> list[_Part]:
    """Marks in the order in which they begin, outer ones first, none of which crosses another."""
    waiting = [(mark.start, -mark.end, i, _Part(mark)) for i, mark in enumerate(marks)]
    heapq.heapify(waiting)
    found: list[_Part] = []
    ends: list[int] = []
    while waiting:
        start, _, i, part = heapq.heappop(waiting)
        while ends and ends[-1] <= start:
            ends.pop()
        if ends and part.mark.end > ends[-1]:
            rest = _Part(replace(part.mark, start=ends[-1]), goes_on_from=True, goes_on=part.goes_on)
            heapq.heappush(waiting, (ends[-1], -part.mark.end, i, rest))
            part = replace(part, mark=replace(part.mark, end=ends[-1]), goes_on=True)
        ends.append(part.mark.end)
        found.append(part)
    return found


def _folds(n: int, marks: Sequence[Mark], context: int | None) -> list[tuple[int, int]]:
    """Parts of a text of ``n`` characters that are farther from all marks than ``context``, ascending."""
    if context is None:
        return []
    if not marks:
        return [(2 * context, n)]
    folds, at = [], 0
    for start, end in sorted((mark.start - context, mark.end + context) for mark in marks):
        if start > at:
            folds.append((at, start))
        at = max(at, end)
    return [*folds, (at, n)] if at < n else folds
