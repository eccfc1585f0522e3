"""Checkpoints that pickles refer to, and how they are found again."""

import os

import pytest

from skxlmr.checkpoints import Origin, _origin, content_hash, open_again
from skxlmr.utils._errors import CheckpointError


@pytest.mark.parametrize(
    ("name", "revision", "place", "expected"),
    [
        # a branch moves, a commit does not
        ("org/name", None, "models--org--name/snapshots/0a1b", ("org/name", "0a1b")),
        ("org/name@main", None, "models--org--name/snapshots/0a1b", ("org/name", "0a1b")),
        ("org/name", "v1", "models--org--name/snapshots/0a1b", ("org/name", "0a1b")),
        ("org/name@v1", None, "elsewhere", ("org/name", "v1")),
        ("org/name", "v1", "elsewhere", ("org/name", "v1")),
    ],
)
def test_a_name_on_the_hub_is_pinned(folder, tmp_path, name, revision, place, expected):
    (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
    folder.rename(tmp_path / place)
    origin = Origin.of(name, revision, tmp_path / place, None)
    assert (origin.name, origin.revision) == expected


def test_a_folder_is_named_by_its_absolute_path(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("checkpoint", "./checkpoint", folder, str(folder)):
        assert Origin.of(name, None, "checkpoint", None).name == str(folder)


def test_changes_are_noticed(folder):
    origin = Origin.of(folder, None, folder, None)
    (folder / "README.md").write_text("A card makes no difference.")
    assert origin.is_unchanged()
    assert origin.content_hash() == content_hash(folder)
    stat = os.stat(folder / "config.json")
    (folder / "config.json").write_bytes((folder / "config.json").read_bytes())
    os.utime(folder / "config.json", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    assert not origin.is_unchanged()
    (folder / "model.safetensors").unlink()
    assert not origin.is_unchanged()


def test_it_is_opened_again_if_it_is_the_same(folder):
    digest = content_hash(folder)
    assert open_again(str(folder), None, digest, "this pickle") == str(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=f"this pickle holds only .* the content hash {digest}, but this one has"):
        open_again(str(folder), None, digest, "this pickle")
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"needs this checkpoint, which cannot be opened \(.*holds no weights"):
        open_again(str(folder), None, digest, "this pickle")


def test_a_hash_is_not_remembered_for_files_that_were_replaced_meanwhile(folder, monkeypatch):
    origin = Origin.of(folder, None, folder, None)

    def late(place):
        (folder / "config.json").write_text("{}")
        return content_hash(place)

    monkeypatch.setattr(_origin, "content_hash", late)
    with pytest.raises(CheckpointError, match="was replaced or changed while it was being read: try again"):
        origin.content_hash()
