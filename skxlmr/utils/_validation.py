"""What people pass as texts becomes one list of strings, or two for pairs.

Accepted: a list, tuple, NumPy array, pandas Series or Index, polars Series, Arrow array of strings; a one-column DataFrame,
Arrow table or 2-D array; and for pairs two columns or rows of two strings, in any of these.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from skxlmr.utils._tables import as_list, check_text, split_columns


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
        Name of X in error messages.
    pairs_allowed : bool
        Whether rows may be pairs of texts.

    Raises
    ------
    TypeError
        If X is one string, a mapping, a number or an iterator.
    ValueError
        If X has no rows, a wrong number of columns, or a value that is not a string; names the first bad row.
    """
    if isinstance(X, str | bytes):
        raise TypeError(f"{name} must hold one text per row, got a single {type(X).__name__}: wrap it in a list")
    if isinstance(X, Mapping | set | frozenset):
        raise TypeError(f"{name} must be a list, array, Series or DataFrame of texts, got a {type(X).__name__}")
    if isinstance(X, Iterator):
        raise TypeError(f"{name} is an iterator, which can be read only once: pass list({name})")
    columns = [as_list(column) for column in split_columns(X, name)]
    limit = 2 if pairs_allowed else 1
    if not 1 <= len(columns) <= limit:
        expected = "one column of texts or two columns of pairs" if pairs_allowed else "one column of texts"
        raise ValueError(f"{name} must have {expected}, got {len(columns)} columns")
    if len(columns[0]) == 0:
        raise ValueError(f"{name} has no rows: at least one text is needed")
    for column in columns:
        if set(map(type, column)) - {str}:
            column[:] = [check_text(value, row, name) for row, value in enumerate(column)]
    return Texts(*columns)
