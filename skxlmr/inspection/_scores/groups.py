"""Groups of rows, as people pass them."""

from __future__ import annotations

from typing import Any

import numpy as np

from skxlmr.utils._tables import as_list, column_names, is_missing, plain

ALL_ROWS, MEAN_OF_GROUPS, ALL_OTHERS = "all rows", "mean of groups", "all others"
MOST_GROUPS = 1000


def n_rows_of(X: Any, name: str = "X") -> int:
    """How many rows it has.

    Raises
    ------
    ValueError, TypeError
        If it has none, or can't be counted.
    """
    shape = getattr(X, "shape", None)
    n_rows = int(shape[0]) if shape else len(X)
    if not n_rows:
        raise ValueError(f"{name} has no rows: there is nothing to score")
    return n_rows


def read_groups(groups: Any, X: Any, n_rows: int) -> dict[Any, np.ndarray]:
    """The rows of each group: in the order of their names, or of the categories of a categorical column.

    Parameters
    ----------
    groups : str or array-like of shape (n_rows,)
        A column of X, or the group of each row.
    X : rows
    n_rows : int

    Raises
    ------
    ValueError
        If there is no such column, the lengths differ, or a row has no group; names the row.
    """
    name = "groups"
    if isinstance(groups, str):
        names = column_names(X)
        if groups not in names:
            has = (
                f"it has {', '.join(map(str, names))}" if names else f"it is a {type(X).__name__} without named columns"
            )
            raise ValueError(f"groups={groups!r} is no column of X ({has}): pass the group of each row instead")
        name, groups = f"X[{groups!r}]", X[groups]
    if groups is None or len(getattr(groups, "shape", (0,))) != 1:
        raise ValueError(f"groups must be the group of each row, or the name of a column of X; got {groups!r:.80}")
    values = [plain(value) for value in as_list(groups)]
    if len(values) != n_rows:
        raise ValueError(f"{name} has {len(values)} rows, and X has {n_rows}: pass one group per row")
    missing = next((row for row, value in enumerate(values) if is_missing(value)), None)
    if missing is not None:
        raise ValueError(
            f"{name} row {missing} has no group: fill it, as with 'unknown', to score such rows as a group of their own, or "
            "drop these rows"
        )
    rows: dict[Any, list[int]] = {}
    for row, value in enumerate(values):
        rows.setdefault(value, []).append(row)
    if taken := rows.keys() & {ALL_ROWS, MEAN_OF_GROUPS, ALL_OTHERS}:
        raise ValueError(f"{name} has a group {min(taken)!r}, which is the name of a row of the result: rename it")
    if len(rows) > MOST_GROUPS:
        raise ValueError(f"{name} has {len(rows)} groups, more than {MOST_GROUPS}: is it the right column?")
    categories = getattr(getattr(groups, "cat", None), "categories", None)
    try:
        order = sorted(rows) if categories is None else [each for each in as_list(categories) if each in rows]
    except TypeError:  # of several kinds
        order = list(rows)
    return {group: np.array(rows[group]) for group in order}
