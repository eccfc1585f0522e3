"""What people pass as texts becomes one list of strings, or two for pairs.

Accepted: a list, tuple, NumPy array, pandas Series or Index, polars Series, Arrow array of strings; a one-column DataFrame,
Arrow table or 2-D array; for pairs two columns or rows of two strings, in any of these; and what turns itself into one of
these (`known_container`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from numbers import Number
from typing import Any

from sklearn.utils.validation import check_is_fitted

from skxlmr.utils._containers import known_container
from skxlmr.utils._tables import as_list, column_names, describe, is_missing, plain_str, split_columns
from skxlmr.utils._warnings import warn_once_per_call


@dataclass(frozen=True)
class Texts:
    """Texts of the rows of X.

    Attributes
    ----------
    first : list of str
    second : list of str, or None unless the rows are pairs
    side_by_side : int
        How many columns of single texts follow one another in ``first``.
    """

    first: list[str]
    second: list[str] | None = None
    side_by_side: int = 1

    def __len__(self) -> int:
        return len(self.first) // self.side_by_side

    @property
    def n_columns(self) -> int:
        """1 for texts, 2 for pairs."""
        return self.side_by_side if self.second is None else 2


class NoTextsError(ValueError):
    """A column holds no text at all, but numbers or dates."""


def check_texts(
    X: Any, name: str = "X", pairs_allowed: bool = True, missing: str | None = None, rows_needed: bool = True
) -> Texts:
    """Return the texts of X.

    Parameters
    ----------
    X : list, array, Series, DataFrame or table of str
    name : str
        Name of X in error messages.
    pairs_allowed : bool
        Whether rows may be pairs of texts.
    missing : {"error", "empty"}, optional
        What the parameter ``missing`` of an estimator that has it says: an error, or an empty text, where a value is missing.
    rows_needed : bool
        Whether no rows are an error.

    Raises
    ------
    TypeError
        If X is one string, a mapping, a number or an iterator.
    ValueError
        If X has a wrong number of columns or, where they are needed, no rows; or a value that is not a string: names the
        first bad row.
    """
    columns = text_columns(X, name, missing)
    limit = 2 if pairs_allowed else 1
    if not 1 <= len(columns) <= limit:
        expected = "one column of texts or two columns of pairs" if pairs_allowed else "one column of texts"
        raise ValueError(f"{name} must have {expected}, got {len(columns)} columns")
    if rows_needed:
        check_rows(columns[0], name)
    return Texts(columns[0], columns[1] if len(columns) == 2 else None)


def text_columns(X: Any, name: str, missing: str | None = None) -> list[list[str]]:
    """The columns of X, however many, as lists of str; see :func:`check_texts`."""
    if isinstance(X, str | bytes):
        raise TypeError(f"{name} must hold one text per row, got a single {type(X).__name__}: wrap it in a list")
    if isinstance(X, Mapping | set | frozenset):
        raise TypeError(f"{name} must be a list, array, Series or DataFrame of texts, got a {type(X).__name__}")
    if isinstance(X, Iterator):
        raise TypeError(f"{name} is an iterator, which can be read only once: pass list({name})")
    X = known_container(X, name)
    columns = [as_list(column) for column in split_columns(X, name)]
    for column in columns:
        if set(map(type, column)) - {str}:
            column[:] = [_read(value, missing) for value in column]
            bad = next((row for row, value in enumerate(column) if not isinstance(value, str)), None)
            if bad is not None:
                _refuse(column, bad, X, name, missing, columns)
    return columns


def check_fitted(estimator: Any, attribute: str = "module_") -> None:
    """Raise NotFittedError before a fit; says how the head of a checkpoint is used, where that is possible."""
    if hasattr(estimator, attribute):
        return
    do = "call fit"
    if hasattr(estimator, "from_checkpoint"):
        has_head = not getattr(estimator, "_trains_vectors", False)
        use = (
            "to predict with the head that the checkpoint has"
            if has_head
            else "for the vectors that the checkpoint makes"
        )
        do += f", or %(name)s.from_checkpoint {use}"
    check_is_fitted(estimator, attribute, msg=f"This %(name)s instance is not fitted yet: {do}")


def check_rows(rows: Any, name: str) -> None:
    """Refuse no rows."""
    if len(rows) == 0:
        raise ValueError(f"{name} has no rows: at least one text is needed")


def warn_of_category(X: Any, texts: Texts, name: str) -> None:
    """Warn if one of two columns looks like a category: at least five rows for each of its values, all of them short."""
    if texts.second is None or len(texts) < 10 or not (column_names(X) or getattr(X, "ndim", 1) == 2):
        return
    names = [repr(each) for each in column_names(X)]
    for k, (column, other) in enumerate([(texts.second, texts.first), (texts.first, texts.second)]):
        values = list(dict.fromkeys(column))
        few = 5 * len(values) <= len(texts) and 2 * len(values) <= len(set(other))
        if not few or not all(len(value) <= 24 and len(value.split()) <= 2 for value in values):
            continue
        said = names[1 - k] if names else f"the {('second', 'first')[k]} column"
        select = f"{name}[{names[k]}]" if names else f"{name}[:, {k}]"
        warn_once_per_call(
            f"{name} has two columns, which are read as pairs of texts, but {said} looks like a category ({len(values)} "
            f"distinct values in {len(texts)} rows, such as {values[0]!r}): pass {select} to read its texts alone, or set "
            "pairs=True if pairs are meant",
            about="category",
        )
        return


def _read(value: Any, missing: str | None) -> Any:
    if isinstance(value, str):
        return plain_str(value)
    return "" if missing == "empty" and is_missing(value) else value


def _refuse(column: list[Any], row: int, X: Any, name: str, missing: str | None, columns: list[list[Any]]) -> None:
    """Raise an error about the first value that is no text, with the code that mends it."""
    value, hint = column[row], ""
    such_as = (
        "" if len(columns) > 1 and not column_names(X) else ", such as with "
    )  # code for a list of pairs would be long
    if is_missing(value):
        hint = f": fill or drop it first{such_as and such_as + _filling(X, name)}"
        hint += ", or let missing='empty' read it as an empty text" if missing else ""
    elif isinstance(value, bytes):
        hint = f": decode it first{such_as and such_as + _decoding(X, name)}"
    elif isinstance(value, Number) or hasattr(value, "year"):
        known = [each for each in column if not is_missing(each)]
        if not any(isinstance(each, str) for each in known):
            pairs = zip(column_names(X), columns, strict=False)
            of_texts = [key for key, each in pairs if any(isinstance(text, str) for text in each)]
            do = f"; pass its column of texts, {name}[{of_texts[0]!r}]" if of_texts else ""
            if not do and name.startswith("X"):
                do = "; are X and y swapped?"
            raise NoTextsError(
                f"{name} row {row}: expected a text, got {describe(value)}: the column holds no texts{do}"
            )
        hint = f": convert it first{such_as and such_as + _converting(X, name)}"
    raise ValueError(f"{name} row {row}: expected a text, got {describe(value)}{hint}")


def _filling(X: Any, name: str) -> str:
    """Code that replaces missing values, by the kind of container."""
    of_y = " (with the same rows of y)" if name == "X" else ""
    dtypes = [
        str(dtype) for dtype in (getattr(X, "dtypes", []) if hasattr(X, "columns") else [getattr(X, "dtype", "")])
    ]
    if hasattr(X, "iloc"):
        is_category = "category" in dtypes
        return f"{name}.astype(object).fillna('')" if is_category else f"{name}.fillna('') or {name}.dropna(){of_y}"
    if any(dtype.startswith("Enum") for dtype in dtypes):  # polars leaves a null where '' is not among the values
        return f"{name}.cast(str).fill_null('')"
    if hasattr(X, "fill_null"):
        drop = "drop_nulls" if hasattr(X, "drop_nulls") else "drop_null"
        return f"{name}.fill_null('') or {name}.{drop}(){of_y}"
    return f"[text if isinstance(text, str) else '' for text in {name}]"


def _decoding(X: Any, name: str) -> str:
    if hasattr(X, "iloc") and not hasattr(X, "columns"):
        return f"{name}.str.decode('utf-8')"
    return f"[text.decode('utf-8') for text in {name}]"


def _converting(X: Any, name: str) -> str:
    return f"{name}.astype(str)" if hasattr(X, "iloc") else f"list(map(str, {name}))"
