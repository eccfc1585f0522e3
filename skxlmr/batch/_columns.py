"""Columns of pandas and Arrow: read, and made with null where a row has no result."""

from typing import Any

import numpy as np

from skxlmr.batch._results import Column

ENTITY = {"entity_group": "string", "score": "float64", "word": "string", "start": "int64", "end": "int64"}
NULLABLE = {"int64": "Int64", "bool": "boolean"}


def in_pandas(column: Column, values: Any, present: np.ndarray, nullable: bool, index: Any) -> Any:
    """A Series whose type depends on nothing but ``column`` and ``nullable``.

    Parameters
    ----------
    column : Column
    values : array-like
        Of the rows that are present.
    present : ndarray of bool
    nullable : bool
        Whether any batch may have rows without a result.
    index : Index
    """
    import pandas as pd

    if column.kind in ("float32", "float64"):
        numbers = np.full(len(present), np.nan, column.kind)
        numbers[present] = values
        return pd.Series(numbers, index)
    if column.kind in NULLABLE:
        whole = np.zeros(len(present), column.kind)
        whole[present] = values
        made = pd.Series(whole, index, dtype=NULLABLE[column.kind] if nullable else column.kind)
        return made.mask(~present) if nullable else made
    objects = np.full(len(present), None, object)
    objects[present] = _objects(values)
    is_string = column.kind == "string" and not pd.__version__.startswith("2.")
    return pd.Series(objects, index, dtype="str" if is_string else object)


def in_arrow(column: Column, values: Any, present: np.ndarray) -> Any:
    """An Arrow array; ``values`` are those of the rows that are present."""
    import pyarrow as pa

    kind = arrow_type(column)
    if column.kind in ("string", "entities"):
        objects = np.full(len(present), None, object)
        objects[present] = _objects(values)
        return pa.array(objects.tolist(), kind)
    numbers = np.zeros((len(present), column.size or 1), "float32" if column.kind == "vector" else column.kind)
    numbers[present] = np.asarray(values).reshape(-1, numbers.shape[1])
    mask = None if present.all() else ~present
    flat = pa.array(numbers.reshape(-1), mask=None if column.kind == "vector" else mask)
    if column.kind != "vector":
        return flat
    return pa.FixedSizeListArray.from_arrays(flat, column.size, mask=None if mask is None else pa.array(mask))


def arrow_type(column: Column, list_size: bool = True) -> Any:
    """The type of the column in Arrow.

    Parameters
    ----------
    column : Column
    list_size : bool
        Whether the type of vectors says how many numbers they have, which Spark does not know.
    """
    import pyarrow as pa

    if column.kind == "vector":
        return pa.list_(pa.float32(), column.size if list_size else -1)
    if column.kind == "entities":
        return pa.list_(pa.struct([pa.field(name, getattr(pa, kind)()) for name, kind in ENTITY.items()]))
    return getattr(pa, column.kind if column.kind != "bool" else "bool_")()


def _objects(values: Any) -> np.ndarray:
    """One object per row, also where these are arrays of one length."""
    made = np.empty(len(values), object)
    if isinstance(values, np.ndarray) and values.ndim == 1:
        made[:] = values.tolist()
        return made
    for row, value in enumerate(values):
        made[row] = value
    return made
