"""What people pass to a tagger: rows of words with a tag for each word, or texts with labelled spans of characters."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from skxlmr.estimators._tokens.words import cut_words
from skxlmr.metrics import entities
from skxlmr.utils._tables import as_list, describe, plain, plain_str, split_columns
from skxlmr.utils._validation import check_texts

Span = tuple[int, int, str]  # first character, the one after the last, label
SPAN_KEYS = ("start", "end", "label")


@dataclass(frozen=True)
class TokenRows:
    """Rows of words.

    Attributes
    ----------
    words : list of list of str
    texts : list of str, or None where X held words
        What the words were cut from.
    places : list of list of (start, end), or None
        Where each word stands in its text.
    """

    words: list[list[str]]
    texts: list[str] | None = None
    places: list[list[tuple[int, int]]] | None = None

    def __len__(self) -> int:
        return len(self.words)

    @property
    def kind(self) -> str:
        """``"words"`` or ``"texts"``."""
        return "words" if self.texts is None else "texts"

    @property
    def n_words(self) -> np.ndarray:
        """Words of each row, int64."""
        return np.fromiter(map(len, self.words), np.int64, len(self.words))

    def joined(self) -> list[str]:
        """The texts, or the words of each row with spaces between them."""
        return [" ".join(row) for row in self.words] if self.texts is None else self.texts

    def joined_places(self) -> list[np.ndarray]:
        """Where each word begins and ends in these texts, (n_words, 2) for each row."""
        if self.places is not None:
            return [np.array(row, np.int64).reshape(-1, 2) for row in self.places]
        lengths = [np.fromiter(map(len, row), np.int64, len(row)) for row in self.words]
        ends = [np.cumsum(row + 1) - 1 for row in lengths]
        return [np.stack([end - length, end], axis=1) for end, length in zip(ends, lengths, strict=True)]


def check_token_rows(X: Any, name: str = "X") -> TokenRows:
    """Rows of words, from any container.

    Raises
    ------
    TypeError
        If X is one string, a mapping, a number or an iterator.
    ValueError
        If X has no rows or several columns, or holds anything other than words or texts; names the first bad row.
    """
    cells = _cells(X, name)
    if isinstance(cells[0], str):
        texts = check_texts(cells, name, pairs_allowed=False).first
        places = [cut_words(text) for text in texts]
        return TokenRows(
            [[text[start:end] for start, end in row] for text, row in zip(texts, places, strict=True)], texts, places
        )
    return TokenRows([_words(cell, row, name) for row, cell in enumerate(cells)])


def check_tags(y: Any, rows: TokenRows, name: str = "y") -> list[list[Any]]:
    """Tags of each row of words.

    Raises
    ------
    ValueError
        If there is not one tag, str or int, for each word; names the row.
    """
    cells = _target_cells(y, rows, name)
    tags = []
    kinds = set()
    for row, (cell, words) in enumerate(zip(cells, rows.words, strict=True)):
        cell = _as_sequence(cell)
        if cell is None:
            raise ValueError(
                f"{name} row {row}: expected a list of tags, one for each word, got {describe(cells[row])}"
            )
        found = list(map(plain, cell))
        if len(found) != len(words):
            raise ValueError(f"{name} row {row}: {len(found)} tags for {len(words)} words")
        for word, tag in enumerate(found):
            if not isinstance(tag, str | int):
                raise ValueError(f"{name} row {row}, word {word}: expected a tag, str or int, got {describe(tag)}")
        kinds |= {type(tag).__name__ for tag in found}
        tags.append(found)
    if len(kinds) > 1:
        raise ValueError(f"{name} mixes tags of the types {', '.join(sorted(kinds))}: use one type")
    return tags


def check_spans(y: Any, rows: TokenRows, name: str = "y") -> list[list[Span]]:
    """Spans of each text, in order.

    Raises
    ------
    ValueError
        If a span is not one, lies outside of its text, or overlaps another; names row and span.
    """
    assert rows.texts is not None
    checked = []
    for row, (cell, text) in enumerate(zip(_target_cells(y, rows, name), rows.texts, strict=True)):
        if not isinstance(cell, list | tuple | np.ndarray):
            raise ValueError(f"{name} row {row}: expected a list of spans (start, end, label), got {describe(cell)}")
        spans = sorted((_span(span, len(text), f"{name} row {row}") for span in cell), key=lambda span: span[:2])
        for before, after in pairwise(spans):
            if after[0] < before[1]:
                raise ValueError(f"{name} row {row}: the spans {before} and {after} overlap")
        checked.append(spans)
    return checked


def tags_of_spans(spans: list[list[Span]], rows: TokenRows, scheme: str, name: str = "y") -> list[list[str]]:
    """A tag for each word of the texts.

    Raises
    ------
    ValueError
        If a span cuts a word apart or holds no word; names row and span.
    """
    assert rows.texts is not None and rows.places is not None
    tagged = []
    for row, (row_spans, places, text) in enumerate(zip(spans, rows.places, rows.texts, strict=True)):
        tags = ["O"] * len(places)
        for start, end, label in row_spans:
            inside = [i for i, (first, last) in enumerate(places) if first < end and last > start]
            where = f"{name} row {row}: the span {(start, end, label)}"
            if not inside:
                raise ValueError(f"{where} holds no word")
            for i in inside:
                if places[i][0] < start or places[i][1] > end:
                    word = text[slice(*places[i])]
                    raise ValueError(f"{where} cuts the word {word!r} at {places[i]} apart: pass rows of words instead")
            tags[inside[0] : inside[-1] + 1] = entity_tags(label, len(inside), scheme)
        tagged.append(tags)
    return tagged


def entity_tags(label: str, n_words: int, scheme: str) -> list[str]:
    """Tags of the words of one entity."""
    if scheme == "plain":
        return [label] * n_words
    prefixes = "B" + "I" * (n_words - 1)
    if scheme == "IOBES":
        prefixes = "S" if n_words == 1 else prefixes[:-1] + "E"
    return [f"{prefix}-{label}" for prefix in prefixes]


def spans_of_tags(tags: Sequence[str], places: Sequence[tuple[int, int]], scheme: str) -> list[Span]:
    """Spans of the entities that the tags of a text's words describe."""
    return [(places[start][0], places[end - 1][1], label) for label, start, end in entities(tags, scheme)]


def has_dicts(y: Any) -> bool:
    """Whether the spans of y are dicts, not tuples."""
    return any(isinstance(span, Mapping) for cell in _cells(y, "y") for span in cell)


def object_array(rows: Sequence[Any]) -> np.ndarray:
    """1-D array of these objects, even if all have the same length."""
    return np.fromiter(rows, dtype=object, count=len(rows))


def _cells(X: Any, name: str) -> list[Any]:
    """The rows of X as Python objects, at least one."""
    readable = hasattr(X, "__len__") and hasattr(X, "__getitem__")
    if isinstance(X, str | bytes | Mapping | Iterator) or not readable:
        check_texts(X, name)  # raises, saying what is wrong
    if hasattr(X, "columns"):  # pandas and polars frames, Arrow tables
        columns = split_columns(X, name)
        if len(columns) != 1:
            raise ValueError(f"{name} must have one column of word rows or texts, got {len(columns)} columns")
        X = columns[0]
    if isinstance(X, np.ndarray) and X.ndim == 2:
        in_cells = X.shape[1] == 1 and len(X) and not isinstance(X[0, 0], str)
        X = X[:, 0] if in_cells else list(X)  # a column of lists, or as many words in each row
    cells = as_list(X)
    if not cells:
        raise ValueError(f"{name} has no rows: at least one is needed")
    return cells


def _target_cells(y: Any, rows: TokenRows, name: str) -> list[Any]:
    cells = _cells(y, name)
    if len(cells) != len(rows):
        raise ValueError(f"{name} has {len(cells)} rows for {len(rows)} rows of X")
    return cells


def _as_sequence(cell: Any) -> Sequence[Any] | np.ndarray | None:
    """The values of a cell that holds several, from any library (the parts of a groupby are Series); else None."""
    if isinstance(cell, list | tuple | np.ndarray):
        return cell
    is_column = hasattr(cell, "tolist") or hasattr(cell, "to_list") or hasattr(cell, "to_pylist")
    return as_list(cell) if is_column and not isinstance(cell, np.generic) else None


def _words(cell: Any, row: int, name: str) -> list[str]:
    words = _as_sequence(cell)
    if words is None:
        raise ValueError(f"{name} row {row}: expected a list of words, got {describe(cell)}")
    for i, word in enumerate(words):
        if not isinstance(word, str):
            raise ValueError(f"{name} row {row}, word {i}: expected a word, got {describe(word)}")
    return list(map(plain_str, words))


def _span(span: Any, length: int, where: str) -> Span:
    if isinstance(span, Mapping) and not set(SPAN_KEYS) <= set(span):
        raise ValueError(f"{where}: expected a span with 'start', 'end' and 'label', got {describe(span)}")
    values = [span[key] for key in SPAN_KEYS] if isinstance(span, Mapping) else span
    if not isinstance(values, list | tuple | np.ndarray) or len(values) != 3:
        raise ValueError(f"{where}: expected a span (start, end, label), got {describe(span)}")
    start, end, label = values
    if not (
        isinstance(start, int | np.integer) and isinstance(end, int | np.integer) and isinstance(label, str) and label
    ):
        raise ValueError(f"{where}: a span is two whole numbers and a label, got {describe(span)}")
    if label == "O":
        raise ValueError(f"{where}: 'O' is what stands outside of spans, got {describe(span)}")
    if not 0 <= start < end <= length:
        raise ValueError(f"{where}: the span {describe(span)} does not lie within the {length} characters of the text")
    return int(start), int(end), plain_str(label)
