"""What is on disk comes back as it was, stays within its size, is computed once, and never ends a prediction."""

import errno
import os
import shutil
import sqlite3
import stat
import sys
import threading
import warnings

import numpy as np
import pytest

from skxlmr.inference._stores import DiskStore, claims, database, disk, mounts
from skxlmr.inference._stores.hashes import file_stamp
from tests import processes
from tests.inference.stores import MAX_BYTES, assert_right, claim_and_stay, fetch, hammer, key, value

KEYS = [key(i) for i in range(60)]
VALUES = {name: value(name) for name in KEYS}
needs_locks = pytest.mark.skipif(os.name == "nt", reason="needs locks of files that end with the process")


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(database, "_said", {})


@pytest.fixture
def store(tmp_path):
    store = DiskStore(str(tmp_path / "cache"), MAX_BYTES)
    yield store
    store.close()


@pytest.fixture
def another(store):
    """The same file, as another process has it."""
    another = DiskStore(store.location, MAX_BYTES)
    yield another
    another.close()


def is_wal(store):
    return os.path.exists(store._database.file + "-wal")


def run_sql(store, sql, *parameters):
    connection = sqlite3.connect(store._database.file)
    with connection:
        connection.execute(sql, parameters)
    connection.close()


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


def folder_bytes(store):
    return sum(entry.stat().st_size for entry in os.scandir(store._database.folder))


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


# Claims -------------------------------------------------------------------------------------------------------------------


def in_thread(function, *args):
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args)))
    thread.start()
    thread.join()
    return result[0]


def test_what_is_claimed_is_computed_by_one(store, another):
    """Two stores in one process, and a thread that lives on."""
    started, may_end = threading.Event(), threading.Event()

    def claim_some():
        store.claim(KEYS[:30])
        started.set()
        may_end.wait()
        store.put({name: VALUES[name] for name in KEYS[:10]})
        store.release(KEYS[10:20])

    thread = threading.Thread(target=claim_some)
    thread.start()
    started.wait()
    assert store.claim(KEYS) == KEYS[30:]
    assert store.claim(KEYS) == KEYS[30:], "its own claims are still its own"
    assert in_thread(another.claim, KEYS) == [], "and those of this thread are not another's"
    may_end.set()
    thread.join()
    assert store.claim(KEYS) == KEYS[10:], "ten were put; the thread that claimed the others is gone"


def test_a_thread_that_ended_has_given_up(store):
    assert in_thread(store.claim, KEYS) == KEYS
    assert store.claim(KEYS) == KEYS


@pytest.mark.parametrize("is_same", [True, False])
def test_waiting_ends_when_something_is_put(store, another, is_same):
    """By another thread of the process, or by another process."""
    assert store.claim(KEYS) == KEYS
    begun, found = threading.Event(), {}
    waiting = store if is_same else another

    def wait():
        assert waiting.claim(KEYS) == []
        begun.set()
        waiting.wait(60)
        found.update(waiting.get(KEYS))

    thread = threading.Thread(target=wait)
    thread.start()
    begun.wait()
    store.put(VALUES)
    thread.join(50)
    assert set(found) == set(KEYS)


def test_waiting_sees_what_came_before_it(store, another):
    assert store.claim(KEYS) == KEYS
    claimed, released, found = threading.Event(), threading.Event(), []

    def late():
        found.append(another.claim(KEYS))
        claimed.set()
        released.wait()
        another.wait(60)
        found.append(another.claim(KEYS))

    thread = threading.Thread(target=late)
    thread.start()
    claimed.wait()
    store.release(KEYS)
    released.set()
    thread.join(50)
    assert found == [[], KEYS]


@needs_locks
def test_claims_of_a_killed_process_are_taken_over_at_once(store):
    context = processes.server()
    ready = context.Event()
    process = context.Process(target=claim_and_stay, args=(store.location, KEYS[:40], ready), daemon=True)
    process.start()
    assert ready.wait(60)
    assert store.claim(KEYS) == KEYS[40:]
    assert store.claim(KEYS) == KEYS[40:], "it is alive"
    process.kill()
    process.join()
    assert store.claim(KEYS) == KEYS
    store.put(VALUES)
    assert store._database.read(lambda opened: opened.connection.execute("SELECT * FROM claims").fetchall(), None) == []


@needs_locks
def test_a_process_that_gets_nowhere_loses_its_claims(store, monkeypatch):
    clock = [0.0]
    store._claims = claims.Claims(lambda: clock[0])
    context = processes.server()
    ready = context.Event()
    process = context.Process(target=claim_and_stay, args=(store.location, KEYS[:40], ready), daemon=True)
    process.start()
    assert ready.wait(60)
    assert store.claim(KEYS) == KEYS[40:]
    clock[0] = 599.0
    assert store.claim(KEYS[:40]) == []
    store.put({KEYS[0]: VALUES[KEYS[0]]})  # as if it had
    assert store.claim(KEYS[:40]) == []
    clock[0] = 1190.0
    assert store.claim(KEYS[:40]) == [], "it has put one since"
    clock[0] = 1200.0
    assert store.claim(KEYS[:40]) == KEYS[1:40]
    process.kill()
    process.join()


@needs_locks
def test_a_fork_is_an_owner_of_its_own(store):
    assert store.claim(KEYS[:40]) == KEYS[:40]
    assert store._database._box
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks in processes with threads
        pid = os.fork()
    if not pid:  # the child
        status = 1
        try:
            assert not store._database._box, "no connection crosses a fork"
            assert store.claim(KEYS) == KEYS[40:]
            store.put({name: VALUES[name] for name in KEYS[40:50]})
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert store.claim(KEYS) == KEYS[:40] + KEYS[50:], "its own, and those of the child, which is gone"
    assert_right(store.get(KEYS[40:50]))


def test_four_threads_compute_each_array_once(store):
    hammer(store.location, 300, 4, 0)
    assert store.info().encoded == store.info().entries == 300


# Damage -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE contents SET value = substr(value, 2) WHERE id = 7",
        "UPDATE contents SET value = zeroblob(length(value)) WHERE id = 7",
        "UPDATE contents SET value = 'text' WHERE id = 7",
        "UPDATE contents SET about = '<f4 -1' WHERE id = 7",
        "UPDATE contents SET about = 'nonsense' WHERE id = 7",
        "UPDATE contents SET crc = 'x' WHERE id = 7",
        "UPDATE contents SET value = (SELECT value FROM contents WHERE id = 8) WHERE id = 7",
        "UPDATE contents SET (about, crc, value) = (SELECT about, crc, value FROM contents WHERE id = 8) WHERE id = 7",
        "DELETE FROM contents WHERE id = 7",
    ],
)
def test_a_damaged_array_is_missing_and_replaced(store, damage):
    store.put(VALUES)
    run_sql(store, damage)
    found = fetch(store, KEYS)
    assert len(found) == 60
    assert_right(found)
    assert store.info().misses == 1
    other = DiskStore(store.location, MAX_BYTES)
    assert set(other.get(KEYS)) == set(KEYS)
    other.close()


def test_an_array_that_is_there_but_not_found_is_replaced(store, monkeypatch):
    """As with an index that does not agree with its table."""
    store.put(VALUES)
    monkeypatch.setattr(disk, "_GET", disk._GET.replace("WHERE", "WHERE entries.id NOT IN (7, 8) AND"))
    assert len(store.get(KEYS)) == 58
    assert_right(fetch(store, KEYS))
    assert store.info().misses == 2


def test_a_damaged_file_starts_anew_and_says_so_once(store, another):
    store.put(VALUES)
    store.close()
    with open(store._database.file, "r+b") as file:
        file.write(b"not a database" * 400)
    with pytest.warns(
        UserWarning, match=r"the cache in .* was damaged \(file is not a database\) and starts anew"
    ) as said:
        assert_right(fetch(store, KEYS))
    assert len(said) == 1 and store.location in str(said[0].message)
    assert_right(another.get(KEYS))
    assert set(another.get(KEYS)) == set(KEYS)
    assert os.listdir(store.location) == ["format-1"]


# Places where there can't be a file -------------------------------------------------------------------------------------


def use_in_vain(location, match):
    """Everything is computed, and said once."""
    store, other = DiskStore(str(location), MAX_BYTES), DiskStore(str(location), MAX_BYTES)
    with pytest.warns(UserWarning, match=match) as said:
        assert_right(fetch(store, KEYS))
    assert len(said) == 1 and str(location) in str(said[0].message), [str(warning.message) for warning in said]
    assert store.claim(KEYS) == KEYS
    store.release(KEYS)
    store.remember_hash("a", "b")
    store.wait(0.01)
    assert store.info().entries == 0 and store.known_hash("a") is None
    assert_right(fetch(other, KEYS))


def test_a_file_in_its_place(tmp_path):
    (tmp_path / "file").write_text("")
    use_in_vain(
        tmp_path / "file",
        r"\(a file is in its place\), so everything is computed without it: give the name of a folder",
    )
    use_in_vain(tmp_path / "file" / "below", r"a file is in its place")


def test_a_folder_that_nobody_may_write_to(tmp_path):
    if os.geteuid() == 0:  # root may write anywhere but to such a file system
        return use_in_vain("/proc/cache", r"the cache in /proc/cache can't be used \(.*use a folder")
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    use_in_vain(tmp_path / "cache", r"\(Permission denied\).*: use a folder that you may write to")
    tmp_path.chmod(0o700)


def test_a_file_that_nobody_may_write_to(tmp_path, monkeypatch):
    def refuse(connection, must_wait):
        error = sqlite3.OperationalError("attempt to write a readonly database")
        error.sqlite_errorcode = sqlite3.SQLITE_READONLY_DIRECTORY
        raise error

    monkeypatch.setattr(database, "_begin", refuse)
    use_in_vain(tmp_path, r"\(attempt to write a readonly database\).*: use a folder that you may write to")


def test_what_can_not_be_removed(store, another, monkeypatch):
    """Whoever removes what is kept must know if it is still there."""
    store.put(VALUES)

    def refuse(*args, **kwargs):
        raise sqlite3.OperationalError("attempt to write a readonly database")

    def read_only(*args):
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(database, "_begin", refuse)
        patch.setattr(database.os, "rename", read_only)
        with (
            pytest.warns(UserWarning, match="can't be used"),
            pytest.raises(OSError, match=r"could not be emptied.* delete the folder"),
        ):
            store.clear()
    assert_right(another.get(KEYS))
    database._said.clear()
    store._database._paused_until = 0.0
    with monkeypatch.context() as patch:
        patch.setattr(database, "_begin", refuse)  # the file can't be written, but removed
        with pytest.warns(UserWarning, match="can't be used"):
            store.clear()
    assert not store.get(KEYS) and not another.get(KEYS)
    another.put(VALUES)
    assert_right(store.get(KEYS))


def test_a_network_that_fails(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError(errno.ESTALE, "Stale file handle")

    monkeypatch.setattr(database.os, "makedirs", refuse)
    use_in_vain(tmp_path, r"\(Stale file handle\).*: use a folder on a local disk")


def test_a_full_disk(store, another, monkeypatch):
    """``max_page_count`` makes SQLite fail as a full disk does."""
    store.put({name: VALUES[name] for name in KEYS[:10]})
    another.claim(KEYS[:1])
    for each in (store, another):
        each._database._box[0].connection.execute("PRAGMA max_page_count = 20")
    large = {key(("large", i)): value(key(("large", i)), 4000) for i in range(40)}
    assert in_thread(lambda: store.claim(list(large))) == list(large)
    assert store.claim(list(large)) == list(large)
    with pytest.warns(UserWarning, match=r"\(database or disk is full\).*: free some space on the disk") as said:
        store.put(large)
    assert len(said) == 1
    assert store.get(KEYS[:10]) == {} and store.claim(KEYS[:10]) == KEYS[:10], "for half a minute"
    assert in_thread(lambda: another.claim(list(large))) == list(large), "nobody waits for what could not be put"
    store._database._paused_until = 0.0
    assert_right(store.get(KEYS[:10]))
    assert len(store.get(KEYS[:10])) == 10
    store.put(large)  # the new connection has no limit
    assert_right(store.get(list(large)))


def test_a_locked_file(store, another, monkeypatch):
    monkeypatch.setattr(database, "LOCKED_SECONDS", 0.05)
    store.put(VALUES)
    store.close()
    writer = sqlite3.connect(store._database.file, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    with pytest.warns(UserWarning, match=r"\(database is locked\).*: another process has kept it locked"):
        assert store.claim([key("new")]) == [key("new")]
    store.put({key("new"): value(key("new"))})
    writer.close()


def test_the_folder_is_removed_while_in_use(store, another):
    for turn in range(3):
        assert_right(fetch(store, KEYS))
        assert len(another.get(KEYS)) == 60
        assert store.claim([key(turn + 1000)])
        shutil.rmtree(store.location)
        assert another.get(KEYS) == {}
    assert another.claim(KEYS) == KEYS
    another.put(VALUES)
    assert set(store.get(KEYS)) == set(KEYS)


def test_a_warning_that_is_an_error_is_one_each_time(tmp_path):
    (tmp_path / "file").write_text("")
    for _ in range(2):
        with pytest.raises(UserWarning, match="a file is in its place"):
            DiskStore(str(tmp_path / "file"), MAX_BYTES).claim(KEYS)


@pytest.mark.parametrize(
    ("folder", "expected"),
    [
        ("/home/me/cache", True),
        ("/home/me", True),
        ("/home/you/cache", False),
        ("/mnt/my disk/cache", True),
        ("/mnt/my disk/local/cache", False),
        ("/mnt/my diskette", False),
        ("/overlay/cache", False),
    ],
)
def test_folders_on_other_machines(tmp_path, monkeypatch, folder, expected):
    lines = [
        "/dev/sda / ext4 rw 0 0",
        "server:/me /home/me nfs4 rw 0 0",
        r"//server/disk /mnt/my\040disk cifs rw 0 0",
        r"/dev/sdb /mnt/my\040disk/local xfs rw 0 0",
        "overlay /overlay fuse.fuse-overlayfs rw 0 0",
    ]
    (tmp_path / "mounts").write_text("\n".join(lines) + "\n")
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "mounts")
    assert mounts.is_on_network(folder) is expected


def test_on_a_network_the_file_has_no_log_in_shared_memory(store, another, monkeypatch):
    monkeypatch.setattr(database, "is_on_network", lambda folder: True)
    assert fetch(store, KEYS[:40]).keys() | another.get(KEYS).keys() == set(KEYS[:40])
    assert store.claim(KEYS) == KEYS[40:]
    assert sorted(os.listdir(store._database.folder))[-1] == "store.sqlite-journal"
    assert another.info().encoded == 40


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
