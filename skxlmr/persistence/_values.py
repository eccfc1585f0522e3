"""Parameters and learnt attributes as JSON, and back."""

import os
from typing import Any

import numpy as np
import torch

from skxlmr.estimators._core.estimator import Estimator

MOST_BYTES = 2**25  # of all arrays in a description: a short array may claim items so wide that they fill the memory


def encode(value: Any) -> Any:
    """JSON for a parameter or a learnt attribute.

    Raises
    ------
    TypeError
        If JSON cannot express it.
    """
    if isinstance(value, np.random.RandomState | Estimator):
        return None
    if isinstance(value, os.PathLike | torch.device):
        return str(value)
    if isinstance(value, np.ndarray):
        return {"array": [encode(item) for item in value.tolist()], "dtype": value.dtype.str}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, dict):
        return {"items": [[encode(key), encode(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [encode(item) for item in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be saved: {value!r}")


def decode(values: dict[str, Any]) -> dict[str, Any]:
    """Values by name that :func:`encode` wrote.

    Raises
    ------
    ValueError, TypeError, KeyError
        If :func:`encode` cannot have written them.
    """
    left = [MOST_BYTES]
    return {name: _decode(value, left) for name, value in values.items()}


def _decode(value: Any, left: list[int]) -> Any:
    """One value; ``left`` is how many bytes arrays may still take."""
    if isinstance(value, dict) and "array" in value:
        items, dtype = [_decode(item, left) for item in value["array"]], np.dtype(value["dtype"])
        left[0] -= dtype.itemsize * max(len(items), 1)
        if dtype.kind not in "biufUO" or left[0] < 0:
            raise ValueError(f"an array of {len(items)} items of dtype {value['dtype']!r:.80}")
        return np.array(items, dtype=dtype)
    if isinstance(value, dict):
        return {_decode(key, left): _decode(item, left) for key, item in value["items"]}
    if isinstance(value, list):
        return [_decode(item, left) for item in value]
    return value
