"""Read what users pass as answers to questions: texts with their start positions.

A row may be a text; a tuple (text, start); a dict with ``text`` and ``answer_start``, both of which may be lists as in SQuAD's
``answers``; a list of any of these, all of which are right; or None, NaN, an empty text or an empty list for "no answer".
"""

from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from skxlmr.utils._containers import known_container
from skxlmr.utils._tables import as_list, column_names, is_missing, name_of, plain_str

AnswerList = list[tuple[str, int | None]]  # texts and their start in the context, if known


def read_answers(y: Any, name: str = "y") -> list[AnswerList]:
    """Answers of every row; an empty list if there is none.

    Raises
    ------
    TypeError
        If y is not a collection of rows.
    ValueError
        If a row has another form; the message names the row.
    """
    return [_answers_of(value, row, name) for row, value in enumerate(_rows(y, name))]


def _rows(y: Any, name: str) -> list[Any]:
    """One value per row; a row of a frame is (text, answer_start), or its only value."""
    if isinstance(y, str | bytes | Mapping | Iterator) or not hasattr(y, "__len__"):
        expected = "a list, Series, array or DataFrame with one answer per row"
        raise TypeError(f"{name} must be {expected}, got {type(y).__name__}")
    y = known_container(y, name)
    if not hasattr(y, "columns"):
        if isinstance(y, np.ndarray) and y.dtype.kind == "U" and y.shape[1:] == (2,) and _are_starts(y[:, 1]):
            raise ValueError(
                f"{name} is an array of strings, in which the starts have become strings too, such as {str(y[0, 1])!r}: pass a "
                "list of tuples, or an array with dtype=object"
            )
        return as_list(y)
    names = list(map(name_of, column_names(y)))
    if "text" in names:
        texts = as_list(y["text"])
        starts = as_list(y["answer_start"]) if "answer_start" in names else [None] * len(texts)
        return list(zip(texts, starts, strict=True))
    if len(names) != 1:
        raise ValueError(f"{name} must have the columns text and answer_start, found {', '.join(names) or 'none'}")
    return as_list(y[names[0]])


def _are_starts(texts: np.ndarray) -> bool:
    return all(text.isdecimal() or text in ("", "None", "nan") for text in texts.tolist())


def _answers_of(value: Any, row: int, name: str) -> AnswerList:
    if is_missing(value):
        return []
    if isinstance(value, str):
        return [(plain_str(value), None)] if value.strip() else []
    if isinstance(value, Mapping):
        if "text" not in value:
            keys = ", ".join(map(repr, value))
            raise ValueError(f"{name} row {row}: expected an answer with 'text', found the keys {keys}")
        texts, starts = value["text"], value.get("answer_start")
        if not isinstance(texts, list | tuple | np.ndarray):
            return _answers_of((texts, starts), row, name)
        starts = [None] * len(texts) if starts is None else starts
        if not isinstance(starts, list | tuple | np.ndarray) or len(starts) != len(texts):
            raise ValueError(f"{name} row {row}: expected as many values in 'answer_start' as in 'text', {len(texts)}")
        return [answer for pair in zip(texts, starts, strict=True) for answer in _answers_of(pair, row, name)]
    if isinstance(value, list | tuple | np.ndarray):
        has_start = isinstance(value, tuple) or (len(value) == 2 and isinstance(value[1], Real | None))
        if len(value) == 2 and has_start and (isinstance(value[0], str) or is_missing(value[0])):
            text, start = value
            return [] if is_missing(text) or not text.strip() else [(plain_str(text), _start_of(start, row, name))]
        return [answer for item in value for answer in _answers_of(item, row, name)]
    raise ValueError(f"{name} row {row}: expected an answer (text and start, or None), found {value!r:.60}")


def _start_of(value: Any, row: int, name: str) -> int | None:
    if is_missing(value):
        return None
    # a column with missing values stores its integers as floats
    is_whole = isinstance(value, Integral) or (isinstance(value, Real) and float(value).is_integer())
    if isinstance(value, bool | np.bool_) or not is_whole or value < 0:
        expected = "answer_start to be a character position, counted from 0"
        raise ValueError(f"{name} row {row}: expected {expected}, found {value!r}")
    return int(value)
