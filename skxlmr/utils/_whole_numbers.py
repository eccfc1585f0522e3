"""Whole numbers and flags as people pass them: Python's, NumPy's, and floats that are whole."""

import operator
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray


def whole_number(value: Any, name: str, least: int | None = None) -> int:
    """Return the number as an int; TypeError if it is none, or not whole, ValueError if it is less than ``least``."""
    number = None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        number = int(value)
    elif not isinstance(value, bool | np.bool_):
        with suppress(TypeError):
            number = operator.index(value)
    if number is None:
        raise TypeError(f"{name} must be a whole number, found {value!r:.80}")
    if least is not None and number < least:
        raise ValueError(f"{name} must be {least} or more, got {number}")
    return number


def whole_numbers(values: Any, name: str) -> NDArray[np.int64]:
    """Return one row of numbers as an array; TypeError if it has several rows, or a number is not whole."""
    try:
        array = np.asarray(values)
    except ValueError:  # rows of different lengths
        array = np.empty((0, 0))
    if array.ndim != 1:
        found = "several rows: pass one at a time" if array.ndim else f"{values!r:.80}"
        raise TypeError(f"{name} must be one row of whole numbers, found {found}")
    if array.dtype.kind not in "iu":
        array = np.array([whole_number(value, f"{name}[{i}]") for i, value in enumerate(array.tolist())], np.int64)
    return array.astype(np.int64, copy=False)


def check_flags(**flags: Any) -> None:
    """Refuse another value than True or False: the name of a precision, say, would count as True.

    Raises
    ------
    TypeError
        Names the parameter.
    """
    for name, value in flags.items():
        if not isinstance(value, bool | np.bool_):
            raise TypeError(f"{name} must be True or False, got {value!r:.80}")
