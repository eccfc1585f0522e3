"""What tables and columns have in common, whichever library made them: pandas, polars, Arrow, NumPy or plain lists.

None of these libraries is imported here: tables are recognised by their attributes.
"""

from typing import Any

import numpy as np


def column_names(X: Any) -> list[Any]:
    """Column names of a frame or an Arrow table (whose ``columns`` are the data); an empty list for anything else."""
    return list(getattr(X, "column_names", getattr(X, "columns", ())))


def check_distinct_names(X: Any, name: str) -> None:
    """Refuse a table two of whose columns have the same name."""
    names = column_names(X)
    if len(set(names)) < len(names):
        twice = next(each for each in names if names.count(each) > 1)
        raise ValueError(f"{name} has {names.count(twice)} columns with the name {twice!r}: give each its own")


def is_table(X: Any) -> bool:
    """Whether X has two dimensions, as frames, Arrow tables and arrays with columns do."""
    return len(getattr(X, "shape", ())) == 2


def split_columns(X: Any, name: str) -> list[Any]:
    """Columns of whatever was passed."""
    # Checked before the columns: a lazy frame has them too.
    if not (hasattr(X, "__len__") and hasattr(X, "__getitem__")):
        raise TypeError(f"{name} must be a list, array, Series or DataFrame of texts, got a {type(X).__name__}")
    if hasattr(X, "columns"):  # pandas and polars frames, Arrow tables
        if hasattr(X, "iloc"):
            return [X.iloc[:, i] for i in range(X.shape[1])]
        if hasattr(X, "to_series"):
            return [X[:, i] for i in range(X.shape[1])]
        if hasattr(X, "column"):
            return [X.column(i) for i in range(X.shape[1])]
        raise TypeError(
            f"{name} is a {type(X).__name__}, which cannot be read here: pass a pandas DataFrame or an Arrow table"
        )
    shape = getattr(X, "shape", None)
    if shape is not None and len(shape) != 1:
        if len(shape) == 2 and isinstance(X, np.ndarray):
            return [X[:, i] for i in range(shape[1])]
        raise ValueError(f"{name} must have one text per row, got a {type(X).__name__} of shape {tuple(shape)}")
    rows = as_list(X)
    first = rows[0] if rows else None
    if isinstance(first, list | tuple) or (isinstance(first, np.ndarray) and first.ndim == 1):
        return _transpose(rows, len(first), name)
    return [rows]


def _transpose(rows: list[Any], width: int, name: str) -> list[list[Any]]:
    """Columns of a list of pairs (or of one-element rows)."""
    for row, values in enumerate(rows):
        if not isinstance(values, list | tuple | np.ndarray) or len(values) != width:
            raise ValueError(f"{name} row {row}: expected {width} texts as in row 0, got {describe(values)}")
    return [[values[i] for values in rows] for i in range(width)]


def as_list(column: Any) -> list[Any]:
    """A column as a list of Python objects.

    Raises
    ------
    ValueError
        If it is a table with several columns.
    """
    if hasattr(column, "columns"):  # whose items are names, or columns
        if len(names := column_names(column)) != 1:
            raise ValueError(f"expected one column, got a table with the columns {names}: pass one of them")
        column = split_columns(column, "the table")[0]
    for method in ("to_pylist", "to_list", "tolist"):
        if hasattr(column, method):
            return getattr(column, method)()
    return list(column)


def plain_str(value: str) -> str:
    """The content of a text whose class may print it as something else, as members of ``class X(str, Enum)`` do."""
    return value if type(value) is str else str.__str__(value)


def name_of(column: Any) -> str:
    """The name of a column as a text, whatever it is."""
    return plain_str(column) if isinstance(column, str) else str(column)


def plain(value: Any) -> Any:
    """A text, number or truth value as Python's own type, also from a subclass or NumPy's scalar; anything else as it is."""
    if isinstance(value, str):
        return plain_str(value)
    if isinstance(value, np.datetime64 | np.timedelta64):  # whose item may be an int
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):  # of NumPy or a tensor
        return value.item()
    if isinstance(value, int | float) and type(value) not in (bool, int, float):
        return int(value) if isinstance(value, int) else float(value)
    return value


def is_missing(value: Any) -> bool:
    """Whether a cell is None, NaN or pandas' NA or NaT."""
    return (
        value is None
        or type(value).__name__ in ("NAType", "NaTType")
        or (isinstance(value, float | np.floating) and value != value)
        or (isinstance(value, np.datetime64 | np.timedelta64) and bool(np.isnat(value)))
    )


def check_text(value: Any, where: str, what: str = "text") -> str:
    """The text that stands there as a plain string; anything else is an error that says where it is."""
    if isinstance(value, str):
        return plain_str(value)
    hint = ": fill or drop it first" if is_missing(value) else ": decode it first" if isinstance(value, bytes) else ""
    raise ValueError(f"{where}: expected a {what}, got {describe(value)}{hint}")


def excerpt(text: str) -> str:
    """The beginning of a text in quotes, for messages."""
    return repr(text) if len(text) <= 50 else f"{text[:50]!r}..."


def describe(value: Any) -> str:
    """A value as error messages show it."""
    if is_missing(value):
        return f"{'NaN' if isinstance(value, float | np.floating) else repr(value)} (a missing value)"
    shown = repr(value)
    return f"{shown if len(shown) <= 60 else shown[:57] + '...'} of type {type(value).__name__}"
