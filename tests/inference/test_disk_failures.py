"""Whatever is wrong with the folder, no prediction fails and no array is wrong."""

import errno
import os
import shutil
import sqlite3
import stat

import pytest

from skxlmr.inference._stores import database, disk, mounts
from skxlmr.inference._stores.disk import DiskStore
from tests.inference.stores import (
    KEYS,
    MAX_BYTES,
    VALUES,
    assert_right,
    fetch,
    in_thread,
    key,
    run_sql,
    value,
)

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
