"""Replace a folder as a whole or not at all, whatever ends the process and whoever writes there at the same time.

The new folder is written next to the target and renamed. Its writer holds a lock on it, which ends with the process. So the
next writer can distinguish what a killed process left behind, which it removes, from what another process is still writing.
"""

import errno
import glob
import hashlib
import os
import secrets
import shutil
import stat
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._warnings import outside_stacklevel

try:
    import fcntl
except ImportError:  # Windows: one writer at a time
    fcntl = None  # type: ignore[assignment]

_LONGEST_NAME = 200  # bytes of a folder's name in the names of its temporary folders
_TRIES = 100  # of a swap, each disturbed by another writer


@contextmanager
def fresh_folder(target: Path) -> Iterator[Path]:
    """A new folder next to the target, to be filled and passed to :func:`swap`; removed at the end if it is still there."""
    fresh, lock = _locked_folder(target)
    try:
        yield fresh
    except CheckpointError as error:
        if not Path(error.file).is_relative_to(fresh):
            raise
        # the name that the file was meant to have: the fresh folder no longer exists when the error is read
        raise CheckpointError(target / Path(error.file).relative_to(fresh), error.reason) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def swap(fresh: Path, target: Path) -> None:
    """Put the fresh folder, already flushed to disk, in the place of the target.

    Raises
    ------
    OSError
        If it cannot be renamed; the old folder stays.
    CheckpointError
        If other processes replace the target each time.
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
                    raise  # otherwise another process has put its own folder there meanwhile
        else:
            raise CheckpointError(target, "is being replaced by other processes again and again")
    except BaseException:
        if asides[-1].exists() and not target.exists():
            asides[-1].rename(target)
        raise
    for aside in asides:
        _discard(aside, target)
    try:
        flush(target.parent)
    except OSError as error:
        warnings.warn(
            f"{target} is complete and in its place, but the disk did not confirm it ({error}): it could be lost if the "
            "machine stops now",
            UserWarning,
            stacklevel=outside_stacklevel(),
        )


def keep_modes(fresh: Path, target: Path) -> None:
    """Give a fresh folder and its files the permissions of those that they replace; new files get the strictest of these."""
    if not target.is_dir():
        return
    with suppress(FileNotFoundError):  # another process is replacing it too
        strictest = min((_mode(path) for path in target.iterdir() if path.is_file()), default=0o600)
        for path in fresh.rglob("*"):
            old = target / path.relative_to(fresh)
            if old.exists() or path.is_file():
                path.chmod(_mode(old) if old.exists() else strictest)
        fresh.chmod(_mode(target))


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def recover(target: Path) -> None:
    """Put back or remove what a killed write left next to the target."""
    new, old = _temporary(target, "new"), _temporary(target, "old")
    for path in sorted(target.parent.iterdir()):
        with suppress(OSError):  # another process did it first
            if path.name.startswith(old) and not target.exists():
                path.rename(target)  # killed between the two renames
            elif path.name.startswith(old):
                _discard(path, target)
            elif path.name.startswith(new):
                _remove_unless_locked(path)


def surviving(target: Path) -> Path | None:
    """Where the old folder is if a write was killed between the two renames; the next write puts it back."""
    if target.exists() or not target.parent.is_dir():
        return None
    return next(target.parent.glob(glob.escape(_temporary(target, "old")) + "*"), None)


def flush(path: Path) -> None:
    """Force a file, or the entries of a folder, to disk."""
    if os.name == "nt":  # Windows cannot flush a file that is open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(target: Path, kind: str) -> str:
    """Start of the names of temporary folders; distinct for each target, and short enough for any file system."""
    name = os.fsencode(target.name)
    if len(name) > _LONGEST_NAME:
        name = name[: _LONGEST_NAME - 17] + b"-" + hashlib.sha256(name).hexdigest()[:16].encode()
    return f".{os.fsdecode(name)}.skxlmr-{kind}-"


def _discard(aside: Path, target: Path) -> None:
    """Remove a folder that was replaced. While it is only partly removed, it has a name that is never put back."""
    trash = target.with_name(_temporary(target, "new") + secrets.token_hex(4))
    with suppress(FileNotFoundError):  # another process did it first
        aside.rename(trash)
        trash.chmod(0o700)
        shutil.rmtree(trash, ignore_errors=True)


def _locked_folder(target: Path) -> tuple[Path, int | None]:
    """Make a new folder; returns it and the descriptor that holds its lock, None if there are no locks."""
    while True:
        fresh = target.with_name(_temporary(target, "new") + secrets.token_hex(4))
        fresh.mkdir()
        with suppress(FileNotFoundError):  # what was private is never open to others, not even for a moment
            fresh.chmod(_mode(target) | stat.S_IRWXU)
        with suppress(FileNotFoundError, BlockingIOError):  # another writer took it for a leftover meanwhile
            return fresh, lock_folder(fresh)


def _remove_unless_locked(folder: Path) -> None:
    with suppress(BlockingIOError):  # another process is writing it
        lock = lock_folder(folder)
        try:
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            if lock is not None:
                os.close(lock)


def lock_folder(folder: Path) -> int | None:
    """Lock a folder; returns the descriptor that holds the lock, None if the file system or the platform has no locks.

    Raises
    ------
    BlockingIOError
        If another process holds it.
    FileNotFoundError
        If there is no such folder, or it was removed in this moment: a lock on it would keep nobody out of the next one.
    """
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not os.fstat(descriptor).st_nlink:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    except OSError as error:
        os.close(descriptor)
        if isinstance(error, BlockingIOError | FileNotFoundError):
            raise
        return None
    return descriptor
