"""Who computes what: a number per thread, with a lock on a byte of a file that the kernel releases when the process dies.

POSIX locks belong to a process: a fork has none of them, and the process loses all that it has on a file when it closes any
descriptor of that file. So a file is opened once per process and never closed.
"""

import os
import threading
import weakref
from contextlib import suppress
from secrets import randbits

try:
    import fcntl
except ImportError:  # Windows: processes don't see each other's claims
    fcntl = None  # type: ignore[assignment]


class Owners:
    """The threads of this process, and whether those of others are alive.

    Parameters
    ----------
    descriptor : int
        An open file; its content does not matter.
    """

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self._local = threading.local()

    def mine(self) -> int:
        """The number of this thread."""
        pid, owner = getattr(self._local, "owner", (None, 0))
        if pid != os.getpid():
            owner = randbits(60) + 1
            _threads[owner] = weakref.ref(threading.current_thread())
            self._lock(owner)
            self._local.owner = os.getpid(), owner
        return owner

    def abandon(self) -> None:
        """Give up all claims of this thread, without writing to the database."""
        pid, owner = getattr(self._local, "owner", (None, 0))
        if pid == os.getpid():
            del self._local.owner
            _threads.pop(owner, None)
            self._unlock(owner)

    def is_alive(self, owner: int) -> bool:
        """Whether a thread is still there."""
        if not isinstance(owner, int) or not 0 < owner <= 2**60:  # from a damaged file
            return False
        if owner in _threads:
            thread = _threads[owner]()
            if thread is not None and thread.is_alive():
                return True
            del _threads[owner]
            self._unlock(owner)
            return False
        if not self._lock(owner):
            return True
        self._unlock(owner)
        return False

    def _lock(self, owner: int) -> bool:
        """Whether no other process has the lock; also if there are no locks here, so that nobody waits."""
        if fcntl is not None:
            try:
                fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, owner)
            except (BlockingIOError, PermissionError):
                return False
            except OSError:
                pass
        return True

    def _unlock(self, owner: int) -> None:
        if fcntl is not None:
            with suppress(OSError):
                fcntl.lockf(self._descriptor, fcntl.LOCK_UN, 1, owner)


_threads: "dict[int, weakref.ref[threading.Thread]]" = {}
_owners: dict[tuple[int, int], Owners] = {}
_opening = threading.Lock()


def owners_of(file: str) -> Owners:
    """The threads that claim through a file of locks, which is created if there is none."""
    with _opening:
        try:
            status = os.stat(file)
            known = _owners.get((status.st_dev, status.st_ino))
            if known is not None:
                return known
        except FileNotFoundError:
            pass
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        status = os.fstat(descriptor)
        return _owners.setdefault((status.st_dev, status.st_ino), Owners(descriptor))


def _start_anew() -> None:
    global _opening
    _opening = threading.Lock()
    _threads.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)
