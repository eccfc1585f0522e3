"""Labelled spans of texts become spans of whole words, these become tags of the words, and tags become spans."""

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from skxlmr.estimators._tokens.annotations import Span, read_spans
from skxlmr.estimators._tokens.rows import TokenRows, cells_of, target_cells
from skxlmr.metrics._schemes import entities, tag_of
from skxlmr.utils._warnings import warn_once_per_call
from skxlmr.utils._words import trim


def check_spans(
    y: Any, rows: TokenRows, name: str = "y", *, span_edges: str = "error", overlaps: str = "error"
) -> list[list[Span]]:
    """Spans of each text, in order, that begin and end where words do.

    Parameters
    ----------
    y : list, array or Series
    rows : TokenRows
        Of texts.
    name : str
        Name of y in messages.
    span_edges : {"error", "expand", "drop"}
        What happens to a span that begins or ends inside a word.
    overlaps : {"error", "longest"}
        What happens to spans that overlap.

    Raises
    ------
    ValueError
        If a span is not one, lies outside of its text, begins or ends inside a word, holds no word, or overlaps another; names
        row and span.
    """
    assert rows.texts is not None and rows.places is not None
    checked, changed, n_spans = [], [], 0
    for row, (cell, text, places) in enumerate(zip(target_cells(y, rows, name), rows.texts, rows.places, strict=True)):
        where = f"{name} row {row}"
        found: dict[Span, int] = {}  # and how many characters were labelled
        for span in read_spans(cell, text, where):
            n_spans += 1
            start, end = trim(text, *span[:2])
            first, last = _words_at(places, start, end)
            whole = (places[first][0], places[last - 1][1]) if first < last else None
            if whole != (start, end):
                if span_edges == "error" or (span_edges == "expand" and whole is None):
                    raise ValueError(f"{where}: the span {span} {_fault(text, places[first:last], start)}")
                changed.append((row, span, text[slice(*(whole or span[:2]))]))
            if whole is not None and (whole == (start, end) or span_edges == "expand"):
                words = (*whole, span[2])
                found[words] = max(end - start, found.get(words, 0))
        checked.append(_without_overlaps(found, overlaps, where))
    if changed:
        _tell(changed, n_spans, span_edges, name)
    return checked


def has_dicts(y: Any) -> bool:
    """Whether the rows of y are lists of dicts, not of tuples."""
    rows = [row for row in cells_of(y, "y") if isinstance(row, list | tuple | np.ndarray) and len(row)]
    return any(isinstance(span, Mapping) for row in rows if not isinstance(row[0], str) for span in row)


def tags_of_spans(spans: list[list[Span]], rows: TokenRows, scheme: str) -> list[list[str]]:
    """A tag for each word of the texts, whose spans begin and end where words do."""
    assert rows.places is not None
    tagged = []
    for row_spans, places in zip(spans, rows.places, strict=True):
        tags = ["O"] * len(places)
        for start, end, label in row_spans:
            first, last = _words_at(places, start, end)
            tags[first:last] = entity_tags(label, last - first, scheme)
        tagged.append(tags)
    return tagged


def entity_tags(label: str, n_words: int, scheme: str) -> list[str]:
    """Tags of the words of one entity."""
    single, begin, inside, end = (tag_of(meaning, label, scheme) for meaning in "SBIE")
    return [single] if n_words == 1 else [begin, *[inside] * (n_words - 2), end]


def spans_of_tags(tags: Sequence[str], places: Sequence[tuple[int, int]], scheme: str) -> list[Span]:
    """Spans of the entities that the tags of a text's words describe."""
    return [(places[start][0], places[end - 1][1], label) for label, start, end in entities(tags, scheme)]


def _words_at(places: Sequence[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """The first word that these characters touch, and the one after the last."""
    return bisect_right(places, start, key=lambda place: place[1]), bisect_left(places, end, key=lambda place: place[0])


def _fault(text: str, places: Sequence[tuple[int, int]], start: int) -> str:
    """What is wrong with a span that touches these words."""
    if not places:
        return "holds no word: span_edges='drop' leaves such spans out"
    cut = places[0] if places[0][0] < start else places[-1]
    return (
        f"cuts the word {text[slice(*cut)]!r} at {cut} apart: span_edges='expand' takes whole words, 'drop' leaves such spans "
        "out"
    )


def _without_overlaps(found: dict[Span, int], overlaps: str, where: str) -> list[Span]:
    """The spans of one text in order, of those that overlap the one with the most labelled characters, then the first."""
    spans = sorted(found)
    if overlaps == "error":
        for before, after in pairwise(spans):
            if after[0] < before[1]:
                expanded = any(found[span] < span[1] - span[0] for span in (before, after))
                how = ", expanded to whole words," if expanded else ""
                raise ValueError(
                    f"{where}: the spans {before} and {after}{how} overlap, and a word has one tag: overlaps='longest' keeps "
                    "the longest of such spans"
                )
        return spans
    kept: list[Span] = []
    for span in sorted(found, key=lambda span: (-found[span], *span[:2])):
        if all(span[1] <= other[0] or other[1] <= span[0] for other in kept):
            kept.append(span)
    return sorted(kept)


def _tell(changed: list[tuple[int, Span, str]], n_spans: int, span_edges: str, name: str) -> None:
    """Say how many spans were expanded or left out."""
    row, span, words = changed[0]
    done = "expanded to whole words" if span_edges == "expand" else "left out"
    warn_once_per_call(
        f"{len(changed)} of {n_spans} spans in {name} begin or end inside a word and were {done} (span_edges={span_edges!r}); "
        f"the first is {span} in row {row}, which touches {words!r}",
        about=("span_edges", name),
        part=" (other sets of spans in this call are not reported)",
    )
