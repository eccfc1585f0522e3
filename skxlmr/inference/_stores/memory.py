"""Arrays kept in this process, up to a number of bytes; the least recently used go first."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from threading import Condition, RLock, get_ident

import numpy as np

from skxlmr.inference._stores.store import StoreInfo


class MemoryStore:
    """A :class:`Store` in the memory of this process, shared by its threads.

    Parameters
    ----------
    max_bytes : int
        Most bytes of the arrays together; a larger array is not kept.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._arrays: OrderedDict[bytes, np.ndarray] = OrderedDict()
        self._claims: dict[bytes, int] = {}  # with the thread that computes it
        # entered itself: an interrupt can't come between taking it and the block, as in a Condition
        self._lock = RLock()
        self._changed = Condition(self._lock)
        self._n_bytes = self._hits = self._misses = self._encoded = 0

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The arrays that are there, read-only."""
        found = {}
        with self._lock:
            for key in keys:
                array = self._arrays.get(key)
                if array is not None:
                    self._arrays.move_to_end(key)
                    found[key] = array
            self._hits += len(found)
            self._misses += len(keys) - len(found)
        return found

    def claim(self, keys: Sequence[bytes]) -> list[bytes]:
        """The keys that the caller is to compute now; the others are there, or another thread computes them."""
        with self._lock:
            thread = get_ident()  # what it claimed and did not compute, after an interrupt, it may claim again
            mine = [key for key in keys if key not in self._arrays and self._claims.get(key, thread) == thread]
            self._claims |= dict.fromkeys(mine, thread)
        return mine

    def put(self, values: Mapping[bytes, np.ndarray]) -> None:
        """Keep copies of arrays, and end the claims on their keys."""
        with self._lock:
            for key, value in values.items():
                self._claims.pop(key, None)
                self._encoded += 1
                if value.nbytes > self.max_bytes:
                    continue
                if (old := self._arrays.pop(key, None)) is not None:
                    self._n_bytes -= old.nbytes
                kept = value.copy()  # not a view, which would keep the whole batch alive
                kept.flags.writeable = False
                self._arrays[key] = kept
                self._n_bytes += kept.nbytes
                while self._n_bytes > self.max_bytes:
                    self._n_bytes -= self._arrays.popitem(last=False)[1].nbytes
            self._changed.notify_all()

    def release(self, keys: Sequence[bytes]) -> None:
        """Give up the claims of this thread on these keys, after an error."""
        with self._lock:
            for key in keys:
                if self._claims.get(key) == get_ident():
                    del self._claims[key]
            self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Wait until another thread puts arrays or gives up claims, at most so long."""
        with self._lock:
            self._changed.wait(seconds)

    def info(self) -> StoreInfo:
        """What it holds."""
        with self._lock:
            return StoreInfo(
                location=None,
                entries=len(self._arrays),
                n_bytes=self._n_bytes,
                max_bytes=self.max_bytes,
                hits=self._hits,
                misses=self._misses,
                encoded=self._encoded,
            )

    def clear(self) -> None:
        """Remove all arrays."""
        with self._lock:
            self._arrays.clear()
            self._n_bytes = 0
