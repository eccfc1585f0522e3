"""Users of a store on disk, for tests in threads and processes."""

import hashlib
import os
import random
import sqlite3
import threading
import time

import numpy as np
import pytest

from skxlmr.inference._stores.disk import DiskStore

MAX_BYTES = 2**26
needs_locks = pytest.mark.skipif(os.name == "nt", reason="needs locks of files that end with the process")


def key(name):
    return hashlib.sha256(str(name).encode()).digest()


def value(key, size=192):
    """An array that is a function of its key, in a type and shape that are too."""
    seed = int.from_bytes(key[:4], "little")
    array = np.random.default_rng(seed).integers(0, 2**16, size).astype(("<f4", "<u2", "<f8")[seed % 3])
    return array.reshape(-1, 4) if seed % 2 else array


KEYS = [key(i) for i in range(60)]
VALUES = {name: value(name) for name in KEYS}


def assert_right(values):
    for name, array in values.items():
        expected = value(name, array.size)
        assert array.dtype == expected.dtype and np.array_equal(array, expected), name.hex()


def fetch(store, keys, compute=value, at_once=50):
    """As an engine does: what is there, then what is this caller's to compute, then what others have computed."""
    found = store.get(keys)
    missing = [name for name in keys if name not in found]
    end = time.monotonic() + 120
    while missing:
        assert time.monotonic() < end, f"still waiting for {len(missing)} of {len(keys)} arrays"
        mine = store.claim(missing)
        for first in range(0, len(mine), at_once):
            made = {name: compute(name) for name in mine[first : first + at_once]}
            store.put(made)
            found |= made
        if not mine:
            store.wait(0.2)
        missing = [name for name in missing if name not in found]
        found |= store.get(missing)
        missing = [name for name in missing if name not in found]
    return found


def hammer(location, n_keys, n_threads, seed):
    """Threads that need overlapping keys of one store; exits with 1 if an array is wrong."""
    store, failures = DiskStore(location, MAX_BYTES), []

    def work(number):
        try:
            names = [key(i) for i in range(n_keys)]
            random.Random(seed * 100 + number).shuffle(names)
            for first in range(0, n_keys, 97):
                assert_right(fetch(store, names[first : first + 97]))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(number,)) for number in range(n_threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    if failures:
        os._exit(1)


def write_much(location, max_bytes, seed, n_turns):
    """Put new arrays without a pause."""
    store, rng = DiskStore(location, max_bytes), random.Random(seed)
    for _ in range(n_turns):
        names = [rng.randbytes(32) for _ in range(100)]
        assert store.claim(names) == names
        store.put(dict.fromkeys(names, np.zeros(768, np.float32)))
        store.get(names)
    store.close()


def claim_and_stay(location, names, ready):
    """Claim keys, and never compute them."""
    store = DiskStore(location, MAX_BYTES)
    assert store.claim(names) == names
    ready.set()
    time.sleep(600)


def write_until_killed(location, seed, ready):
    """Claim, put, remove, read and remember in turn, as fast as possible."""
    store, rng = DiskStore(location, 2**21), random.Random(seed)
    ready.set()
    while True:
        names = [key(rng.randrange(3000)) for _ in range(rng.randrange(1, 60))]
        mine = store.claim(names)
        store.put({name: value(name) for name in mine[len(mine) // 4 :]})
        store.release(mine)
        assert_right(store.get(names))
        if rng.random() < 0.02:
            store.clear()


def is_wal(store):
    return os.path.exists(store._database.file + "-wal")


def run_sql(store, sql, *parameters):
    connection = sqlite3.connect(store._database.file)
    with connection:
        connection.execute(sql, parameters)
    connection.close()


def folder_bytes(store):
    return sum(entry.stat().st_size for entry in os.scandir(store._database.folder))


def in_thread(function, *args):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args)))
    thread.start()
    thread.join()
    return result[0]
