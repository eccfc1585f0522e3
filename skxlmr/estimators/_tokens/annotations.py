"""Labelled spans as people have them: lists of spans, and what spaCy, Doccano, Label Studio and Prodigy write for a text."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from skxlmr.utils._tables import describe, plain_str

Span = tuple[int, int, str]  # first character, the one after the last, label
SPAN_KEYS = ("start", "end", "label")
_LISTS = ("entities", "spans", "label", "labels")  # where the tools keep the spans of a text
_STARTS, _ENDS = ("start", "start_offset"), ("end", "end_offset")
_NAMES = ("label", "entity_group", "entity")  # the last two are of ``predict_entities``


def read_spans(cell: Any, text: str, where: str) -> list[Span]:
    """Spans of one text, as they were passed.

    Raises
    ------
    ValueError
        If they are not spans of this text; says where.
    """
    if isinstance(cell, tuple) and len(cell) == 2 and isinstance(cell[0], str) and isinstance(cell[1], Mapping):
        cell = {"text": cell[0], **cell[1]}  # an example of spaCy with its text
    if isinstance(cell, Mapping):
        _check_text(cell, text, where)
        cell = _list_of(cell, where)
    if not isinstance(cell, list | tuple | np.ndarray):
        raise ValueError(f"{where}: expected a list of spans (start, end, label), got {describe(cell)}")
    return [_span(span, text, where) for span in cell]


def _check_text(cell: Mapping[str, Any], text: str, where: str) -> None:
    """Refuse the annotations of another text."""
    texts = [value for value in (cell.get("data") or {"": cell.get("text")}).values() if isinstance(value, str)]
    if texts and text not in texts:
        raise ValueError(
            f"{where}: the annotations belong to another text, {describe(texts[0])}; X has {describe(text)} there"
        )


def _list_of(cell: Mapping[str, Any], where: str) -> Any:
    """The spans that an annotation tool wrote for one text."""
    if "annotations" in cell:  # Label Studio: one item for each person who annotated the text
        done = [each for each in cell["annotations"] if not each.get("was_cancelled")]
        if len(done) != 1:
            raise ValueError(
                f"{where}: expected one annotation of the text, found {len(done)}: "
                + ("choose one of them" if done else "leave out texts that nobody annotated")
            )
        cell = {"spans": [each["value"] for each in done[0]["result"] if _is_region(each, where)]}
    for key in _LISTS:
        spans = cell.get(key)
        if isinstance(spans, list | tuple | np.ndarray):
            return [part for span in spans for part in _one_label_each(span)]
    raise ValueError(
        f"{where}: expected a list of spans under one of {', '.join(map(repr, _LISTS))}, got {describe(cell)}"
    )


def _is_region(result: Mapping[str, Any], where: str) -> bool:
    """Whether an item of Label Studio is a labelled part of the text; the others are choices, relations and the like."""
    type_ = result.get("type", "labels")
    if type_ != "labels" and str(type_).endswith("labels"):
        raise ValueError(
            f"{where}: regions of the type {type_!r} are not spans of characters of a text: only 'labels' are"
        )
    return bool(type_ == "labels")


def _one_label_each(span: Any) -> list[Any]:
    """A region of Label Studio may have several labels."""
    if isinstance(span, Mapping) and "labels" in span:
        return [{**span, "label": label} for label in span["labels"]]
    return [span]


def _span(span: Any, text: str, where: str) -> Span:
    values: Any = span
    if isinstance(span, Mapping):
        values = [next((span[key] for key in keys if key in span), None) for keys in (_STARTS, _ENDS, _NAMES)]
        if None in values:
            raise ValueError(f"{where}: expected a span with 'start', 'end' and 'label', got {describe(span)}")
    if not isinstance(values, list | tuple | np.ndarray) or len(values) != 3:
        words = ": for a tag per word, X must have rows of words, such as text.split()" if isinstance(span, str) else ""
        raise ValueError(f"{where}: expected a span (start, end, label), got {describe(span)}{words}")
    start, end, label = values
    if not (
        isinstance(start, int | np.integer) and isinstance(end, int | np.integer) and isinstance(label, str) and label
    ):
        raise ValueError(f"{where}: a span is two whole numbers and a label, got {describe(span)}")
    if label == "O":
        raise ValueError(f"{where}: 'O' is what stands outside of spans, got {describe(span)}")
    start, end = int(start), int(end)
    if isinstance(span, Mapping) and isinstance(span.get("text"), str):
        start, end = _of_characters(text, start, end, span["text"], where)
    if start == end:
        raise ValueError(f"{where}: the span {describe(span)} is empty: its end is the character after its last")
    if not 0 <= start < end <= len(text):
        raise ValueError(
            f"{where}: the span {describe(span)} does not lie within the {len(text)} characters of the text"
        )
    return start, end, plain_str(label)


def _of_characters(text: str, start: int, end: int, shown: str, where: str) -> tuple[int, int]:
    """The span in characters, where the tool wrote what it covers: in browsers an emoji counts as two."""
    plain = shown.replace("\\n", "\n").strip()
    if text[start:end].strip() == plain:
        return start, end
    units = text.encode("utf-16-le")
    before, inside = (units[2 * a : 2 * b].decode("utf-16-le", "replace") for a, b in ((0, start), (start, end)))
    if inside.strip() == plain:
        return len(before), len(before) + len(inside)
    raise ValueError(
        f"{where}: the span ({start}, {end}) is said to cover {describe(shown)}, but the text has "
        f"{describe(text[start:end])} there"
    )
