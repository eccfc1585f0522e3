"""Where outputs of an encoder are kept, so that each text is encoded once: a value that says it, and what is kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from joblib import Memory

from skxlmr.checkpoints import Origin, forget_opened
from skxlmr.inference._stores.hashes import file_stamp
from skxlmr.inference._stores.memory import MemoryStore
from skxlmr.inference._stores.store import Store, StoreInfo
from skxlmr.utils._files import check_name, is_path

if TYPE_CHECKING:
    from skxlmr.inference._stores.disk import DiskStore

IN_PROCESS = 2**30  # bytes, unless said otherwise
ON_DISK = 10 * 2**30
FOLDERS_OPEN = 16  # of the caches in folders, each with files of its own; a process may open some 1,000 files
DTYPES = ("float32", "bfloat16")


@dataclass(frozen=True)
class Cache:
    """Where an estimator keeps what its encoder makes of texts, for its parameter ``memory``.

    Read more in :doc:`/tuning`.

    Parameters
    ----------
    location : str or path, optional
        A folder that processes share and later runs find again. It is created at first use. None keeps everything in this
        process.
    max_bytes : int, optional
        Most bytes that are kept, such as ``4 * 2**30`` for 4 GiB; the least recently used outputs go first. By default 1 GiB
        in the process and 10 GiB in a folder. In the process, estimators with the same number share what is kept, and each
        other number is a cache of its own. A folder is one cache: whoever writes to it with a smaller number shrinks it.
    dtype : {"float32", "bfloat16"}, default="float32"
        ``"bfloat16"`` keeps float32 numbers in half the room, rounded to 8 bits. Outputs are rounded in the same way when they
        are computed as when they are found.

    Raises
    ------
    TypeError
        If ``location`` is not a path.
    ValueError
        If ``location`` is empty or looks like a mistyped ``"auto"`` or None, if ``max_bytes`` is not a positive int, or if
        ``dtype`` is not one of those above.

    See Also
    --------
    cache_info : What a cache holds.
    clear_cache : Removes what it holds.
    XLMRobertaVectorizer : One of the estimators with the parameter ``memory``.

    Examples
    --------
    >>> from skxlmr import Cache, XLMRobertaVectorizer, cache_info
    >>> cache = Cache(max_bytes=2**20)
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini", memory=cache)
    >>> before = cache_info(cache).entries
    >>> vectorizer.fit_transform(["Good morning.", "Guten Morgen.", "Good morning."]).shape
    (3, 192)
    >>> cache_info(cache).entries - before  # two distinct texts
    2
    """

    location: str | os.PathLike[str] | None = None
    max_bytes: int | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"

    def __post_init__(self) -> None:
        if self.location is not None:
            _check_path("location", self.location, "None (in this process)")
        size = self.max_bytes
        if size is not None and (isinstance(size, bool) or not isinstance(size, Integral) or size < 1):
            raise ValueError(f"max_bytes must be a positive int, such as 2**30 for 1 GiB, or None, got {size!r}")
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

    def _store(self) -> Store:
        """What keeps the arrays of this cache in this process."""
        folder, size = self.folder, self.room
        of_process = _stores()
        found = of_process.get((folder, size))
        if found is None:
            made: Store = MemoryStore(size) if folder is None else _disk_store(folder, size)
            found = of_process.setdefault((folder, size), made)  # at once: another thread may have made one
            on_disk: list[Any] = [store for (place, _), store in list(of_process.items()) if place is not None]
            for store in on_disk[:-FOLDERS_OPEN]:
                store.close()
        return found

    def _content_hash(self) -> Callable[[Origin], str] | None:
        """Returns the hash of a checkpoint, by which a folder knows it; None in the process, which knows its files."""
        return None if self.location is None else partial(_content_hash, self._store())


AUTO: Cache | None = Cache()  # what "auto" means


def cache_of(memory: Any) -> Cache | None:
    """The cache that a parameter ``memory`` means; None for none.

    Parameters
    ----------
    memory : "auto", None, str, path, joblib.Memory or Cache

    Raises
    ------
    TypeError, ValueError
        If it is none of these, or a string that looks like a mistyped ``"auto"`` or None.
    """
    if memory is None or isinstance(memory, Cache):
        return memory
    if isinstance(memory, Memory):
        return None if memory.location is None else Cache(Path(memory.location, "skxlmr"))
    if isinstance(memory, str) and memory == "auto":
        return AUTO
    _check_path("memory", memory, "'auto', None (off)")
    return Cache(memory)


def cache_info(memory: Any = "auto") -> StoreInfo:
    """What a cache holds, and how often outputs were found in it.

    Parameters
    ----------
    memory : "auto", str, path, joblib.Memory or Cache, default="auto"
        As the parameter of the estimators; ``"auto"`` is the cache that they share in this process by default.

    Returns
    -------
    StoreInfo
        ``entries`` is the number of outputs that are there, ``n_bytes`` their size (of a folder, that of its files), and
        ``max_bytes`` the limit that ``memory`` sets. ``hits`` and ``misses`` count what this process found and did not find.
        ``encoded`` is the number of rows that were ever computed and kept, in a folder by all processes.

    Raises
    ------
    TypeError, ValueError
        If ``memory`` is None, where nothing is kept, or not a value that the estimators take.

    See Also
    --------
    Cache : Says where a cache is, and how much it keeps.
    clear_cache : Removes what it holds.

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
    return cache._store().info()


def clear_cache(memory: Any = "auto") -> None:
    """Remove what a cache holds. Estimators that use it still work; they compute again what they need.

    Parameters
    ----------
    memory : "auto", str, path, joblib.Memory or Cache, default="auto"
        As the parameter of the estimators. ``"auto"`` removes everything that is kept in this process, also by caches with
        another ``max_bytes``, and closes checkpoints that were kept open for the next fit.

    Raises
    ------
    OSError
        If a folder could not be emptied, for example because it is read-only.
    TypeError, ValueError
        If ``memory`` is not a value that the estimators take.

    See Also
    --------
    Cache : Says where a cache is, and how much it keeps.
    cache_info : What it holds.

    Examples
    --------
    >>> from skxlmr import cache_info, clear_cache, XLMRobertaVectorizer
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini").fit(["Good morning."])
    >>> clear_cache()
    >>> cache_info().entries
    0
    """
    if isinstance(memory, str) and memory == "auto":
        for (folder, _), store in list(_stores().items()):
            if folder is None:
                store.clear()
        forget_opened()
        return
    cache = cache_of(memory)
    if cache is not None:
        cache._store().clear()


def _check_path(name: str, path: Any, others: str) -> None:
    expected = f"{name} must be {others} or the path of a folder, got {path!r}"
    if not is_path(path):
        raise TypeError(expected)
    check_name(path, name)
    if not os.fspath(path):
        raise ValueError(expected)
    if isinstance(path, str) and path.strip().lower() in ("auto", "none"):
        raise ValueError(f"{expected}; a folder of that name is {os.path.join('.', path)!r}")


_of_processes: dict[int, dict[tuple[str | None, int], Store]] = {}


def _stores() -> dict[tuple[str | None, int], Store]:
    """The stores of this process; a forked one starts with none, since locks and connections do not survive a fork."""
    found = _of_processes.get(os.getpid())
    if found is None:
        _of_processes.clear()
        found = _of_processes.setdefault(os.getpid(), {})
    return found


_hashes: dict[tuple[Any, ...], str] = {}  # of checkpoints, by their folder and the stamp of their files


def _disk_store(folder: str, size: int) -> DiskStore:
    from skxlmr.inference._stores.disk import DiskStore  # and SQLite with it

    return DiskStore(folder, size)


def _content_hash(store: Any, origin: Origin) -> str:
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
