"""What the argument ``target`` may be: one for all rows, or one for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from skxlmr.utils._tables import as_list, plain


def per_row(value: Any, n_rows: int, name: str) -> list[Any]:
    """The value of each row: those of a list, array or Series, else the same for all.

    Raises
    ------
    ValueError
        If there is not one for each row.
    """
    is_list = isinstance(value, list | np.ndarray) or hasattr(value, "iloc") or hasattr(value, "to_list")
    if not is_list or (isinstance(value, np.ndarray) and value.ndim == 0):
        return [plain(value)] * n_rows
    values = list(map(plain, as_list(value)))
    if len(values) != n_rows:
        raise ValueError(f"{name} has {len(values)} values for {n_rows} rows of X: pass one for all, or one for each")
    return values


def codes_of(targets: list[Any], classes: Any, what: str = "class") -> np.ndarray:
    """Numbers of these labels among the classes.

    Raises
    ------
    ValueError
        If one is not among them; names the row.
    """
    known = list(map(plain, np.asarray(classes).tolist()))
    code_of = {label: code for code, label in enumerate(known)}
    for row, target in enumerate(targets):
        if not _is_key(target) or target not in code_of:
            shown = f"{', '.join(map(repr, known[:10]))}{', ...' if len(known) > 10 else ''}"
            raise ValueError(f"target of row {row}: {target!r:.80} is not a {what} of the estimator, which has {shown}")
    return np.array([code_of[target] for target in targets], np.int64)


def numbers_of(targets: list[Any], limit: Callable[[int], int], what: str) -> np.ndarray:
    """These as numbers from 0 to before the limit of their row.

    Raises
    ------
    ValueError
        If one is not; names the row.
    """
    for row, target in enumerate(targets):
        if not isinstance(target, int) or isinstance(target, bool) or not 0 <= target < limit(row):
            raise ValueError(
                f"target of row {row}: expected the number of {what}, 0 to {limit(row) - 1}, got {target!r:.80}"
            )
    return np.array(targets, np.int64)


def _is_key(target: Any) -> bool:
    try:
        hash(target)
    except TypeError:
        return False
    return True
