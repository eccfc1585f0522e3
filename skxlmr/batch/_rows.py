"""The texts of a batch: which rows have one, and what to say of those that have none."""

from typing import Any, NamedTuple

import numpy as np

from skxlmr.utils._tables import describe, is_missing, plain_str

MISSING = ("error", "null")


class RowError(ValueError):
    """A row of a table can't be used.

    Parameters
    ----------
    row : int
        Counted from 0.
    reason : str
        What is wrong with it.
    hint : str
        What to do.
    """

    def __init__(self, row: int, reason: str, hint: str = ""):
        self.row, self.reason, self.hint = row, reason, hint
        super().__init__(row, reason, hint)

    def __str__(self) -> str:
        return f"row {self.row}: {self.reason}" + (f": {self.hint}" if self.hint else "")


class NoTextError(RowError):
    """A row has no text."""


class RowTexts(NamedTuple):
    """Texts of the rows that have all of theirs.

    Attributes
    ----------
    columns : list of list of str
    present : ndarray of bool, of shape (n_rows,)
        Which rows these are.
    """

    columns: list[list[str]]
    present: np.ndarray


def read_texts(columns: list[list[Any]], names: list[str], missing: str, reads_missing: bool) -> RowTexts:
    """The texts of columns of a table.

    Parameters
    ----------
    columns : list of list
        One list for each column, of any values.
    names : list of str
        Names of the columns, for messages.
    missing : {"error", "null"}
        Whether a row without text is an error, or left out.
    reads_missing : bool
        Whether the estimator itself reads a missing text, as an empty one; then nothing is an error with ``"error"``.

    Raises
    ------
    RowError
        If a value is not a text, or missing with ``"error"``.
    """
    present = np.ones(len(columns[0]), bool)
    read: list[list[str]] = []
    for column, name in zip(columns, names, strict=True):
        if set(map(type, column)) - {str}:
            column = list(column)
            for row, value in enumerate(column):
                if isinstance(value, str):
                    column[row] = plain_str(value)
                elif not is_missing(value):
                    hint = "decode it first" if isinstance(value, bytes) else "convert it first"
                    raise RowError(row, f"column {name!r}: expected a text, got {describe(value)}", hint)
                elif missing == "error" and not reads_missing:
                    hint = "fill or drop it first, or pass missing='null' for null in its result"
                    raise NoTextError(row, f"column {name!r} has no text, but {describe(value)}", hint)
                else:
                    column[row] = ""
                    present[row] &= missing == "error"
        read.append(column)
    if not present.all():
        rows = np.flatnonzero(present).tolist()
        read = [[column[row] for row in rows] for column in read]
    return RowTexts(read, present)
