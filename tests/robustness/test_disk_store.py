"""Many users of one folder, and processes that are killed: never a wrong array, and each is computed once.

In CI: a few threads, processes and kills. The full size: ``pytest -m slow tests/robustness/test_disk_store.py`` (4 processes
of 16 threads each, 50 kills at random moments, a thousand damaged files, full disks of different sizes).
"""

import os
import random
import resource
import shutil
import signal
import time
import warnings
from contextlib import suppress

import numpy as np
import pytest

from skxlmr.inference._stores import database
from skxlmr.inference._stores.disk import DiskStore
from tests import processes
from tests.inference.stores import MAX_BYTES, assert_right, fetch, hammer, key, value, write_much, write_until_killed

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs processes that can be killed")


def started(function, *arguments):
    process = processes.server().Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def joined(workers, seconds):
    """Exit codes; a process that hangs is killed."""
    end = time.monotonic() + seconds
    for worker in workers:
        worker.join(max(end - time.monotonic(), 0))
        worker.kill()
        worker.join()
    return [worker.exitcode for worker in workers]


def hammer_together(location, n_processes, n_threads, n_keys):
    workers = [started(hammer, str(location), n_keys, n_threads, seed) for seed in range(n_processes)]
    assert joined(workers, 240) == [0] * n_processes
    store = DiskStore(str(location), MAX_BYTES)
    info = store.info()
    assert info.entries == info.encoded == n_keys, "each was computed exactly once"
    assert_right(store.get([key(i) for i in range(n_keys)]))
    assert store._database.read(lambda opened: opened.connection.execute("SELECT * FROM claims").fetchall(), None) == []
    store.close()


def kill_at_random(location, n_kills, n_processes):
    """Kill one of several processes at a time; the others, and this one, go on."""
    rng, context = random.Random(0), processes.server()
    workers = []
    for turn in range(n_kills):
        while len(workers) < n_processes:
            ready = context.Event()
            workers.append(started(write_until_killed, location, rng.random(), ready))
            assert ready.wait(60)
        time.sleep(rng.random() * 0.3)
        victim = workers.pop(rng.randrange(len(workers)))
        victim.kill()
        victim.join()
        assert victim.exitcode == -signal.SIGKILL, "it found a wrong array, or failed"
        store = DiskStore(location, 2**21)
        names = [key(rng.randrange(3000)) for _ in range(40)]
        found = fetch(store, names)
        assert set(found) == set(names), turn
        assert_right(found)
        store.close()
    for worker in workers:
        worker.kill()
        worker.join()
        assert worker.exitcode == -signal.SIGKILL


def use_full_disk(location, limit, status):
    """With files that can't grow beyond a limit; exits with 3 if that was said once and every array is right."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = DiskStore(location, MAX_BYTES)
    names = [key(i) for i in range(400)]
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        found = fetch(store, names, lambda name: value(name, 2000))
        assert_right(found)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert len(found) == 400
    assert len(said) <= 1, [str(warning.message) for warning in said]
    os._exit(3 if said else 0)


def fill_disk(tmp_path, limits):
    for limit in limits:
        location = str(tmp_path / str(limit))
        assert joined([started(use_full_disk, location, limit, 3)], 60) == [3], limit
        store = DiskStore(location, MAX_BYTES)
        names = [key(i) for i in range(400)]
        assert_right(store.get(names))
        assert len(fetch(store, names, lambda name: value(name, 2000))) == 400
        assert_right(store.get(names))
        store.close()


def damage_at_random(tmp_path, n_turns, seed):
    """Damage the file, and use it: no wrong array, no error, no endless waiting. How often it was started anew."""
    location, names = str(tmp_path / "cache"), [key(i) for i in range(60)]
    store = DiskStore(location, MAX_BYTES)
    store.put({name: value(name) for name in names})
    store.claim([key("another")])
    store.close()
    with open(store._database.file, "rb") as file:
        content = file.read()
    rng, n_rebuilt = np.random.default_rng(seed), 0
    for turn in range(n_turns):
        broken = bytearray(content)
        if turn % 3 == 0:
            del broken[int(rng.integers(len(broken))) :]
        else:
            first = int(rng.integers(len(broken) // (1 + 7 * (turn % 2))))  # every other time near the beginning
            part = slice(first, first + int(rng.choice([1, 8, 600, 20000])))
            broken[part] = rng.bytes(len(broken[part]))
        os.makedirs(store._database.folder, exist_ok=True)
        with open(store._database.file, "wb") as file:
            file.write(broken)
        store = DiskStore(location, MAX_BYTES)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            database._said.clear()
            assert_right(fetch(store, names))
            store.info()
            store.known_hash("a")
            store.remember_hash("a", "b")
            store.release(store.claim([key(turn)]))
            assert_right(fetch(store, names))
            store.clear()
        n_rebuilt += any("starts anew" in str(warning.message) for warning in said)
        store.close()
        shutil.rmtree(location, ignore_errors=True)
    return n_rebuilt


def test_processes_share_the_work(tmp_path):
    hammer_together(tmp_path, 2, 3, 120)


def test_killed_at_random_moments(tmp_path):
    kill_at_random(str(tmp_path), 4, 2)


def test_full_disk(tmp_path):
    fill_disk(tmp_path, [0, 200_000])


def test_damage(tmp_path):
    assert damage_at_random(tmp_path, 30, 0) > 3


@pytest.mark.slow
def test_16_threads_in_each_of_4_processes(tmp_path):
    hammer_together(tmp_path, 4, 16, 1000)


@pytest.mark.slow
def test_4_processes_that_write_without_a_pause_stay_within_the_size(tmp_path):
    most, largest = 2**24, 0
    workers = [started(write_much, str(tmp_path), most, seed, 250) for seed in range(4)]
    while any(worker.is_alive() for worker in workers):
        with suppress(OSError):
            largest = max(largest, sum(entry.stat().st_size for entry in os.scandir(tmp_path / "format-1")))
        time.sleep(0.01)
    assert joined(workers, 0) == [0] * 4
    assert most // 2 < largest < 1.5 * most, "each of the others may be adding to the log"


@pytest.mark.slow
def test_50_kills(tmp_path):
    kill_at_random(str(tmp_path), 50, 4)


@pytest.mark.slow
def test_20_full_disks(tmp_path):
    fill_disk(tmp_path, np.linspace(0, 1_500_000, 20).astype(int).tolist())


@pytest.mark.slow
def test_a_thousand_damaged_files(tmp_path):
    assert damage_at_random(tmp_path, 1000, 1) > 100
