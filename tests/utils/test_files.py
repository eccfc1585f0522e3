"""Files are read within bounds, whatever they hold."""

import os

import pytest

from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import MOST_DEPTH, MOST_JSON_BYTES, read_bytes, read_json


def write(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    return tmp_path / "a.json"


def test_json(tmp_path):
    assert read_json(write(tmp_path, '{"a": [1, "ü", null], "b": {}}'.encode())) == {"a": [1, "ü", None], "b": {}}


def test_characters_may_be_spelled_as_pairs(tmp_path):
    assert read_json(write(tmp_path, rb'{"a": "\ud83d\ude00"}')) == {"a": "😀"}


def nested(depth):
    return b'{"a":' * depth + b"1" + b"}" * depth


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b'{"a": "\xff"}', "is not valid JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not valid JSON"),
        (rb'{"a": "\ud83d"}', "is not valid JSON .*surrogates not allowed"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"[1]", "expected a JSON object, found list"),
        (nested(MOST_DEPTH + 1), f"nested more than {MOST_DEPTH} levels deep"),
        (b'{"a": [' + b"[]," * 1_000_000 + b"1]}", "more than 1000000 values"),
    ],
    ids=["empty", "cut", "latin", "digits", "half", "brackets", "list", "deep", "wide"],
)
def test_what_is_refused(tmp_path, content, message):
    with pytest.raises(CheckpointError, match=rf"a\.json: .*{message}"):
        read_json(write(tmp_path, content))


def test_the_deepest_that_is_read(tmp_path):
    assert list(read_json(write(tmp_path, nested(MOST_DEPTH)))) == ["a"]


def test_names_that_stand_twice(tmp_path):
    file = write(tmp_path, b'{"a": {"b": 1, "b": 2}}')
    assert read_json(file) == {"a": {"b": 2}}
    with pytest.raises(CheckpointError, match="two entries of the same name"):
        read_json(file, unique_names=True)


@pytest.mark.parametrize("read", [read_bytes, read_json])
def test_a_git_lfs_pointer(tmp_path, read):
    file = write(tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(CheckpointError, match=r"a\.json: is a Git LFS pointer, .* `git lfs pull`"):
        read(file)


def test_size(tmp_path):
    assert read_bytes(write(tmp_path, b"12345"), most=5) == b"12345"
    with pytest.raises(CheckpointError, match=r"a\.json: has 5 bytes, expected at most 4"):
        read_bytes(tmp_path / "a.json", most=4)


@pytest.mark.parametrize("name", ["absent", ".", "loop"])
def test_unreadable(tmp_path, name):
    os.symlink("loop", tmp_path / "loop")
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_bytes(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="a pipe or a device"):
        read_json(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="a pipe or a device"):
        read_bytes("/dev/zero")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_that_takes_the_place_of_a_file_is_not_waited_for(tmp_path, monkeypatch):
    """After its kind was looked at."""
    file = write(tmp_path, b"{}")
    looked, stat = [], os.stat

    def look(path, **options):
        found = stat(path, **options)
        if path == file and not looked:
            looked.append(path)
            file.unlink()
            os.mkfifo(file)
        return found

    monkeypatch.setattr(os, "stat", look)
    with pytest.raises(CheckpointError, match="a pipe or a device"):
        read_json(file)
    assert looked


def test_a_large_json_file_is_refused_before_it_is_read(tmp_path):
    """A single emoji makes all characters four times as wide."""
    file = write(tmp_path, b"{}")
    os.truncate(file, MOST_JSON_BYTES + 1)
    with pytest.raises(CheckpointError, match=f"has {MOST_JSON_BYTES + 1} bytes, expected at most {MOST_JSON_BYTES}"):
        read_json(file)
