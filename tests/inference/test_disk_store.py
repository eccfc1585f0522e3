"""What is on disk comes back as it was, and stays within its size."""

import os
import sqlite3
import sys

import numpy as np
import pytest

from skxlmr.inference._stores import database, disk
from skxlmr.inference._stores.disk import DiskStore
from skxlmr.inference._stores.hashes import file_stamp
from tests.inference.stores import (
    KEYS,
    MAX_BYTES,
    VALUES,
    assert_right,
    fetch,
    folder_bytes,
    is_wal,
    key,
    run_sql,
)

# Arrays -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12, dtype=np.float32).reshape(3, 4),
        np.arange(12, dtype=np.uint16)[::2],
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(3.5),
        np.empty((0, 7), np.float32),
        np.empty((2, 0, 5), np.int8),
        np.array([1, 2], ">i4"),
        np.array([np.nan, -0.0, np.inf], np.float16),
        np.random.default_rng(0).standard_normal((25, 768)).astype(np.float32),
        np.array([True, False]),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_any_array_comes_back_bit_for_bit(store, another, array):
    store.put({KEYS[0]: array})
    found = another.get(KEYS[:2])
    assert list(found) == KEYS[:1]
    assert found[KEYS[0]].dtype == array.dtype and found[KEYS[0]].shape == array.shape
    assert found[KEYS[0]].tobytes() == array.tobytes()
    assert not found[KEYS[0]].flags.writeable


def test_thousands_of_keys_at_once(store):
    names = [key(f"many {i}") for i in range(2500)]
    assert store.claim(names) == names
    store.put({name: np.frombuffer(name, np.uint8) for name in names})
    found = store.get([*names, *KEYS])
    assert set(found) == set(names) and all(found[name].tobytes() == name for name in names)


def test_nothing_is_created_before_something_is_written(store):
    assert store.get(KEYS) == {} and store.known_hash("a") is None and store.info().entries == 0
    store.clear()
    assert not os.path.exists(store.location)
    store.put(VALUES)
    assert os.listdir(store.location) == ["format-1"]


def test_arrays_outlive_the_process(store):
    store.put(VALUES)
    store.close()
    assert not is_wal(store)
    later = DiskStore(store.location, MAX_BYTES)
    assert_right(later.get(KEYS))
    assert later.info().hits == 60 and later.info().encoded == 60 and later.info().misses == 0
    later.close()


def test_info_counts(store, another):
    fetch(store, KEYS[:40])
    fetch(another, KEYS)
    assert (store.info().hits, store.info().misses) == (0, 40)
    info = another.info()
    assert (info.hits, info.misses, info.encoded, info.entries) == (40, 20, 60, 60)
    assert info.location == store.location and info.max_bytes == MAX_BYTES
    assert sum(array.nbytes for array in VALUES.values()) < info.n_bytes < 2**20
    another.put({KEYS[0]: VALUES[KEYS[0]]})
    assert (another.info().entries, another.info().encoded) == (60, 61), "computed twice, and counted"
    store.clear()
    assert (another.info().entries, another.info().encoded, another.get(KEYS)) == (0, 61, {})
    assert another.info().n_bytes < 2**18


def test_a_file_that_goes_meanwhile_is_not_counted(store):
    store.put(VALUES)
    before = store.info().n_bytes
    os.symlink("gone", os.path.join(store.location, "format-1", "listed"))  # and there is nothing to look at
    assert store.info().n_bytes == before > 0


def test_another_format_is_left_alone(store, monkeypatch):
    store.put(VALUES)
    monkeypatch.setattr(database, "FORMAT", 2)
    newer = DiskStore(store.location, MAX_BYTES)
    assert newer.get(KEYS) == {}
    newer.put({KEYS[0]: np.zeros(3)})
    assert sorted(os.listdir(store.location)) == ["format-1", "format-2"]
    assert_right(store.get(KEYS))
    newer.close()


# Its size -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [64, 768, 3000, 9000])
def test_the_files_stay_within_their_size(tmp_path, size):
    most = 2**21
    store = DiskStore(str(tmp_path), most)
    largest = 0
    for turn in range(12):
        store.put({key((turn, i)): np.full(size, turn, np.float32) for i in range(40 if size > 100 else 400)})
        largest = max(largest, folder_bytes(store))
    assert most // 2 < largest <= most
    last = [key((11, i)) for i in range(20, 40)]
    assert len(store.get(last)) == 20, "the newest stay"
    assert store.get([key((0, 0))]) == {} or size == 64
    assert store.info().entries * size * 4 > most // 3
    store.close()


def test_the_least_recently_used_go_first(store, monkeypatch):
    clock = [1e9]
    monkeypatch.setattr(disk.time, "time", lambda: clock[0])
    small = DiskStore(store.location, 2**21)
    first, second = [key(("a", i)) for i in range(40)], [key(("b", i)) for i in range(40)]
    for names in (first, second):
        small.put({name: np.zeros(3000, np.float32) for name in names})
    clock[0] += 3600
    assert len(small.get(first)) == 40
    clock[0] += 3600
    for turn in range(3):
        small.put({key((turn, i)): np.zeros(3000, np.float32) for i in range(10)})
    assert len(small.get(first)) == 40 and len(small.get(second)) < 20
    small.close()


def test_reading_rarely_writes(store, another, monkeypatch):
    clock = [1e9]
    monkeypatch.setattr(disk.time, "time", lambda: clock[0])
    store.put(VALUES)
    another.get(KEYS)

    def changes_of_another(seconds):
        """Whether a read so much later is seen as a write."""
        clock[0] += seconds
        before = store._database.read(store._state_of, None)
        another.get(KEYS)
        return store._database.read(store._state_of, None) != before

    assert [changes_of_another(seconds) for seconds in (0, 60, 300, 300, 60, 3600)] == [False] * 3 + [True, False, True]


def test_a_read_does_not_wait_for_a_writer(store, another, monkeypatch):
    monkeypatch.setattr(disk.time, "time", lambda: 1e9)
    store.put(VALUES)
    monkeypatch.setattr(disk.time, "time", lambda: 2e9)
    writer = sqlite3.connect(store._database.file, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    assert_right(another.get(KEYS))  # would wait 20 seconds, and then warn
    writer.close()


def test_a_smaller_size_makes_a_smaller_file(store):
    store.put({key(i): np.zeros(100_000, np.float32) for i in range(12)})
    assert folder_bytes(store) > 4_000_000
    smaller = DiskStore(store.location, 2**21)
    smaller.put(VALUES)
    assert folder_bytes(store) <= 2**21
    assert_right(smaller.get(KEYS))
    smaller.close()


def test_an_array_that_is_too_large_is_not_kept(tmp_path):
    store = DiskStore(str(tmp_path), 2**21)
    store.put(VALUES)
    store.put({key("large"): np.zeros(2**20, np.float32)})
    assert store.get([key("large")]) == {} and len(store.get(KEYS)) == 60
    store.close()


# Hashes of files ------------------------------------------------------------------------------------------------------------


def test_hashes_are_remembered(store, another):
    store.remember_hash("stamp", "a" * 64)
    store.remember_hash("other", "b" * 64)
    assert (another.known_hash("stamp"), another.known_hash("other"), another.known_hash("new")) == (
        "a" * 64,
        "b" * 64,
        None,
    )
    another.remember_hash("stamp", "c" * 64)
    assert store.known_hash("stamp") == "c" * 64


@pytest.mark.skipif(sys.platform != "linux", reason="needs names of files that are not UTF-8")
def test_names_that_are_not_utf8(tmp_path, monkeypatch):
    monkeypatch.setattr("skxlmr.inference._stores.hashes.time.time", lambda: 1e11)
    folder = tmp_path / "caf\udce9"
    store = DiskStore(str(folder), MAX_BYTES)
    store.put(VALUES)
    stamp = file_stamp(folder / "format-1" / "store.sqlite")
    store.remember_hash(stamp, "a" * 64)
    assert store.known_hash(stamp) == "a" * 64 and len(store.get(KEYS)) == 60
    store.close()


@pytest.mark.parametrize(
    "damage", ["UPDATE hashes SET digest = 'b'", "UPDATE hashes SET stamp = 'b'", "UPDATE hashes SET digest = x'ff'"]
)
def test_a_damaged_hash_is_not_known(store, damage):
    store.remember_hash("a", "a" * 64)
    run_sql(store, damage)
    assert store.known_hash("a") is None and store.known_hash("b") is None


def test_few_hashes_are_kept(store, monkeypatch):
    monkeypatch.setattr(disk, "MOST_HASHES", 3)
    for i in range(5):
        store.remember_hash(str(i), str(i))
    assert [store.known_hash(str(i)) for i in range(5)] == [None, None, "2", "3", "4"]


def test_a_stamp_changes_with_the_file(tmp_path, monkeypatch):
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one")
    assert file_stamp(file) is None, "it may change again within the same tick of the clock"
    now = file.stat().st_mtime + 100
    monkeypatch.setattr("skxlmr.inference._stores.hashes.time.time", lambda: now)
    stamps = [file_stamp(file), file_stamp(file)]
    assert stamps[0] == stamps[1]
    os.utime(file, ns=(0, file.stat().st_mtime_ns + 1))
    stamps.append(file_stamp(file))
    (tmp_path / "copy").write_bytes(b"one")
    os.utime(tmp_path / "copy", ns=(0, file.stat().st_mtime_ns))
    os.replace(tmp_path / "copy", file)
    stamps.append(file_stamp(file))
    file.write_bytes(b"four")
    stamps.append(file_stamp(file))
    assert len(set(stamps)) == 4
    with pytest.raises(FileNotFoundError):
        file_stamp(tmp_path / "none")
