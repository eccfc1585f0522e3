"""What people pass to a tagger: rows of words with a tag for each word, or texts."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skxlmr.metrics._schemes import IGNORED, refuse_ignored_text
from skxlmr.utils._containers import known_container
from skxlmr.utils._tables import as_list, describe, is_missing, plain, plain_str, split_columns
from skxlmr.utils._validation import check_texts
from skxlmr.utils._words import cut_words


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


def check_token_rows(X: Any, name: str = "X", missing: str | None = None, rows_needed: bool = True) -> TokenRows:
    """Rows of words, from any container.

    Raises
    ------
    TypeError
        If X is one string, a mapping, a number or an iterator.
    ValueError
        If X has no rows or several columns, or holds anything other than words or texts; names the first bad row.
    """
    cells = cells_of(X, name, rows_needed)
    first = next((cell for cell in cells if not is_missing(cell)), "") if missing == "empty" else (cells or [""])[0]
    if isinstance(first, str):
        texts = check_texts(cells, name, pairs_allowed=False, missing=missing, rows_needed=False).first
        places = [cut_words(text) for text in texts]
        return TokenRows(
            [[text[start:end] for start, end in row] for text, row in zip(texts, places, strict=True)], texts, places
        )
    return TokenRows([_words(cell, row, name, missing) for row, cell in enumerate(cells)])


def check_tags(y: Any, rows: TokenRows, name: str = "y") -> list[list[Any]]:
    """Tags of each row of words; -100 stands for a word without one.

    Raises
    ------
    ValueError
        If there is not one tag, str or int, for each word; names the row.
    """
    cells = target_cells(y, rows, name)
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
                hint = f": tag it, or leave it out of the loss with {IGNORED!r}" if is_missing(tag) else ""
                raise ValueError(
                    f"{name} row {row}, word {word}: expected a tag, str or int, got {describe(tag)}{hint}"
                )
        refuse_ignored_text(found, f"{name} row {row}")
        kinds |= {type(tag).__name__ for tag in found if tag != IGNORED}
        tags.append(found)
    if len(kinds) > 1:
        raise ValueError(f"{name} mixes tags of the types {', '.join(sorted(kinds))}: use one type")
    return tags


def object_array(rows: Sequence[Any]) -> np.ndarray:
    """1-D array of these objects, even if all have the same length."""
    return np.fromiter(rows, dtype=object, count=len(rows))


def cells_of(X: Any, name: str, rows_needed: bool = True) -> list[Any]:
    """The rows of X as Python objects."""
    X = known_container(X, name)
    readable = hasattr(X, "__len__") and hasattr(X, "__getitem__") and getattr(X, "shape", None) != ()
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
    if not cells and rows_needed:
        raise ValueError(f"{name} has no rows: at least one is needed")
    return cells


def target_cells(y: Any, rows: TokenRows, name: str) -> list[Any]:
    """The rows of y as Python objects, as many as there are rows of X."""
    cells = cells_of(y, name)
    if len(cells) != len(rows):
        raise ValueError(f"{name} has {len(cells)} rows for {len(rows)} rows of X")
    return cells


def _as_sequence(cell: Any) -> Sequence[Any] | np.ndarray | None:
    """The values of a cell that holds several, from any library (the parts of a groupby are Series); else None."""
    if isinstance(cell, list | tuple | np.ndarray):
        return cell
    is_column = hasattr(cell, "tolist") or hasattr(cell, "to_list") or hasattr(cell, "to_pylist")
    return as_list(cell) if is_column and not isinstance(cell, np.generic) else None


def _words(cell: Any, row: int, name: str, missing: str | None) -> list[str]:
    words = [] if missing == "empty" and is_missing(cell) else _as_sequence(cell)
    if words is None:
        hint = ": fill or drop it first, or let missing='empty' read it as no words" if is_missing(cell) else ""
        raise ValueError(f"{name} row {row}: expected a list of words, got {describe(cell)}{hint}")
    for i, word in enumerate(words):
        if not isinstance(word, str):
            hint = ": fill it, or drop it with its tag" if is_missing(word) else ""
            raise ValueError(f"{name} row {row}, word {i}: expected a word, got {describe(word)}{hint}")
    return list(map(plain_str, words))
