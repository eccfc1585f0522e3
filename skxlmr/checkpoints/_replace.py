"""Replace a folder as a whole or not at all, whatever ends the process and whoever writes there at the same time.

The new folder is written beside the target and renamed. Its writer holds a lock on it, which ends with the process: so the
next one can tell what a killed process left behind, and removes it, from what another process is still writing.
"""

import errno
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skxlmr.utils._errors import CheckpointError

try:
    import fcntl
except ImportError:  # Windows: one writer at a time
    fcntl = None  # type: ignore[assignment]

_TRIES = 100  # swaps that other writers may come in between of


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """A new folder beside the target to write into and :func:`swap`; removed at the end if it is still there."""
    fresh, lock = _locked_folder(target)
    try:
        yield fresh
    except CheckpointError as error:
        if not Path(error.file).is_relative_to(fresh):
            raise
        # the name that the file was to have, not that of a folder that is no more
        raise CheckpointError(target / Path(error.file).relative_to(fresh), error.reason) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def swap(fresh: Path, target: Path) -> None:
    """Put the fresh folder, whose content is on the disk, into the place of the target.

    Raises
    ------
    OSError
        If it cannot be renamed; what was there stays.
    """
    asides: list[Path] = []
    try:
        for _ in range(_TRIES):
            asides.append(target.with_name(_temporary(target, "old") + secrets.token_hex(4)))
            try:
                with suppress(FileNotFoundError):
                    target.rename(asides[-1])
                fresh.rename(target)
                break
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise  # not because another process has put its own there since
        else:
            raise CheckpointError(target, "is being replaced by other processes again and again")
    except BaseException:
        if asides[-1].exists() and not target.exists():
            asides[-1].rename(target)
        raise
    flush(target.parent)
    for aside in asides:
        shutil.rmtree(aside, ignore_errors=True)


def recover(target: Path) -> None:
    """Undo what a write that was killed left beside the target."""
    new, old = _temporary(target, "new"), _temporary(target, "old")
    for path in sorted(target.parent.iterdir()):
        with suppress(OSError):  # another process did it first
            if path.name.startswith(old) and not target.exists():
                path.rename(target)  # killed between the two renames
            elif path.name.startswith(old):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith(new):
                _remove_unless_locked(path)


def surviving(target: Path) -> Path | None:
    """Where a folder lies that a write was killed between moving away and replacing; the next write puts it back."""
    if target.exists() or not target.parent.is_dir():
        return None
    return next(target.parent.glob(glob.escape(_temporary(target, "old")) + "*"), None)


def flush(path: Path) -> None:
    """Have a file, or the entries of a folder, written to the disk itself."""
    if os.name == "nt":  # Windows cannot flush what is open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(target: Path, kind: str) -> str:
    return f".{target.name}.skxlmr-{kind}-"


def _locked_folder(target: Path) -> tuple[Path, int | None]:
    """A new folder and the descriptor that holds its lock, None where there are no locks."""
    while True:
        fresh = target.with_name(_temporary(target, "new") + secrets.token_hex(4))
        fresh.mkdir()
        if fcntl is None:
            return fresh, None
        with suppress(FileNotFoundError, BlockingIOError):  # a writer that came in between took it for a leftover
            lock = _lock(fresh)
            if lock is None or os.fstat(lock).st_nlink:
                return fresh, lock
            os.close(lock)


def _remove_unless_locked(folder: Path) -> None:
    with suppress(BlockingIOError):  # somebody is writing it
        lock = None if fcntl is None else _lock(folder)
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            if lock is not None:
                os.close(lock)


def _lock(folder: Path) -> int | None:
    """Descriptor with the lock of a folder; None if the file system has no locks.

    Raises
    ------
    BlockingIOError
        If another process has it.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
