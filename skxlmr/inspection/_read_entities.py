"""Entities as people and taggers have them become marks: spans, dicts, annotations, and tags of words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from skxlmr.estimators._tokens.annotations import read_spans
from skxlmr.estimators._tokens.rows import TokenRows, cells_of, check_token_rows
from skxlmr.estimators._tokens.tag_rules import detect_scheme
from skxlmr.metrics._schemes import IGNORED, entities
from skxlmr.utils._tables import describe, plain
from skxlmr.utils._words import trim


class Entity(NamedTuple):
    """A labelled part of a text, with its probability if it is known."""

    start: int
    end: int
    label: str
    score: float | None = None

    @property
    def span(self) -> tuple[int, int, str]:
        """What it is compared by."""
        return self[:3]


def read_texts(texts: Any, name: str = "texts") -> TokenRows:
    """Texts, or rows of words; there may be none."""
    return check_token_rows(texts, name, rows_needed=False)


def read_entities(
    y: Any, rows: TokenRows, name: str, scheme: str, ignored: list[np.ndarray] | None = None
) -> list[list[Entity]]:
    """Entities of each text, without white space at their ends, each once with its best score.

    Parameters
    ----------
    y : list, array or Series
    rows : TokenRows
    name : str
        Of y, in messages.
    scheme : str
        What tags mean.
    ignored : list of ndarray of bool, optional
        Which words of each row do not count, as if they were not there.

    Raises
    ------
    ValueError
        If the numbers of rows differ, or a row has no spans of its text and no tags of its words; names the row.
    """
    cells = cells_of(y, name, rows_needed=False)
    texts = rows.joined()
    if len(cells) != len(texts):
        raise ValueError(f"{name} has {len(cells)} rows for {len(texts)} texts")
    found = []
    for row, (cell, text, places) in enumerate(zip(cells, texts, rows.joined_places(), strict=True)):
        where = f"{name} row {row}"
        if rows.texts is None and is_tags(cell):
            left_out = ignored[row] if ignored else None
            read = _of_tags(cell, places, scheme, where, left_out)
        else:
            read = _of_spans(cell, text, where)
            if ignored and ignored[row].any():
                read = [part for entity in read for part in _without(entity, places[~ignored[row]])]
        best: dict[tuple[int, int, str], Entity] = {}
        for entity in read:
            start, end = trim(text, entity.start, entity.end)
            trimmed = entity._replace(start=start, end=end) if start < end else entity
            known = best.get(trimmed.span)
            if known is None or (trimmed.score or 0) > (known.score or 0):
                best[trimmed.span] = trimmed
        found.append(sorted(best.values(), key=lambda entity: entity[:2]))
    return found


def scheme_of(*columns: Any) -> str:
    """The scheme of all tags in these columns of rows of tags; other rows do not count."""
    tags = {plain(tag) for column in columns for cell in column if is_tags(cell) for tag in cell}
    return detect_scheme(sorted(tags - {IGNORED}, key=str))


def ignored_words(cells: list[Any], rows: TokenRows) -> list[np.ndarray] | None:
    """Which words of each row have -100 for a tag, bool; None if none has."""
    if rows.texts is not None or not any(plain(tag) == IGNORED for cell in cells if is_tags(cell) for tag in cell):
        return None
    return [
        np.array([plain(tag) == IGNORED for tag in cell], bool) if is_tags(cell) else np.zeros(n_words, bool)
        for cell, n_words in zip(cells, rows.n_words.tolist(), strict=True)
    ]


def is_tags(cell: Any) -> bool:
    """Whether a row has a tag for each word, not spans; a row of nothing has no spans."""
    is_row = isinstance(cell, list | tuple | np.ndarray) and len(cell) > 0
    return is_row and all(isinstance(tag, str | int | np.integer) for tag in cell)


def _of_tags(
    cell: Any, places: np.ndarray, scheme: str, where: str, left_out: np.ndarray | None = None
) -> list[Entity]:
    if len(cell) != len(places):
        raise ValueError(f"{where}: {len(cell)} tags for {len(places)} words")
    ignored = [plain(tag) == IGNORED for tag in cell] if left_out is None else left_out.tolist()
    kept = [
        (plain(tag), *place) for tag, place, is_out in zip(cell, places.tolist(), ignored, strict=True) if not is_out
    ]
    try:
        spans = entities([tag for tag, _, _ in kept], scheme)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    return [Entity(kept[start][1], kept[end - 1][2], str(label)) for label, start, end in spans]


def _without(entity: Entity, kept_n2: np.ndarray) -> list[Entity]:
    """The part of an entity on the words that count, if there is one."""
    touched = kept_n2[(kept_n2[:, 0] < entity.end) & (kept_n2[:, 1] > entity.start)]
    if not len(touched):
        return []
    return [entity._replace(start=max(entity.start, int(touched[0, 0])), end=min(entity.end, int(touched[-1, 1])))]


def _of_spans(cell: Any, text: str, where: str) -> list[Entity]:
    if not isinstance(cell, list | np.ndarray):  # the annotations of a tool; a tuple may be an example of spaCy
        return [Entity(*span) for span in read_spans(cell, text, where)]
    found = []
    for span in cell:
        if isinstance(span, Mapping) and span.get("entity_group", span.get("entity")) == "O":
            continue  # with ignore_labels=() a tagger returns what lies outside of entities too
        score = span.get("score") if isinstance(span, Mapping) else None
        for start, end, label in read_spans([span], text, where):
            if isinstance(span, Mapping) and span.get("word", text[start:end]) != text[start:end]:
                raise ValueError(
                    f"{where}: the entity {describe(span['word'])} is of another text, which has {describe(text[start:end])} "
                    f"at characters {start} to {end}"
                )
            found.append(Entity(start, end, label, None if score is None else float(score)))
    return found
