"""Arrays on disk: what a cache in a folder is kept in, against bare SQLite and LMDB; seconds, bytes, memory.

Each contender runs in a process of its own. It writes float32 vectors of 768 in transactions of 1,000, reads all of them in
random order, 1,000 at a time and then one at a time, and does the same with states of 25 tokens, 100 at a time to write and 32
to read. Everything that is read is put together into one array, as a batch is. The files stay in the page cache.
"""

import argparse
import hashlib
import json
import random
import sqlite3
import tempfile
import time
from pathlib import Path

import numpy as np
from _common import describe_machine, is_installed, make_parser, markdown_table, memory, run_child

SIZE = 768
TOKENS = 25
CONTENDERS = ("skxlmr", "SQLite", "SQLite, mapped", "LMDB", "LMDB, no sync")


class Skxlmr:
    """The store itself: with claims, checksums, times of use and a limit."""

    def __init__(self, folder):
        from skxlmr.inference._stores import DiskStore

        self.store = DiskStore(folder, 2**34)

    def put(self, keys, arrays):
        assert len(self.store.claim(keys)) == len(keys)
        self.store.put(dict(zip(keys, arrays, strict=True)))

    def get(self, keys, shape):
        found = self.store.get(keys)
        return np.stack([found[key] for key in keys])


class SQLite:
    """A table, in WAL mode."""

    def __init__(self, folder, mapped=False):
        self.connection = sqlite3.connect(Path(folder, "arrays.sqlite"), isolation_level=None)
        for pragma in (
            "page_size = 16384",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            f"mmap_size = {2**34 * mapped}",
        ):
            self.connection.execute(f"PRAGMA {pragma}")
        self.connection.execute("CREATE TABLE arrays (id INTEGER PRIMARY KEY, key BLOB UNIQUE, value BLOB)")

    def put(self, keys, arrays):
        self.connection.execute("BEGIN IMMEDIATE")
        rows = ((key, array.data) for key, array in zip(keys, arrays, strict=True))
        self.connection.executemany("INSERT INTO arrays (key, value) VALUES (?, ?)", rows)
        self.connection.execute("COMMIT")

    def get(self, keys, shape):
        found = {}
        for first in range(0, len(keys), 500):
            part = keys[first : first + 500]
            query = f"SELECT key, value FROM arrays WHERE key IN ({','.join('?' * len(part))})"
            found.update(self.connection.execute(query, part))
        return np.stack([np.frombuffer(found[key], np.float32).reshape(shape) for key in keys])


class LMDB:
    """One map; arrays are read where they lie in it."""

    def __init__(self, folder, sync=True):
        import lmdb

        self.map = lmdb.open(folder, map_size=2**34, sync=sync)

    def put(self, keys, arrays):
        with self.map.begin(write=True) as transaction:
            for key, array in zip(keys, arrays, strict=True):
                transaction.put(key, array.tobytes())

    def get(self, keys, shape):
        with self.map.begin(buffers=True) as transaction:
            return np.stack([np.frombuffer(transaction.get(key), np.float32).reshape(shape) for key in keys])


def open_contender(name, folder):
    made, _, option = name.partition(", ")
    options = {"mapped": {"mapped": True}, "no sync": {"sync": False}}.get(option, {})
    return {"skxlmr": Skxlmr, "SQLite": SQLite, "LMDB": LMDB}[made](folder, **options)


def parts(keys, size):
    return [keys[first : first + size] for first in range(0, len(keys), size)]


def measure(name, n_vectors, n_states):
    """Seconds of each step, MiB on disk and in memory."""
    rng, figures = np.random.default_rng(0), {}
    with tempfile.TemporaryDirectory(prefix="skxlmr-store-") as folder:
        store = open_contender(name, folder)
        before = memory("VmRSS"), memory("RssAnon")

        def timed(step, run, batches):
            start = time.perf_counter()
            for batch in batches:
                run(batch)
            figures[step] = time.perf_counter() - start

        for what, n, shape, to_write, to_read in (
            ("vectors", n_vectors, (SIZE,), 1000, 1000),
            ("states", n_states, (TOKENS, SIZE), 100, 32),
        ):
            keys = [hashlib.sha256(f"{what} {i}".encode()).digest() for i in range(n)]
            arrays = rng.standard_normal((to_write, *shape), dtype=np.float32)
            timed(f"write {what}", lambda batch, a=arrays: store.put(batch, a[: len(batch)]), parts(keys, to_write))
            random.Random(0).shuffle(keys)
            timed(f"read {what}", lambda batch, s=shape: store.get(batch, s), parts(keys, to_read))
            if what == "vectors":
                timed("read one", lambda batch, s=shape: store.get(batch, s), parts(keys[:10_000], 1))
        figures["disk"] = sum(path.stat().st_blocks * 512 for path in Path(folder).rglob("*") if path.is_file()) / 2**20
        figures |= {"resident": memory("VmRSS") - before[0], "own": memory("RssAnon") - before[1]}
    return figures


def main():
    parser = make_parser(__doc__, data="", checkpoint=False)
    parser.add_argument("--vectors", type=int, default=100_000)
    parser.add_argument("--states", type=int, default=20_000)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    n_vectors, n_states = (2000, 200) if args.quick else (args.vectors, args.states)
    if args.contender:
        print(json.dumps(measure(args.contender, n_vectors, n_states)))
        return
    print(describe_machine("cpu", "numpy", "lmdb"), f"SQLite {sqlite3.sqlite_version}", sep=", ")
    print(f"{n_vectors} vectors of {SIZE}, {n_states} states of {TOKENS} tokens")
    if not is_installed("lmdb"):
        print("lmdb is not installed (pip install lmdb): without it")
    rows = []
    options = ["--vectors", str(args.vectors), "--states", str(args.states), *(["--quick"] if args.quick else [])]
    for name in CONTENDERS:
        if name.startswith("LMDB") and not is_installed("lmdb"):
            continue
        found = run_child(__file__, ["--contender", name, *options])
        steps = ("write vectors", "read vectors", "write states", "read states")
        one = 1e6 * found["read one"] / min(n_vectors, 10_000)
        sizes = (f"{found[what]:,.0f}" for what in ("disk", "resident", "own"))
        rows.append((name, *(f"{found[step]:.2f}" for step in steps), f"{one:.0f}", *sizes))
    header = (
        "",
        "write vectors, s",
        "read, s",
        "write states, s",
        "read, s",
        "read one, µs",
        "disk, MiB",
        "resident, MiB",
        "own",
    )
    print(f"\n{markdown_table(header, rows)}")


if __name__ == "__main__":
    main()
