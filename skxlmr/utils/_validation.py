"""What people pass as texts becomes one list of strings, or two for pairs.

Accepted: a list, tuple, NumPy array, pandas Series or Index, polars Series, Arrow array of strings; a one-column DataFrame,
Arrow table or 2-D array; and for pairs two columns or rows of two strings. None of these libraries is imported here: tables
are told by their columns.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Texts:
    """Texts of the rows of X.

    Attributes
    ----------
    first : list of str
    second : list of str, or None unless the rows are pairs
    """

    first: list[str]
    second: list[str] | None = None

    def __len__(self) -> int:
        return len(self.first)

    @property
    def n_columns(self) -> int:
        """1 for texts, 2 for pairs."""
        return 1 if self.second is None else 2


def check_texts(X: Any, name: str = "X", pairs_allowed: bool = True) -> Texts:
    """Return the texts of X.

    Parameters
    ----------
    X : list, array, Series, DataFrame or table of str
    name : str
        What error messages call it.
    pairs_allowed : bool
        Whether rows may be pairs of texts.

    Raises
    ------
    TypeError
        If X is one string, a mapping, a number or an iterator.
    ValueError
        If X has no rows, a wrong number of columns, or a value that is no string; names the first bad row.
    """
    if isinstance(X, str | bytes):
        raise TypeError(f"{name} must hold one text per row, got a single {type(X).__name__}: wrap it in a list")
    if isinstance(X, Mapping | set | frozenset):
        raise TypeError(f"{name} must be a list, array, Series or DataFrame of texts, got a {type(X).__name__}")
    if isinstance(X, Iterator):
        raise TypeError(f"{name} is an iterator, which can be read only once: pass list({name})")
    columns = [_values(column) for column in _columns(X, name)]
    limit = 2 if pairs_allowed else 1
    if not 1 <= len(columns) <= limit:
        expected = "one column of texts or two columns of pairs" if pairs_allowed else "one column of texts"
        raise ValueError(f"{name} must have {expected}, got {len(columns)} columns")
    if len(columns[0]) == 0:
        raise ValueError(f"{name} has no rows: at least one text is needed")
    for column in columns:
        if set(map(type, column)) - {str}:
            column[:] = [_check_text(value, row, name) for row, value in enumerate(column)]
    return Texts(*columns)


def _columns(X: Any, name: str) -> list[Any]:
    """Split what was passed into its columns."""
    # Before any look at columns: a lazy frame has them too.
    if not (hasattr(X, "__len__") and hasattr(X, "__getitem__")):
        raise TypeError(f"{name} must be a list, array, Series or DataFrame of texts, got a {type(X).__name__}")
    if hasattr(X, "columns"):  # pandas and polars frames, Arrow tables
        if hasattr(X, "iloc"):
            return [X.iloc[:, i] for i in range(X.shape[1])]
        return [X[:, i] if hasattr(X, "to_series") else X.column(i) for i in range(X.shape[1])]
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) != 1:
        if len(shape) == 2 and isinstance(X, np.ndarray):
            return [X[:, i] for i in range(shape[1])]
        raise ValueError(f"{name} must have one text per row, got a {type(X).__name__} of shape {tuple(shape)}")
    first = X[0] if isinstance(X, list | tuple) and X else None
    if isinstance(first, list | tuple) or (isinstance(first, np.ndarray) and first.ndim == 1):
        return _transpose(X, len(first), name)
    return [X]


def _transpose(X: list | tuple, width: int, name: str) -> list[list[Any]]:
    """Columns of a list of pairs (or of one-element rows)."""
    for row, values in enumerate(X):
        if not isinstance(values, list | tuple | np.ndarray) or len(values) != width:
            raise ValueError(f"{name} row {row}: expected {width} texts as in row 0, got {_describe(values)}")
    return [[values[i] for values in X] for i in range(width)]


def _values(column: Any) -> list[Any]:
    """A column as a list of Python objects."""
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            return getattr(column, method)()
    return list(column)


def _check_text(value: Any, row: int, name: str) -> str:
    if isinstance(value, str):
        return str(value)  # np.str_ and other subclasses become plain strings
    raise ValueError(f"{name} row {row}: expected a text, got {_describe(value)}")


def _describe(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, float) and value != value:
        return "NaN (a missing value): fill or drop it first"
    shown = repr(value)
    return f"{shown if len(shown) <= 60 else shown[:57] + '...'} of type {type(value).__name__}"
