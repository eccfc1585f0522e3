"""Arrays on disk, shared by processes and kept for later ones.

Every array is stored with a checksum over its key, type, shape and bytes: one that does not match is missing.
"""

import threading
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from sqlite3 import Connection
from typing import NamedTuple

import numpy as np

from skxlmr.inference._stores import claims
from skxlmr.inference._stores.database import PAGE_BYTES, Database, Opened
from skxlmr.inference._stores.store import StoreInfo

MOST_BYTES_PER_WRITE = 2**24  # of a transaction, while other processes can't write
USED_MINUTES = 10  # the time of use is written again after so long, so that reading rarely writes
MOST_HASHES = 10_000
_ROW_BYTES = 160  # key, type, shape, checksum and entries of the indices


class DiskStore:
    """Arrays by key in an SQLite file.

    It does not fail, except for ``clear``: if the file can't be used, nothing is found and everything is the caller's to
    compute, which one warning per process says.

    Parameters
    ----------
    location : str
        Folder, created at the first write.
    max_bytes : int
        Largest size of the file. The least recently used arrays go first.
    """

    def __init__(self, location: str, max_bytes: int):
        self.max_bytes = max_bytes
        self._portion_bytes = max(min(MOST_BYTES_PER_WRITE, max_bytes // 8), 1)
        self._most_pages = (max_bytes - 2 * self._portion_bytes) // PAGE_BYTES  # the rest is for the log
        self._database = Database(location, self._portion_bytes)
        self._claims = claims.Claims()
        self._bad: set[bytes] = set()  # keys whose array is not what was written
        self._is_swept = False
        # at this thread's last claim: the state of the file, and the keys that were there
        self._seen = threading.local()
        self._n_changes = self._hits = self._misses = 0

    @property
    def location(self) -> str:
        """The folder."""
        return self._database.location

    def close(self) -> None:
        """Close the file; the next use opens it again."""
        self._database.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The arrays that are there, read-only."""
        found: dict[bytes, np.ndarray] = {}
        now = int(time.time() // 60)

        def read(opened: Opened) -> list[int]:
            used = []
            for marks, part in claims.parts(keys):
                for row in opened.connection.execute(_GET + marks, part):
                    array = _decode(*row[2:])
                    if array is None:
                        self._bad.add(row[2])
                        continue
                    found[row[2]] = array
                    if not isinstance(row[1], int) or abs(now - row[1]) >= USED_MINUTES:
                        used.append(row[0])
            return used

        def touch(opened: Opened) -> None:
            opened.connection.executemany(
                "UPDATE entries SET used = ? WHERE id = ?", [(now, number) for number in used]
            )

        nothing: list[int] = []
        used = self._database.read(read, nothing)
        if used:
            self._database.write(touch, None, must_wait=False)
        self._bad.difference_update(found)
        self._bad.update(self._promised().intersection(keys).difference(found))
        self._hits += len(found)
        return found

    def claim(self, keys: Sequence[bytes]) -> list[bytes]:
        """The keys that the caller is to compute now; the others are there, or another thread or process computes them."""
        keys = list(dict.fromkeys(keys))

        def free(opened: Opened) -> list[bytes]:
            self._seen.state = self._state_of(opened)
            found, self._seen.there = self._claims.free(opened.connection, opened.owners, keys, self._bad)
            return found

        def take(opened: Opened) -> list[bytes]:
            if not self._is_swept:
                claims.remove_dead(opened.connection, opened.owners)
                self._is_swept = True
            taken = free(opened)
            claims.make(opened.connection, opened.owners.mine(), taken)
            return taken

        taken = self._database.write(take, keys) if self._database.read(free, keys) else []
        self._misses += len(taken)
        return taken

    def put(self, values: Mapping[bytes, np.ndarray]) -> None:
        """Keep arrays, and end the claims on their keys."""
        is_kept = True
        for portion in _portions(values, self._portion_bytes):
            is_kept = is_kept and self._database.write(partial(self._put, values=portion), False)
            self._database.bound_log()
        self._n_changes += 1
        if is_kept:
            self._shrink(self._most_pages)
        else:
            self._database.abandon_claims()

    def release(self, keys: Sequence[bytes]) -> None:
        """Give up claims, after an error."""

        def end(opened: Opened) -> bool:
            claims.end(opened.connection, keys, opened.owners.mine())
            return True

        if not self._database.write(end, False):
            self._database.abandon_claims()
        self._n_changes += 1

    def wait(self, seconds: float) -> None:
        """Wait until something was put or released since this thread's last ``claim``, at most so long."""
        before = getattr(self._seen, "state", None)
        end, pause = time.monotonic() + seconds, 0.005
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(pause, left))
            pause = min(1.5 * pause, 0.05)
            if self._database.read(self._state_of, None) != before:
                return

    def info(self) -> StoreInfo:
        """What it holds; ``n_bytes`` is the size of the files, with the space that is to be used again."""

        def read(opened: Opened) -> tuple[int, int]:
            (entries,) = opened.connection.execute("SELECT COUNT(*) FROM entries").fetchone()
            (encoded,) = opened.connection.execute("SELECT SUM(value) FROM counters WHERE name = 'encoded'").fetchone()
            return entries, encoded or 0

        entries, encoded = self._database.read(read, (0, 0))
        n_bytes = self._database.n_bytes()
        return StoreInfo(self.location, entries, n_bytes, self.max_bytes, self._hits, self._misses, encoded)

    def clear(self) -> None:
        """Remove all arrays.

        Raises
        ------
        OSError
            If they are still there.
        """

        def remove(opened: Opened) -> bool:
            opened.connection.execute("DELETE FROM contents")
            opened.connection.execute("DELETE FROM entries")
            return True

        for _ in range(2):  # a damaged file is removed by the first attempt; another process may make the next one
            if not self._database.exists():
                return
            if self._database.write(remove, False):
                self._shrink(0)
                return
        with suppress(OSError):  # damaged in a way that SQLite does not tell, or in use
            self._database.remove()
            return
        raise OSError(
            f"the cache in {self.location} could not be emptied, and what it holds is still there: close other programs that "
            "use it and try again, or delete the folder"
        )

    def known_hash(self, stamp: str) -> str | None:
        """The content hash of the file with this stamp (path, device, inode, size, times), if it was remembered."""

        def read(opened: Opened) -> str | None:
            row = opened.connection.execute("SELECT digest FROM hashes WHERE stamp = ?", (stamp,)).fetchone()
            digest = "" if row is None else str(row[0]).partition(" ")[0]
            return digest if row is not None and row[0] == _checked(stamp, digest) else None

        return self._database.read(read, None)

    def remember_hash(self, stamp: str, digest: str) -> None:
        """Remember the content hash of the file with this stamp; see :func:`file_stamp`."""

        def write(opened: Opened) -> None:
            row = stamp, _checked(stamp, digest)
            opened.connection.execute("INSERT OR REPLACE INTO hashes (stamp, digest) VALUES (?, ?)", row)
            opened.connection.execute(f"DELETE FROM hashes WHERE id <= (SELECT MAX(id) FROM hashes) - {MOST_HASHES}")

        self._database.write(write, None)

    def _shrink(self, most_pages: int) -> None:
        """Give free pages beyond this number of pages back to the file system."""

        def shrink(opened: Opened) -> bool:
            connection = opened.connection
            n_pages = min(_pragma(connection, "page_count") - most_pages, _pragma(connection, "freelist_count"))
            if n_pages > 0:
                # `execute` would do the first page only
                connection.executescript(f"PRAGMA incremental_vacuum({n_pages})")
            return n_pages > 0

        if self._database.read(shrink, False):
            self._database.end_log()

    def _promised(self) -> set[bytes]:
        """Keys that were there when this thread last claimed: if one can't be read now, its array is to be replaced."""
        there: set[bytes] = getattr(self._seen, "there", set())
        return there

    def _state_of(self, opened: Opened) -> tuple[int, int]:
        """Changes when a value was put or a claim given up, by this process or another."""
        return self._n_changes, opened.connection.execute("PRAGMA data_version").fetchone()[0]

    def _put(self, opened: Opened, values: Mapping[bytes, np.ndarray]) -> bool:
        connection, now = opened.connection, int(time.time() // 60)
        there: dict[bytes, int] = {}
        for marks, part in claims.parts(list(values)):
            there.update(connection.execute(f"SELECT key, id FROM entries WHERE key IN {marks}", part))
        bad = [there.pop(key) for key in self._bad.intersection(there)]
        _remove(connection, bad)
        most_pages = self._most_pages
        new = {key: value for key, value in values.items() if key not in there and _n_pages(value) < most_pages // 2}
        _evict(connection, most_pages - sum(map(_n_pages, new.values())), len(new))
        (last,) = connection.execute("SELECT IFNULL(MAX(id), 0) FROM entries").fetchone()
        ids = range(last + 1, last + 1 + len(new))
        connection.executemany(
            "INSERT INTO entries VALUES (?, ?, ?)", [(number, key, now) for number, key in zip(ids, new, strict=True)]
        )
        connection.executemany(
            "INSERT INTO contents VALUES (?, ?, ?, ?)",
            ((number, *_encode(key, value)) for number, (key, value) in zip(ids, new.items(), strict=True)),
        )
        claims.end(connection, list(values))
        connection.execute("UPDATE counters SET value = value + ? WHERE name = 'encoded'", (len(values),))
        self._bad.difference_update(values)
        return True


# Arrays as rows -----------------------------------------------------------------------------------------------------------

_GET = """
SELECT entries.id, used, key, about, crc, value FROM entries LEFT JOIN contents ON contents.id = entries.id WHERE key IN """


class _Row(NamedTuple):
    about: str
    crc: int
    value: memoryview


def _encode(key: bytes, array: np.ndarray) -> _Row:
    array = np.ascontiguousarray(array).reshape(array.shape)  # it makes a number an array of one
    about = f"{array.dtype.str} {','.join(map(str, array.shape))}"
    value = array.reshape(-1).view(np.uint8).data
    return _Row(about, _checksum(key, about, value), value)


def _decode(key: bytes, about: str | None, crc: int, value: bytes) -> np.ndarray | None:
    """The array, None if it is not the one that was put."""
    try:
        if about is None or _checksum(key, about, value) != crc:
            return None
        dtype, _, shape = about.partition(" ")
        return np.frombuffer(value, np.dtype(dtype)).reshape([int(size) for size in shape.split(",") if size])
    except (TypeError, ValueError, AttributeError):  # not even of the types that were put
        return None


def _checksum(key: bytes, about: str, value: bytes | memoryview) -> int:
    return zlib.crc32(value, zlib.crc32(about.encode(), zlib.crc32(key)))


def _checked(stamp: str, digest: str) -> str:
    return f"{digest} {zlib.crc32(f'{stamp} {digest}'.encode('utf-8', 'surrogateescape'))}"


def _portions(values: Mapping[bytes, np.ndarray], most_bytes: int) -> Iterator[dict[bytes, np.ndarray]]:
    """The arrays in portions of about so many bytes."""
    portion: dict[bytes, np.ndarray] = {}
    n_bytes = 0
    for key, value in values.items():
        portion[key] = value
        n_bytes += value.nbytes
        if n_bytes >= most_bytes:
            yield portion
            portion, n_bytes = {}, 0
    if portion:
        yield portion


# The size of the file -----------------------------------------------------------------------------------------------------


def _n_pages(array: np.ndarray) -> float:
    """Pages that an array takes: several share one, or it has several of its own."""
    n_bytes = array.nbytes + _ROW_BYTES
    return n_bytes // PAGE_BYTES + 2 if n_bytes > PAGE_BYTES else 1 / (PAGE_BYTES // n_bytes)


def _evict(connection: Connection, most_pages: float, n_at_once: int) -> None:
    """Remove the least recently used arrays until so many pages are in use."""
    while _pragma(connection, "page_count") - _pragma(connection, "freelist_count") > most_pages:
        oldest = connection.execute("SELECT id FROM entries ORDER BY used, id LIMIT ?", (max(n_at_once, 1),)).fetchall()
        if not oldest:
            return
        _remove(connection, [number for (number,) in oldest])


def _remove(connection: Connection, ids: Sequence[int]) -> None:
    for table in ("contents", "entries"):
        connection.executemany(f"DELETE FROM {table} WHERE id = ?", [(number,) for number in ids])


def _pragma(connection: Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])
