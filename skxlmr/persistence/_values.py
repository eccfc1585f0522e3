"""Parameters and learnt attributes as JSON, and back."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from skxlmr.estimators._core.estimator import Estimator
from skxlmr.utils._devices.device import Device

MOST_BYTES = 2**25  # of all arrays in a description: a short array may claim items so wide that they fill the memory
_AS_LIST = ("to_pylist", "to_list", "tolist")  # of Arrow; of pandas and polars; of whatever is like NumPy


def encode(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON for parameters or learnt attributes by name.

    Raises
    ------
    TypeError
        If JSON cannot express one of them; says which.
    """
    encoded = {}
    for name, value in values.items():
        try:
            encoded[name] = _encode(value)
        except TypeError as error:
            raise TypeError(f"{name} holds what a folder cannot: {error}") from error
    return encoded


def _encode(value: Any) -> Any:
    if isinstance(value, np.random.RandomState | Estimator):
        return None
    if isinstance(value, (os.PathLike, Device)):
        return str(value)
    if isinstance(value, np.ndarray) and value.ndim:
        if value.dtype.kind in "mM":
            what = "date" if value.dtype.kind == "M" else "duration"
            raise TypeError(f"a {what} cannot be saved: fit with texts instead, such as pd.Series(y).astype(str)")
        kind = "T" if value.dtype.kind == "T" else value.dtype.str
        return {"array": [_encode(item) for item in value.tolist()], "dtype": kind}
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # a member of an enumeration is its content
    if isinstance(value, Integral | Real):
        return int(value) if isinstance(value, Integral) else float(value)
    if isinstance(value, np.ndarray | np.generic):
        return _encode(value.item())
    if isinstance(value, Mapping):
        return {"items": [[_encode(key), _encode(item)] for key, item in value.items()]}
    for method in _AS_LIST:
        if hasattr(value, method) and not isinstance(value, type):
            return [_encode(item) for item in getattr(value, method)()]
    if isinstance(value, Collection) and not isinstance(value, bytes | bytearray | memoryview):
        return [_encode(item) for item in value]
    if callable(value):  # a scorer
        raise TypeError(
            f"code cannot be saved without pickle: {value!r:.200}; name a scorer of scikit-learn, or set_params(scoring=None) "
            "before saving"
        )
    raise TypeError(f"a {type(value).__name__} cannot be saved: {value!r:.80}")


def decode(values: dict[str, Any]) -> dict[str, Any]:
    """Values by name that :func:`encode` wrote.

    Raises
    ------
    ValueError, TypeError, KeyError
        If :func:`encode` cannot have written them.
    """
    left = [MOST_BYTES]
    decoded = {}
    for name, value in values.items():
        try:
            decoded[name] = _decode(value, left)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return decoded


def _decode(value: Any, left: list[int]) -> Any:
    """One value; ``left`` is how many bytes arrays may still take."""
    if isinstance(value, dict) and "array" in value:
        items, dtype = [_decode(item, left) for item in value["array"]], np.dtype(value["dtype"])
        n_bytes = dtype.itemsize * max(len(items), 1)
        left[0] -= n_bytes
        if dtype.kind not in "biufUOT" or left[0] < 0:
            reason = f", which takes {n_bytes} bytes, more than the {MOST_BYTES} for all" if left[0] < 0 else ""
            raise ValueError(f"an array of {len(items)} items of dtype {value['dtype']!r:.80}{reason}")
        return np.array(items, dtype=dtype)
    if isinstance(value, dict):
        return {_decode(key, left): _decode(item, left) for key, item in value["items"]}
    if isinstance(value, list):
        return [_decode(item, left) for item in value]
    return value
