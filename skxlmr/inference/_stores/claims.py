"""Claims on keys, so that of several threads and processes that need an array one computes it and the others wait.

A claim counts while the thread that made it is alive, which a lock tells that the kernel releases with its process. A thread
that is alive but gets nowhere, such as one of a stopped process, loses its claims to those who have waited for long.
"""

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from sqlite3 import Connection

from skxlmr.inference._stores.owners import Owners

PATIENCE_SECONDS = 600.0  # with a thread that has put none of the arrays that a caller waits for
KEYS_PER_QUERY = 500


def parts(keys: Sequence[bytes]) -> Iterator[tuple[str, Sequence[bytes]]]:
    """Keys in parts that fit into a query, each with its list of placeholders."""
    for first in range(0, len(keys), KEYS_PER_QUERY):
        part = keys[first : first + KEYS_PER_QUERY]
        yield f"({','.join('?' * len(part))})", part


class Claims:
    """What this process knows of the claims in a database.

    Parameters
    ----------
    clock : callable
        Seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._local = threading.local()

    def free(
        self, connection: Connection, owners: Owners, keys: Sequence[bytes], bad: Collection[bytes]
    ) -> tuple[list[bytes], set[bytes]]:
        """The keys that are not there, or are in ``bad``, and that nobody else computes; and those that are there."""
        there: set[bytes] = set()
        owner_of: dict[bytes, int] = {}
        for marks, part in parts(keys):
            there.update(key for (key,) in connection.execute(f"SELECT key FROM entries WHERE key IN {marks}", part))
            owner_of.update(connection.execute(f"SELECT key, owner FROM claims WHERE key IN {marks}", part))
        there.difference_update(bad)
        counts: dict[int, int] = {}
        for key, owner in owner_of.items():
            if key not in there:
                counts[owner] = counts.get(owner, 0) + 1
        mine = owners.mine()
        others = {owner for owner in counts if owner != mine and owners.is_alive(owner)}
        others -= self._stuck({owner: counts[owner] for owner in others})
        return [key for key in keys if key not in there and owner_of.get(key) not in others], there

    def _stuck(self, n_left: dict[int, int]) -> set[int]:
        """Those for whose arrays this thread has waited for long, and that have put none of them since."""
        before: dict[int, tuple[int, float]] = getattr(self._local, "waiting", {})
        now, waiting = self._clock(), {}
        for owner, n in n_left.items():
            waiting[owner] = before[owner] if owner in before and before[owner][0] == n else (n, now)
        self._local.waiting = waiting
        return {owner for owner, (_, since) in waiting.items() if now - since >= PATIENCE_SECONDS}


def make(connection: Connection, owner: int, keys: Sequence[bytes]) -> None:
    """Claim keys, whoever had claimed them."""
    connection.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?)", [(key, owner) for key in keys])


def end(connection: Connection, keys: Sequence[bytes], owner: int | None = None) -> None:
    """End the claims on keys, by default whoever made them."""
    whose = "" if owner is None else f" AND owner = {owner}"
    for marks, part in parts(keys):
        connection.execute(f"DELETE FROM claims WHERE key IN {marks}{whose}", part)


def remove_dead(connection: Connection, owners: Owners) -> None:
    """Remove what killed processes have left."""
    mine = owners.mine()
    for (owner,) in connection.execute("SELECT DISTINCT owner FROM claims").fetchall():
        if owner != mine and not owners.is_alive(owner):
            connection.execute("DELETE FROM claims WHERE owner = ?", (owner,))
