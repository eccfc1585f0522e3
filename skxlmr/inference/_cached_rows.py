"""Outputs of encoded rows that were computed before, by this process or another one.

A row is known by its token ids: the tokenizer, the prompt, ``max_length`` and windows are in them. Its key also says which
weights, which computation, which precision and which kind of device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from skxlmr.inference._rows import distinct_rows
from skxlmr.inference._stores.store import Store
from skxlmr.text import EncodedBatch

VERSION = 1  # of the keys: another one where the same key would mean another array
SECONDS = 0.05  # between two looks at what others compute
Compute = Callable[[EncodedBatch, Any, bool], np.ndarray]


class CachedRows:
    """Finds outputs of rows in a store, and computes those that are missing.

    Parameters
    ----------
    store : Store
    about : hashable
        What is computed, and all it depends on besides the rows: the weights, precision, device and the like. Equal values have
        the same ``repr``, in every process.
    rounds : bool
        Whether float32 numbers are kept as bfloat16.
    tokens_at_once : int or None
        Where processes share the store, how many tokens one computes before it claims more; None computes all at once.
    settings : hashable
        By which kernels round.
    """

    def __init__(
        self, store: Store, about: Hashable, rounds: bool, tokens_at_once: int | None, settings: Hashable = ()
    ):
        self.store, self.rounds, self.tokens_at_once = store, rounds, tokens_at_once
        self._about = repr((VERSION, about, rounds, settings))

    def outputs(self, compute: Compute, encoded: EncodedBatch, run: Any, per_token: bool) -> np.ndarray:
        """What ``compute(encoded, run, per_token)`` returns.

        Parameters
        ----------
        compute : callable
            Outputs of rows: an array with an item for each row, or for each token of them.
        encoded : EncodedBatch
        run : callable
            What is computed, as ``about`` says it.
        per_token : bool

        Returns
        -------
        ndarray of shape (n_rows, ...) or (n_tokens, ...)
        """
        if not len(encoded):
            return compute(encoded, run, per_token)
        distinct, first = distinct_rows(encoded)
        rows = encoded if first is None else encoded.take(distinct)
        keys = self._keys(rows)
        found: dict[bytes, np.ndarray] = self.store.get(keys)
        results: np.ndarray | None = None
        while missing := [row for row, key in enumerate(keys) if key not in found]:
            for part in self._parts(rows, missing):
                wanted = [keys[row] for row in part]
                try:
                    mine = set(self.store.claim(wanted))
                    computed = [row for row in part if keys[row] in mine]
                    if not computed:
                        continue
                    some = rows.take(np.array(computed))
                    outputs = compute(some, run, per_token)
                    arrays = np.split(outputs, some.starts[1:-1]) if per_token else outputs
                    found |= self._keep([keys[row] for row in computed], arrays)
                    if computed == list(range(len(keys))) and not self.rounds:  # nothing to put together
                        results = outputs
                except BaseException:
                    self.store.release(wanted)  # what this thread has claimed of it
                    raise
            left = [key for key in keys if key not in found]
            if left:  # others were computing these
                others = self.store.get(left)
                if not others:
                    self.store.wait(SECONDS)
                found |= others
        if results is None:
            arrays = [_widened(found[key]) if self.rounds else found[key] for key in keys]
            results = np.concatenate(arrays) if per_token else np.stack(arrays)
        if first is None:
            return results
        row_of_distinct = np.searchsorted(distinct, first)
        return results[rows.token_places(row_of_distinct) if per_token else row_of_distinct]

    def _keys(self, rows: EncodedBatch) -> list[bytes]:
        start = hashlib.sha256(f"{self._about}:".encode())
        content, bounds = rows.ids.astype("<i4").tobytes(), (rows.starts * 4).tolist()
        seconds: Sequence[int] | None = None if rows.second_starts is None else rows.second_starts.tolist()
        keys = []
        for row, (first, end) in enumerate(pairwise(bounds)):
            key = start.copy()
            key.update(content[first:end])
            if seconds is not None:
                key.update(b" second %d" % seconds[row])
            keys.append(key.digest())
        return keys

    def _parts(self, rows: EncodedBatch, missing: list[int]) -> Iterator[list[int]]:
        """The rows that are missing: all at once, or in parts of similar lengths where other processes may help."""
        if self.tokens_at_once is None:
            yield missing
            return
        part: list[int] = []
        n_tokens = 0
        for row in sorted(missing, key=lambda row: -int(rows.lengths[row])):
            part.append(row)
            n_tokens += int(rows.lengths[row])
            if n_tokens >= self.tokens_at_once:
                yield part
                part, n_tokens = [], 0
        if part:
            yield part

    def _keep(self, keys: list[bytes], arrays: Iterable[np.ndarray]) -> dict[bytes, np.ndarray]:
        values = dict(zip(keys, map(_rounded, arrays) if self.rounds else arrays, strict=True))
        self.store.put(values)
        return values


def _rounded(array: np.ndarray) -> np.ndarray:
    """Float32 numbers as the bits of bfloat16."""
    if array.dtype != np.float32:
        return array
    bits = np.ascontiguousarray(array).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16  # half of the last place, and to even where it is just that
    return np.where(np.isnan(array), 0x7FC0, rounded).astype(np.uint16)


def _widened(array: np.ndarray) -> np.ndarray:
    """Float32 numbers from the bits of bfloat16."""
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array
