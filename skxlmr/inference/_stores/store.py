"""What keeps outputs of an encoder, in this process or on disk: arrays by key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds, and what it was used for.

    Attributes
    ----------
    location : str or None
        The folder, None if it is in this process.
    entries : int
        Number of arrays.
    n_bytes : int
        Their size; on disk, that of the files.
    max_bytes : int
        Largest size. The least recently used arrays go first.
    hits, misses : int
        Arrays that this process asked for and got, or did not get.
    encoded : int
        Arrays put since the store was made, by all processes.

    See Also
    --------
    cache_info : Returns it.
    Cache : Says where a cache is, and how much it keeps.

    Examples
    --------
    >>> from skxlmr import Cache, XLMRobertaVectorizer, cache_info
    >>> cache = Cache(max_bytes=2**22)
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini", memory=cache).fit(["Good morning."])
    >>> before = cache_info(cache)
    >>> features = vectorizer.transform(["Good evening.", "Good evening.", "Guten Abend."])
    >>> after = cache_info(cache)
    >>> after.entries - before.entries, after.max_bytes
    (2, 4194304)
    """

    location: str | None
    entries: int
    n_bytes: int
    max_bytes: int
    hits: int
    misses: int
    encoded: int


class Store(Protocol):
    """Arrays by 32-byte keys, shared by threads and, on disk, by processes.

    A caller asks with ``get``, claims what is missing, computes what ``claim`` returns, puts it, and then waits for what
    others are computing: ``wait`` and ``get`` again until nothing is missing. Claims of a thread or process that died are
    given to the next who claims, so a caller claims again after each ``wait``.
    """

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The arrays that are there, read-only."""
        ...

    def claim(self, keys: Sequence[bytes]) -> list[bytes]:
        """The keys that the caller is to compute now; the others are there, or another thread or process computes them."""
        ...

    def put(self, values: Mapping[bytes, np.ndarray]) -> None:
        """Keep arrays, and end the claims on their keys."""
        ...

    def release(self, keys: Sequence[bytes]) -> None:
        """Give up claims, after an error."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until values of others may have arrived, at most so long."""
        ...

    def info(self) -> StoreInfo:
        """What it holds."""
        ...

    def clear(self) -> None:
        """Remove all arrays."""
        ...
