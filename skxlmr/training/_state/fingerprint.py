"""How fits are told apart: parameters in words, and digests of their data."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.utils._imports.later import is_tensor, torch

if TYPE_CHECKING:
    from torch import nn

    from skxlmr.nn import TaskModule

STILL_WEIGHTS = "the weights that do not learn"
_ROWS_AT_ONCE = 16384  # of a word embedding: 64 MB if it is 1024 wide


def in_words(value: Any) -> str:
    """A parameter in words; equal values read the same, whatever type holds them."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, np.random.RandomState):
        return "a RandomState"
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{in_words(key)}: {in_words(item)}" for key, item in value.items())) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(in_words, value)) + "]"
    if hasattr(value, "__qualname__"):  # a function; its repr has an address
        return f"{value.__module__}.{value.__qualname__}"
    return repr(os.fspath(value) if isinstance(value, os.PathLike) else value)


def digest(*values: Any) -> str:
    """SHA-256 of arrays, tensors, dataclasses, collections of them, and other values by their ``repr``."""
    sha = hashlib.sha256()
    for part in _parts(values):
        sha.update(part)
    return sha.hexdigest()


def digest_of_still_weights(module: TaskModule, full: nn.Embedding, lookup: np.ndarray | None) -> str:
    """SHA-256 of the weights that a fit does not change: frozen ones, and rows that a compact vocabulary leaves out.

    Parameters
    ----------
    module : TaskModule
    full : Embedding
        All word embeddings.
    lookup : ndarray of int32, (vocabulary,), or None
        New id of each row of a compact vocabulary, -1 for rows that are left out; None without one.
    """
    still = [(name, p) for name, p in module.named_parameters() if not p.requires_grad]
    unused = np.empty(0, np.int64) if lookup is None else np.flatnonzero(lookup < 0)
    rows = torch.from_numpy(unused).to(full.weight.device)
    return digest(still, (full.weight[some] for some in rows.split(_ROWS_AT_ONCE)))


def _parts(value: Any) -> Iterable[bytes | memoryview]:
    """Bytes that differ whenever the values do; each value begins with its kind and size."""
    if is_tensor(value):
        yield f"tensor {value.dtype} {tuple(value.shape)}:".encode()
        yield value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield f"array {value.dtype.str} {value.shape}:".encode()
        yield np.ascontiguousarray(value).tobytes()
    elif is_dataclass(value):
        yield f"{type(value).__name__}:".encode()
        for each in fields(value):
            yield from _parts(getattr(value, each.name))
    elif isinstance(value, dict):
        yield from _parts(list(value.items()))
    elif isinstance(value, Iterable) and not isinstance(value, str | bytes):
        yield b"["
        for item in value:
            yield from _parts(item)
        yield b"]"
    else:
        said = repr(value).encode()
        yield b"value %d:" % len(said)
        yield said
