"""What people pass as prompts with choices becomes a list of prompts and a list of lists of choices.

Accepted: rows as dicts ``{"prompt": ..., "choices": [...]}`` or as ``(prompt, [choices])``; a DataFrame, Arrow table or 2-D
array of a column of prompts and either a column of lists or one column per choice, in which rows with fewer choices end in
missing values. Of a table with columns named prompt and choices no other column is read.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from skxlmr.utils._containers import known_container
from skxlmr.utils._tables import as_list, check_text, column_names, describe, is_missing, split_columns

COLUMNS = ["prompt", "choices"]


@dataclass(frozen=True)
class Choices:
    """Rows of a prompt and two or more choices.

    Attributes
    ----------
    prompts : list of str
    choices : list of list of str
    n_columns : int
        Columns in which they came.
    """

    prompts: list[str]
    choices: list[list[str]]
    n_columns: int

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def n_choices(self) -> np.ndarray:
        """Choices of each row, (n_rows,) int64."""
        return np.array([len(row) for row in self.choices], np.int64)


def choice_table(X: Any) -> Any:
    """The columns prompt and choices of a table that has both, else X itself."""
    names = column_names(X)
    if hasattr(X, "columns") and set(COLUMNS) <= set(names) and len(names) > 2:
        return X[COLUMNS] if hasattr(X, "iloc") else X.select(COLUMNS)  # polars frames and Arrow tables select
    return X


def check_choices(X: Any, name: str = "X") -> Choices:
    """Return the prompts and choices of X.

    Parameters
    ----------
    X : list of dict, list of (prompt, choices), DataFrame, table or 2-D array
    name : str
        What error messages call it.

    Raises
    ------
    TypeError
        If X is not one of these.
    ValueError
        If a row has no prompt, fewer than two choices or one that is not a text; names the first bad row.
    """
    if isinstance(X, str | bytes | Mapping | set | frozenset | Iterator):
        raise TypeError(f"{name} must be a list, DataFrame or array of prompts with choices, got a {type(X).__name__}")
    X = choice_table(known_container(X, name))
    columns = [as_list(column) for column in split_columns(X, name)]
    if len(columns) == 1 and columns[0]:
        columns = [list(column) for column in zip(*_unpacked(columns[0], name), strict=True)]
    elif len(columns) > 1:
        names = column_names(X)
        columns.insert(0, columns.pop(names.index("prompt") if "prompt" in names else 0))
    if not columns or not columns[0]:
        return Choices([], [], 2)
    prompts, *others = columns
    if len(others) == 1:
        choices = [_check_list(value, row, name) for row, value in enumerate(others[0])]
    else:
        choices = [_without_missing(values) for values in zip(*others, strict=True)]
    return Choices(
        [check_text(value, f"{name} row {row}") for row, value in enumerate(prompts)],
        [_check_row(values, row, name) for row, values in enumerate(choices)],
        len(columns),
    )


def _unpacked(rows: list[Any], name: str) -> Iterator[tuple[Any, Any]]:
    for row, value in enumerate(rows):
        if isinstance(value, Mapping) and {"prompt", "choices"} <= value.keys():
            yield value["prompt"], value["choices"]
        elif isinstance(value, list | tuple) and len(value) == 2:
            yield value[0], value[1]
        else:
            raise ValueError(
                f"{name} row {row}: expected a dict with 'prompt' and 'choices', or (prompt, [choices]), got "
                f"{describe(value)}"
            )


def _check_list(value: Any, row: int, name: str) -> list[Any]:
    if isinstance(value, list | tuple | np.ndarray):
        return list(value)
    raise ValueError(f"{name} row {row}: expected a list of choices, got {describe(value)}")


def _without_missing(values: tuple[Any, ...]) -> list[Any]:
    """The values up to the last that is there."""
    n_there = len(values)
    while n_there and is_missing(values[n_there - 1]):
        n_there -= 1
    return list(values[:n_there])


def _check_row(values: list[Any], row: int, name: str) -> list[str]:
    if len(values) < 2:
        raise ValueError(f"{name} row {row}: expected two or more choices, got {len(values)}")
    return [check_text(value, f"{name} row {row}, choice {i}") for i, value in enumerate(values)]
