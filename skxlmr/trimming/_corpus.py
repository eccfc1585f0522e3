"""The texts that a vocabulary is trimmed to, by language, in batches, and more than once."""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from tempfile import TemporaryFile
from typing import Any

import numpy as np

from skxlmr.estimators._tokens.rows import check_token_rows
from skxlmr.utils._containers import known_container
from skxlmr.utils._tables import as_list, column_names, is_table, plain_str
from skxlmr.utils._validation import text_columns

ALL = "all texts"  # where languages are not told apart
BATCH = 4096  # texts


class Corpus:
    """Texts that can be read as often as needed, inside a ``with`` block.

    Parameters
    ----------
    texts : list, array, Series, DataFrame, iterable of batches, or mapping of str to one of these
        As `trim_vocabulary` takes them. What can be read only once is copied to a temporary file on disk while it is read.

    Raises
    ------
    TypeError
        If it is one string, or the name of a language is not a str.
    ValueError
        If there is nothing in it; while reading, if a row is not a text.
    """

    def __init__(self, texts: Any):
        self.has_languages = isinstance(texts, Mapping)
        named = dict(texts) if isinstance(texts, Mapping) else {ALL: texts}
        if not named:
            raise ValueError("texts has no languages: pass a mapping of each language to its texts, or the texts alone")
        wrong = next((language for language in named if not isinstance(language, str)), None)
        if wrong is not None:
            raise TypeError(
                f"the keys of texts must be names of languages, got {wrong!r:.80} of type {type(wrong).__name__}"
            )
        self._parts = {
            plain_str(language): _part(X, f"texts[{language!r}]" if self.has_languages else "texts")
            for language, X in named.items()
        }

    def __enter__(self) -> "Corpus":
        return self

    def __exit__(self, *error: object) -> None:
        for part in self._parts.values():
            if isinstance(part, _Once):
                part.close()

    @property
    def languages(self) -> list[str]:
        """Names of the languages, in the order given."""
        return list(self._parts)

    def batches(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the name of a language and some of its texts, never none."""
        for language, part in self._parts.items():
            for batch in part:
                if batch:
                    yield language, batch


def columns_of(X: Any, name: str) -> list[list[str]]:
    """The columns of X as lists of str; all words of a tagger's rows are one column.

    Raises
    ------
    TypeError, ValueError
        If there is anything else in X; names the first bad row.
    """
    is_single = isinstance(X, str | bytes) or getattr(X, "shape", None) == ()
    if is_single or not hasattr(X, "__getitem__") or isinstance(X, Mapping):
        return text_columns(X, name)  # raises, saying what is wrong
    X = known_container(X, name)
    if _has_rows_of_words(X):
        return [[word for row in check_token_rows(X, name).words for word in row]]
    return text_columns(X, name)


def _has_rows_of_words(X: Any) -> bool:
    """Whether X holds lists that are no pairs: they are in the cells of a column, or not all of one length."""
    is_frame = is_table(X)
    if is_frame and len(column_names(X)) != 1:
        return False
    cells = as_list(X)
    lengths = {len(cell) if isinstance(cell, list | tuple | np.ndarray) else -1 for cell in cells}
    return min(lengths, default=-1) >= 0 and (is_frame or len(lengths) > 1)


def _part(X: Any, name: str) -> Iterable[list[str]]:
    has_rows = hasattr(X, "__len__") and hasattr(X, "__getitem__")
    is_once = isinstance(X, Iterator) or not (has_rows or isinstance(X, str | bytes | Mapping | set | frozenset))
    if is_once and hasattr(X, "__iter__"):
        return _Once(X, name)
    return _Held(columns_of(X, name))


class _Held:
    """Columns of texts in memory."""

    def __init__(self, columns: list[list[str]]):
        self._columns = columns

    def __iter__(self) -> Iterator[list[str]]:
        for column in self._columns:
            for start in range(0, len(column), BATCH):
                yield column[start : start + BATCH]


class _Once:
    """Texts, or batches of texts, of an iterable that is read once; the second time they come from a file."""

    def __init__(self, iterable: Iterable[Any], name: str):
        self._iterable, self._name = iterable, name
        self._file: Any = None

    def __iter__(self) -> Iterator[list[str]]:
        if self._file is not None:
            self._file.seek(0)
            yield from map(json.loads, self._file)
            return
        self._file = TemporaryFile("w+", encoding="ascii")  # noqa: SIM115  # as long as the corpus
        for batch in self._read():
            self._file.write(json.dumps(batch) + "\n")  # half a surrogate pair is escaped
            yield batch

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()

    def _read(self) -> Iterator[list[str]]:
        rows = iter(self._iterable)
        n = 0
        for first in rows:
            if not isinstance(first, str):
                for column in columns_of(first, f"batch {n} of {self._name}"):
                    yield from _Held([column])
                n += 1
                continue
            batch = [first, *islice(rows, BATCH - 1)]
            wrong = next((i for i, text in enumerate(batch) if not isinstance(text, str)), None)
            if wrong is not None:
                raise ValueError(
                    f"{self._name} item {n + wrong}: expected a text as before it, got {type(batch[wrong]).__name__}"
                )
            n += len(batch)
            yield [plain_str(text) for text in batch]
