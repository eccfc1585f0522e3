"""Where outputs of an encoder are kept, so that each text is encoded once: a value that says it, and what is kept."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any, Literal

from joblib import Memory

from skxlmr.checkpoints import Origin, forget_opened
from skxlmr.inference._stores.disk import DiskStore
from skxlmr.inference._stores.hashes import file_stamp
from skxlmr.inference._stores.memory import MemoryStore
from skxlmr.inference._stores.store import Store, StoreInfo

IN_PROCESS = 2**30  # bytes, unless said otherwise
ON_DISK = 10 * 2**30
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Cache:
    """Where an estimator keeps what its encoder makes of texts, for its parameter ``memory``.

    Parameters
    ----------
    location : str or path, optional
        A folder, which processes share and later runs find again, created at first use. None keeps all in this process.
    max_bytes : int, optional
        Most bytes that are kept; the least recently used go first. By default 1 GiB in the process and 10 GiB in a folder.
        Estimators with the same number share what is kept in the process; each other number has a share of its own.
    dtype : {"float32", "bfloat16"}, default="float32"
        ``"bfloat16"`` keeps float32 numbers in half the room, rounded to 8 bits. What is returned is rounded alike,
        whether it was computed or found.

    Raises
    ------
    ValueError
        If ``location`` is empty, or ``max_bytes`` or ``dtype`` is none of these.

    See Also
    --------
    cache_info : What a cache holds.
    clear_cache : Remove it.

    Examples
    --------
    >>> from skxlmr import Cache, XLMRobertaVectorizer
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini", memory=Cache(max_bytes=2**20))
    >>> vectorizer.fit_transform(["Good morning.", "Guten Morgen.", "Good morning."]).shape
    (3, 192)
    """

    location: str | os.PathLike[str] | None = None
    max_bytes: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.location is not None and not os.fspath(self.location):
            raise ValueError("location must name a folder, got ''; None keeps all in this process")
        if self.location is not None and isinstance(os.fspath(self.location), bytes):
            raise ValueError(f"location must be a str or a path, got {self.location!r}: use os.fsdecode")
        size = self.max_bytes
        if size is not None and (isinstance(size, bool) or not isinstance(size, Integral) or size < 1):
            raise ValueError(f"max_bytes must be a number of bytes, 1 or more, or None, got {size!r}")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype must be 'float32' or 'bfloat16', got {self.dtype!r}")

    @property
    def folder(self) -> str | None:
        """The folder as an absolute path; None if everything is kept in the process."""
        return None if self.location is None else os.path.abspath(os.path.expanduser(self.location))

    @property
    def room(self) -> int:
        """Most bytes that are kept."""
        return self.max_bytes or (IN_PROCESS if self.location is None else ON_DISK)

    def store(self) -> Store:
        """What keeps the arrays of this cache in this process."""
        folder, size = self.folder, self.room
        of_process = _stores()
        found = of_process.get((folder, size))
        if found is None:
            made: Store = MemoryStore(size) if folder is None else DiskStore(folder, size)
            found = of_process.setdefault((folder, size), made)  # at once: another thread may have made one
        return found

    def content_hash(self) -> Callable[[Origin], str] | None:
        """Returns the hash of a checkpoint, by which a folder knows it; None in the process, which knows its files."""
        store = self.store()
        return partial(_content_hash, store) if isinstance(store, DiskStore) else None


AUTO: Cache | None = Cache()  # what "auto" means


def cache_of(memory: Any) -> Cache | None:
    """The cache that a parameter ``memory`` means; None for none.

    Parameters
    ----------
    memory : "auto", None, str, path, joblib.Memory or Cache
    """
    if memory is None or isinstance(memory, Cache):
        return memory
    if isinstance(memory, Memory):
        return None if memory.location is None else Cache(Path(memory.location, "skxlmr"))
    return AUTO if isinstance(memory, str) and memory == "auto" else Cache(memory)


def cache_info(memory: Any = "auto") -> StoreInfo:
    """What a cache holds, and how often it was of use.

    Parameters
    ----------
    memory : "auto", str, path, joblib.Memory or Cache, default="auto"
        As the parameter of the estimators; ``"auto"`` is what estimators share in this process.

    Returns
    -------
    StoreInfo
        With ``entries``, ``n_bytes``, ``max_bytes``; ``hits`` and ``misses`` of this process; and ``encoded``, the number of
        rows that were computed and kept, in a folder by all processes.

    Raises
    ------
    ValueError
        If ``memory`` is None: nothing is kept then.

    Examples
    --------
    >>> from skxlmr import cache_info, clear_cache, XLMRobertaVectorizer
    >>> clear_cache()
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini").fit(["Good morning."])
    >>> before = cache_info().encoded
    >>> for _ in range(3):
    ...     features = vectorizer.transform(["Good morning.", "Guten Morgen."])
    >>> cache_info().encoded - before
    2
    """
    cache = cache_of(memory)
    if cache is None:
        raise ValueError(f"memory={memory!r} keeps nothing: pass 'auto', a folder, a joblib.Memory or a Cache")
    return cache.store().info()


def clear_cache(memory: Any = "auto") -> None:
    """Remove what a cache holds. Estimators that use it go on, and compute anew.

    Parameters
    ----------
    memory : "auto", str, path, joblib.Memory or Cache, default="auto"
        As the parameter of the estimators. ``"auto"`` removes all that is kept in this process, that of caches with another
        ``max_bytes`` too, and closes checkpoints that were kept open for the next fit.
    """
    if isinstance(memory, str) and memory == "auto":
        for (folder, _), store in list(_stores().items()):
            if folder is None:
                store.clear()
        forget_opened()
        return
    cache = cache_of(memory)
    if cache is not None:
        cache.store().clear()


_of_processes: dict[int, dict[tuple[str | None, int], Store]] = {}


def _stores() -> dict[tuple[str | None, int], Store]:
    """The stores of this process; a forked one starts with none, since locks and connections do not survive a fork."""
    found = _of_processes.get(os.getpid())
    if found is None:
        _of_processes.clear()
        found = _of_processes.setdefault(os.getpid(), {})
    return found


_hashes: dict[tuple[Any, ...], str] = {}  # of checkpoints, by their folder and the stamp of their files


def _content_hash(store: DiskStore, origin: Origin) -> str:
    """The content hash of a checkpoint: computed once per file, or once per process while a file is new."""
    opened = origin.folder, origin.stamp
    if opened not in _hashes:
        stamp, digest = None, None
        with suppress(OSError):
            stamps = [file_stamp(file) for file in origin.files()]
            if None not in stamps and origin.is_untouched():
                stamp = repr(stamps)
                digest = store.known_hash(stamp)
        if digest is None:
            digest = origin.content_hash()
            if stamp is not None:
                store.remember_hash(stamp, digest)
        _hashes[opened] = digest
    return _hashes[opened]
