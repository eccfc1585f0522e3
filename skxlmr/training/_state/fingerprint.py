"""How fits are told apart: parameters in words, and digests of their data."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from functools import partial
from types import MethodType
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.utils._imports.later import is_tensor, torch
from skxlmr.utils._sklearn import own_function

if TYPE_CHECKING:
    from torch import nn

    from skxlmr.nn import TaskModule

STILL_WEIGHTS = "the weights that do not learn"
_ROWS_AT_ONCE = 16384  # of a word embedding: 64 MB if it is 1024 wide


def in_words(value: Any, within: tuple[int, ...] = ()) -> str:
    """A parameter in words; equal values read the same, whatever type holds them, and in any process.

    Functions are said by their names, other objects by their class and state. What can't be told from others of its kind,
    such as a lambda, has a ``<``.

    Parameters
    ----------
    value : object
    within : tuple of int
        What it is a part of, by ``id``.
    """
    if id(value) in within:
        return "..."
    said = partial(in_words, within=(*within, id(value)))
    if isinstance(value, np.ndarray | np.generic):
        return said(value.tolist())
    if isinstance(value, np.random.RandomState):
        return "a RandomState"
    if isinstance(value, dict):
        return "{" + ", ".join(sorted(f"{said(key)}: {said(item)}" for key, item in value.items())) + "}"
    if isinstance(value, set | frozenset):
        return "{" + ", ".join(sorted(map(said, value))) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(said, value)) + "]"
    if isinstance(value, partial):
        return f"partial({said(value.func)}, {said(value.args)}, {said(value.keywords)})"
    if isinstance(value, MethodType):
        return f"{said(value.__self__)}.{value.__name__}"
    if hasattr(value, "__qualname__"):  # a function
        return f"{value.__module__}.{value.__qualname__}"
    if isinstance(value, str | bytes | os.PathLike):
        return repr(os.fspath(value))
    words = repr(value)
    if not re.search("<| at 0x", words):  # an address is another one in the next process
        function = own_function(value)
        return words if function is None else f"{words} of {said(function)}"
    name = f"{type(value).__module__}.{type(value).__qualname__}"
    try:
        return f"{name}({said(value.__reduce_ex__(4))})"
    except Exception:  # it can't be pickled, as an open file
        return f"<{name}>"


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
