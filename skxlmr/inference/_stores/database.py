"""An SQLite file that may fail: whatever happens to it, the caller goes on without it.

One connection per process, one thread at a time. No connection crosses a fork: SQLite's locks belong to a process, but its
records of them would be copied.
"""

import os
import shutil
import sqlite3
import threading
import time
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import TypeVar

from skxlmr.inference._stores.mounts import is_on_network
from skxlmr.inference._stores.owners import Owners, owners_of
from skxlmr.utils._warnings import outside_stacklevel

FORMAT = 1  # another format is another folder, and left alone
PAGE_BYTES = 16384  # five vectors of 768 float32 fill one; with 4096 a vector takes a page of its own
LOCKED_SECONDS = 20.0  # longest wait for another process's transaction
LOG_SECONDS = 1.0  # longest wait for readers of a log that is to be ended
PAUSE_SECONDS = 30.0  # after a failure, before the next try
_BROKEN = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CONSTRAINT)  # the last: a wrong index
_SCHEMA = f"""
CREATE TABLE entries (id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, used INTEGER NOT NULL);
CREATE INDEX entries_by_use ON entries (used);
CREATE TABLE contents (id INTEGER PRIMARY KEY, about TEXT NOT NULL, crc INTEGER NOT NULL, value BLOB NOT NULL);
CREATE TABLE claims (key BLOB PRIMARY KEY, owner INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX claims_by_owner ON claims (owner);
CREATE TABLE hashes (id INTEGER PRIMARY KEY, stamp TEXT NOT NULL UNIQUE, digest TEXT NOT NULL);
CREATE TABLE counters (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO counters VALUES ('encoded', 0);
PRAGMA user_version = {FORMAT};
"""
Result = TypeVar("Result")


@dataclass(frozen=True)
class Opened:
    """A connection, the threads that may claim through it, and device and inode of the file."""

    connection: sqlite3.Connection
    owners: Owners
    file: tuple[int, int]


class Database:
    """The file of a store, opened when it is first needed.

    Parameters
    ----------
    location : str
        The file lies in a folder of its own in this one, so that the files that SQLite puts beside it go with it.
    log_bytes : int
        The size that the log beside it may reach before its pages go into the file.
    """

    def __init__(self, location: str, log_bytes: int):
        self._log_bytes = log_bytes
        self.location = os.path.abspath(os.path.expanduser(location))
        self.folder = os.path.join(self.location, f"format-{FORMAT}")
        self.file = os.path.join(self.folder, "store.sqlite")
        self._log = self.file + "-wal"
        self._lock = threading.RLock()
        self._box: list[Opened] = []  # at most one
        self._owners: Owners | None = None
        self._paused_until = self._log_until = 0.0
        weakref.finalize(self, _close, self._box)
        _databases.add(self)

    def read(self, work: Callable[[Opened], Result], otherwise: Result) -> Result:
        """Result of ``work``, or ``otherwise`` if there is no such file or it can't be read."""
        return self._run(work, otherwise, create=False)

    def write(self, work: Callable[[Opened], Result], otherwise: Result, must_wait: bool = True) -> Result:
        """Result of ``work`` in a transaction; it is undone, and ``otherwise`` returned, if the file can't be written.

        Without ``must_wait``, ``otherwise`` is also returned if another process is writing.
        """

        def transaction(opened: Opened) -> Result:
            connection = opened.connection
            try:  # from here on, so that no interrupt leaves a transaction open, in which nobody else can write
                if not _begin(connection, must_wait):
                    return otherwise
                result = work(opened)
                connection.execute("COMMIT")
                return result
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite has done it itself, or the connection is closed below
                    connection.execute("ROLLBACK")
                raise

        return self._run(transaction, otherwise, create=True)

    def bound_log(self) -> None:
        """End a log that has grown too large: SQLite does so by itself only in a moment without other readers."""
        start = time.monotonic()
        while start > self._log_until and self._log_size() > 2 * self._log_bytes:
            self.end_log()
            if time.monotonic() > start + LOG_SECONDS:  # another process is stopped while it reads
                self._log_until = start + PAUSE_SECONDS
            time.sleep(0.002)  # or is ending the log itself

    def _log_size(self) -> int:
        with suppress(OSError):
            return os.path.getsize(self._log)
        return 0

    def end_log(self) -> None:
        """Put what the log holds into the file, and make the log empty, unless another process goes on reading it."""
        self._run(_end_log, None, create=False)

    def abandon_claims(self) -> None:
        """Give up this thread's claims although the file can't be written: they are no longer those of a living thread."""
        if self._owners is not None:
            self._owners.abandon()

    def exists(self) -> bool:
        """Whether there is a file."""
        return os.path.exists(self.file)

    def n_bytes(self) -> int:
        """Size of the file and of those beside it."""
        total = 0
        with suppress(OSError), os.scandir(self.folder) as entries:
            for entry in entries:
                with suppress(OSError):  # a log that another process ended meanwhile
                    total += entry.stat().st_size
        return total

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        with self._lock:
            _close(self._box)

    def _run(self, work: Callable[[Opened], Result], otherwise: Result, create: bool) -> Result:
        with self._lock:
            if time.monotonic() < self._paused_until:
                return otherwise
            try:
                opened = self._opened(create)
                return otherwise if opened is None else work(opened)
            # the last is SQLite's message with bytes of the file
            except (OSError, sqlite3.Error, UnicodeDecodeError) as error:
                failure = error
                outcome = self._recover(error)
        _say_once(self.location, failure, outcome)
        return otherwise

    def _opened(self, create: bool) -> Opened | None:
        """The connection; another one if the file is no longer the one that was opened."""
        file = _identity(self.file)
        if self._box and self._box[0].file != file:
            _close(self._box)
        if not self._box and (create or file is not None):
            self._box.append(self._open())
            self._owners = self._box[0].owners
        return self._box[0] if self._box else None

    def _open(self) -> Opened:
        try:
            os.makedirs(self.folder, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise NotADirectoryError("a file is in its place") from None
        except ValueError as error:  # a name with a null byte
            raise OSError(str(error)) from error
        connection = sqlite3.connect(
            self.file, timeout=LOCKED_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=32
        )
        try:
            _prepare(connection, self.folder, self._log_bytes)
            file = _identity(self.file)
            if file is None:
                raise FileNotFoundError("it was removed while it was being opened")
            return Opened(connection, owners_of(os.path.join(self.folder, "owners.lock")), file)
        except BaseException:
            connection.close()
            raise

    def remove(self) -> None:
        """Remove the files, whatever is wrong with them; the next use makes others.

        Raises
        ------
        OSError
            If they can't be removed.
        """
        with self._lock:
            _close(self._box)
            if os.path.lexists(self.folder):
                self._remove()
            self._paused_until = 0.0

    def _remove(self) -> None:
        aside = f"{self.folder}.damaged-{token_hex(4)}"
        os.rename(self.folder, aside)  # all files at once; other processes see that theirs is gone
        shutil.rmtree(aside, ignore_errors=True)

    def _recover(self, error: Exception) -> str:
        """Remove a damaged file, so that the next use makes another; pause after other failures.

        Returns
        -------
        str
            "removed", "paused", or "" if another process has removed it.
        """
        opened = self._box[0].file if self._box else None
        _close(self._box)
        if _is_damage(error):
            if opened is not None and opened != _identity(self.file):
                return ""
            with suppress(OSError):
                self._remove()
                return "removed"
        self._paused_until = time.monotonic() + PAUSE_SECONDS
        return "paused"


def _is_damage(error: Exception) -> bool:
    return (
        isinstance(error, UnicodeDecodeError)
        or getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN
        or str(error).startswith(("no such table", "no such column", "malformed"))
    )


def _begin(connection: sqlite3.Connection, must_wait: bool) -> bool:
    try:
        if not must_wait:
            _wait_at_most(connection, 0.0)
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if must_wait or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    finally:
        if not must_wait:
            _wait_at_most(connection, LOCKED_SECONDS)
    return True


def _end_log(opened: Opened) -> None:
    _wait_at_most(opened.connection, LOG_SECONDS)
    try:
        opened.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    finally:
        _wait_at_most(opened.connection, LOCKED_SECONDS)


def _wait_at_most(connection: sqlite3.Connection, seconds: float) -> None:
    _set(connection, f"busy_timeout = {int(1000 * seconds)}")


def _prepare(connection: sqlite3.Connection, folder: str, log_bytes: int) -> None:
    connection.text_factory = lambda text: text.decode("utf-8", "replace")  # of a damaged file, anything
    _set(
        connection,
        f"journal_size_limit = {log_bytes}",
        f"wal_autocheckpoint = {max(log_bytes // PAGE_BYTES, 1)}",
        "synchronous = NORMAL",  # after a power cut the last arrays may be gone, but the file is whole
        "secure_delete = OFF",  # some builds would write zeros over what is removed
        "temp_store = MEMORY",
    )
    if (found := _version(connection)) == 0:
        _set(
            connection,
            f"page_size = {PAGE_BYTES}",
            "auto_vacuum = INCREMENTAL",  # so that a smaller max_bytes makes a smaller file
            # with a log, readers and writers don't wait for each other, but it needs memory that all of them share
            f"journal_mode = {'TRUNCATE' if is_on_network(folder) else 'WAL'}",
        )
        connection.execute("BEGIN IMMEDIATE")
        if (found := _version(connection)) == 0:
            for statement in _SCHEMA.split(";")[:-1]:
                connection.execute(statement)
        connection.execute("COMMIT")
    if found not in (0, FORMAT):
        raise OSError(f"its format is {found}, expected {FORMAT}")


def _set(connection: sqlite3.Connection, *pragmas: str) -> None:
    for pragma in pragmas:
        connection.execute(f"PRAGMA {pragma}").fetchall()


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _identity(file: str) -> tuple[int, int] | None:
    try:
        status = os.stat(file)
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return status.st_dev, status.st_ino


def _close(box: list[Opened]) -> None:
    while box:
        with suppress(sqlite3.Error):
            box.pop().connection.close()


# What is said -------------------------------------------------------------------------------------------------------------

_said: dict[tuple[str, str], object] = {}


def _say_once(location: str, error: Exception, outcome: str) -> None:
    kind, claim = (location, outcome), object()
    if not outcome or _said.setdefault(kind, claim) is not claim:
        return
    if outcome == "removed":
        message = (
            f"the cache in {location} was damaged ({error}) and starts anew: what was kept there is computed again. Check the "
            "disk if this happens again"
        )
    else:
        effect = "so everything is computed without it"
        message = f"the cache in {location} can't be used ({_reason(error)}), {effect}: {_remedy(error)}"
    try:
        warnings.warn(message, UserWarning, stacklevel=outside_stacklevel())
    except Warning:  # an error by the user's filters: the next call must not pass
        _said.pop(kind, None)
        raise
    except (OSError, ValueError):  # standard error is closed
        pass


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def _remedy(error: Exception) -> str:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return "free some space on the disk, or use a folder on another one"
    if code == sqlite3.SQLITE_BUSY:
        return "another process has kept it locked; look for one that is stopped"
    if isinstance(error, NotADirectoryError):
        return "give the name of a folder, which is created if it does not exist"
    if isinstance(error, PermissionError) or code in (
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    ):
        return "use a folder that you may write to"
    return "use a folder on a local disk that you may write to, or memory=None"


# Forks --------------------------------------------------------------------------------------------------------------------

_databases: "weakref.WeakSet[Database]" = weakref.WeakSet()
_held: dict[int, list[Database]] = {}  # by thread: several may fork at once
_not_closed: list[Opened] = []  # of the parent: closing them here could end what the parent is doing


def _before_fork() -> None:
    held = _held.setdefault(threading.get_ident(), [])
    for database in list(_databases):
        if database._lock.acquire(timeout=2 * LOCKED_SECONDS):
            _close(database._box)
            held.append(database)


def _after_fork_in_parent() -> None:
    for database in _held.pop(threading.get_ident(), []):
        database._lock.release()


def _after_fork_in_child() -> None:
    _held.clear()
    for database in list(_databases):
        database._lock = threading.RLock()
        _not_closed.extend(database._box)
        database._box.clear()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
