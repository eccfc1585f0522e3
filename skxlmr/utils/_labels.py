"""What people pass as y becomes NumPy arrays of plain values, whichever library made it.

Fits, scores and validation data read y here, so that each takes what the others take.
"""

import math
from decimal import Decimal
from enum import Enum
from numbers import Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import check_array

from skxlmr.utils._containers import known_container
from skxlmr.utils._tables import (
    check_distinct_names,
    column_names,
    describe,
    excerpt,
    is_missing,
    name_of,
    plain,
    split_columns,
)
from skxlmr.utils._warnings import warn_once_per_call

_DATES = "such as (y - y.min()) / pd.Timedelta(days=1) for dates, or y / pd.Timedelta(days=1) for durations"


def plain_array(y: Any) -> np.ndarray:
    """Y as an array: of texts, ints, floats, bools or dates where all of its values are, else of objects.

    Masked values are missing: None.
    """
    y = y.toarray() if issparse(y) else known_container(y, "y")
    if isinstance(y, np.ma.MaskedArray) and y.mask.any():
        y = np.where(y.mask, np.array(None), y.data)
    dtype = getattr(getattr(y, "dtype", None), "numpy_dtype", None)  # of pandas' nullable and Arrow columns
    if dtype is not None and dtype.kind in "biufmM" and not y.isna().any():
        return np.asarray(y, dtype=dtype)
    array = np.asarray(y, dtype=object if isinstance(y, list | tuple) or dtype is not None else None)
    if array.dtype.kind not in "OT" or not array.size:
        return array
    values = [plain(value) for value in array.ravel().tolist()]
    kinds = set(map(type, values))
    if kinds <= {bool, int, float} or (kinds == {str} and (isinstance(y, list | tuple) or array.dtype.kind == "T")):
        return np.array(values).reshape(array.shape)
    return np.fromiter(values, object, len(values)).reshape(array.shape)


def columns_of(y: Any, name: str) -> list[np.ndarray] | None:
    """The columns of a y that has several, None for one label per row."""
    y = known_container(y, name)
    if hasattr(y, "columns"):
        columns = [plain_array(column) for column in split_columns(y, name)]
    else:
        values = plain_array(y)
        if values.ndim > 2:
            raise ValueError(f"{name} must have one or two dimensions, got shape {values.shape}")
        columns = list(values.T) if values.ndim == 2 else []
    if len(columns) < 2:
        return None
    for k, column in enumerate(columns):
        if column.dtype == object:
            check_labels(column, f"{name} column {k}")
    return [np.array(list(map(plain, column.tolist()))) if column.dtype == object else column for column in columns]


def target_names(y: Any, name: str) -> list[str] | list[int] | None:
    """Names of the columns of a table with several: texts or whole numbers; None if it has no others than 0, 1, ...

    Raises
    ------
    TypeError
        If some names are texts and others not.
    ValueError
        If two columns have the same name.
    """
    y = known_container(y, name)
    names = list(map(plain, column_names(y)))
    check_distinct_names(y, name)
    kinds = set(map(type, names))
    if str in kinds and len(kinds) > 1:
        raise TypeError(
            f"{name} has columns named by texts and others, {names!r:.80}: name all by texts, such as with "
            f"{name}.columns = {name}.columns.astype(str)"
        )
    named = len(names) > 1 and (kinds == {str} or (kinds == {int} and names != list(range(len(names)))))
    return names if named else None


def check_target_names(y: Any, name: str, known: list[Any] | None) -> None:
    """Refuse columns with other names than in the fit, or in another order; all is well where one of both has none."""
    names = target_names(y, name)
    if names is None or known is None:
        return
    found, expected = list(map(name_of, names)), list(map(name_of, known))
    if found != expected:
        raise ValueError(f"{name} has the columns {', '.join(found)}, but the fit had {', '.join(expected)}")


def check_labels(labels: np.ndarray, name: str) -> None:
    """Refuse missing labels, and numbers among texts, both of which NumPy turns into classes such as 'nan'."""
    if labels.ndim != 1 and labels.shape[1:] != (1,):
        return  # several labels per row: the caller reports that
    if labels.dtype.kind in "mM" and len(missing := np.flatnonzero(np.isnat(labels.ravel()))):
        raise ValueError(f"{name} row {missing[0]}: expected a label, got NaT: drop the row")
    kinds = set()
    for row, label in enumerate(labels.ravel().tolist() if labels.dtype.kind in "fO" else ()):
        if isinstance(label, list | tuple | set | frozenset | np.ndarray):
            raise ValueError(
                f"{name} row {row}: expected a label, got {label!r:.60}; for several labels per row pass an indicator matrix "
                "(sklearn.preprocessing.MultiLabelBinarizer makes one)"
            )
        if isinstance(label, Enum):
            raise ValueError(f"{name} row {row}: expected a label, got {label!r}: pass its value, {label.value!r:.60}")
        if is_missing(label) or label in (math.inf, -math.inf):
            raise ValueError(f"{name} row {row}: expected a label, got {label!r}: drop the row")
        kinds.add(type(label).__name__)
    if "str" in kinds and len(kinds) > 1:
        raise ValueError(f"{name} mixes labels of the types {', '.join(sorted(kinds))}: use one type")


def check_pairs_are_one_argument(y: Any, sample_weight: Any, learns_numbers: bool) -> None:
    """Refuse ``fit(first, second, y)``, in which the second texts would be y and the targets weights."""
    if sample_weight is None:
        return
    for name, numbers in (("sample_weight", sample_weight), ("y", y if learns_numbers else None)):
        values = [] if numbers is None or isinstance(numbers, Real) else plain_array(numbers).tolist()
        if values and isinstance(values[0], str) and not _is_digits(values[0]):
            raise ValueError(
                f"{name} holds texts, such as {excerpt(values[0])}, and not numbers. Pairs of texts are one argument, such as "
                "fit(list(zip(first, second)), y) or fit(frame[['first', 'second']], y)"
            )


def warn_of_column(labels: np.ndarray, name: str) -> None:
    """Warn as scikit-learn does if labels are a column where one dimension is expected; but once per call."""
    if labels.ndim == 2 and labels.shape[1] == 1:
        warn_once_per_call(
            f"A column-vector {name} was passed when a 1d array was expected. Please change the shape of {name} to "
            "(n_samples, ), for example using ravel().",
            DataConversionWarning,
        )


def warn_of_texts(labels: np.ndarray, n_classes: int, name: str) -> None:
    """Warn if labels look like texts: most rows have one of their own, and these are long."""
    if len(labels) < 6 or 2 * n_classes <= len(labels) or labels.dtype.kind not in "OU":
        return
    distinct = set(labels.tolist())
    n_long = sum(len(label) > 15 or len(label.split()) > 2 for label in distinct if isinstance(label, str))
    if n_long > len(distinct) / 2:
        warn_once_per_call(
            f"{name} looks like texts and not like labels: {n_classes} distinct ones in {len(labels)} rows, such as "
            f"{excerpt(str(labels.tolist()[0]))}. Are X and y swapped? And pairs of texts are one argument: "
            "fit(list(zip(first, second)), y)",
            about="texts as labels",
        )


def _is_digits(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_numbers(y: Any, name: str) -> np.ndarray:
    """Y as float64, with one or two dimensions.

    Raises
    ------
    ValueError
        If a value is not a finite number, such as a date, a text of digits or a missing value.
    """
    y = known_container(y, name)
    is_table = hasattr(y, "columns")
    columns = [plain_array(column) for column in split_columns(y, name)] if is_table else [plain_array(y)]
    for column in columns:
        if column.dtype.kind in "mM":
            what = "durations" if column.dtype.kind == "m" else "dates"
            raise ValueError(f"{name} holds {what} ({column.dtype}), not numbers: convert them first, {_DATES}")
        if column.dtype.kind in "OUS" and column.ndim:
            for row, values in enumerate(column.reshape(len(column), -1).tolist()):
                for value in values:
                    _check_number(value, f"{name} row {row}")
    array = np.stack(columns, axis=1) if is_table else columns[0]
    numbers: np.ndarray = check_array(
        array, ensure_2d=False, dtype=np.float64, input_name=name, ensure_all_finite=False
    )
    if len(bad := np.argwhere(~np.isfinite(numbers))):
        value = numbers[tuple(bad[0])]
        raise ValueError(f"{name} row {bad[0][0]}: expected a finite number, got {value}: drop the row")
    return numbers


def _check_number(value: Any, where: str) -> None:
    if isinstance(value, Real | Decimal) and not isinstance(value, np.timedelta64) and not is_missing(value):
        return
    if is_missing(value):
        hint = ": drop the row"
    elif isinstance(value, bytes):
        hint = ": decode it first"
    elif isinstance(value, str):
        hint = ": convert texts first, such as with pd.to_numeric(y)" if _is_digits(value) else ": are X and y swapped?"
    elif any(hasattr(value, attribute) for attribute in ("year", "total_seconds", "hour", "astype")):
        hint = f": convert dates and times first, {_DATES}"
    else:
        hint = ""
    raise ValueError(f"{where}: expected a number, got {describe(value)}{hint}")
