"""Parameters and learnt attributes as JSON, and back."""

import os
from typing import Any

import numpy as np
import torch

from skxlmr.estimators._base import BaseXLMRoberta

MOST_BYTES = 2**28  # of an array: what a file claims about one must not fill the memory


def encode(value: Any) -> Any:
    """JSON for a parameter or a learnt attribute."""
    if isinstance(value, np.random.RandomState | BaseXLMRoberta):
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


def decode(value: Any) -> Any:
    """What :func:`encode` wrote.

    Raises
    ------
    ValueError, TypeError, KeyError
        If it did not write this.
    """
    if isinstance(value, dict) and "array" in value:
        items, dtype = [decode(item) for item in value["array"]], np.dtype(value["dtype"])
        if dtype.kind not in "biufUO" or dtype.itemsize * max(len(items), 1) > MOST_BYTES:
            raise ValueError(f"an array of {len(items)} items of dtype {value['dtype']!r}")
        return np.array(items, dtype=dtype)
    if isinstance(value, dict):
        return {decode(key): decode(item) for key, item in value["items"]}
    if isinstance(value, list):
        return [decode(item) for item in value]
    return value
