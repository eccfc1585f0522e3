"""A folder is written as a whole or not at all, and never over something else."""

import os
import stat
import sys

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import InvalidParameterError

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaVectorizer, convert, load, save
from skxlmr.checkpoints import _atomic_replace

from .conftest import FIT, TEXTS, assert_same, contents


def test_what_was_there_is_replaced_as_a_whole(classifier, tiny_checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "saved"
    save(XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS), folder)
    before = contents(folder)
    with monkeypatch.context() as patch:
        patch.setattr("skxlmr.checkpoints._folder.swap", lambda *paths: (_ for _ in ()).throw(OSError("disk full")))
        with pytest.raises(CheckpointError, match=r"cannot be written \(disk full\)"):
            save(classifier, folder)
    assert contents(folder) == before
    save(classifier, folder)
    assert_same(load(folder), classifier)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_a_folder_that_holds_something_else_is_left_alone(classifier, tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"1")
    with pytest.raises(CheckpointError, match="is not empty and not a checkpoint folder"):
        save(classifier, tmp_path)
    save(classifier, tmp_path / "saved")
    (tmp_path / "saved" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"also holds what replacing it would delete \(notes\.txt\)"):
        save(classifier, tmp_path / "saved")
    assert (tmp_path / "saved" / "notes.txt").read_text() == "mine"
    with pytest.raises(CheckpointError, match="is a file"):
        save(classifier, tmp_path / "photo.jpg")


@pytest.mark.parametrize(
    "name",
    ["labels.json", "thesaurus.model", "fit.safetensors", "onnx/labels.json", "onnx/my.onnx", "1_Pooling/notes.json"],
)
def test_files_of_the_user_are_left_alone(classifier, tmp_path, name):
    save(classifier, tmp_path / "saved")
    mine = tmp_path / "saved" / name
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    with pytest.raises(CheckpointError, match=rf"also holds what replacing it would delete \({name}\)"):
        save(classifier, tmp_path / "saved")
    assert mine.read_text() == "mine"


def test_only_fitted_estimators_are_saved(tiny_checkpoint, tmp_path):
    with pytest.raises(NotFittedError):
        save(XLMRobertaClassifier(tiny_checkpoint), tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_a_parameter_that_load_would_refuse(tiny_checkpoint, tmp_path):
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS)
    save(vectorizer, tmp_path / "saved")
    before = contents(tmp_path / "saved")
    with pytest.raises(InvalidParameterError, match="The 'pooling' parameter of XLMRobertaVectorizer must be"):
        save(vectorizer.set_params(pooling="avg"), tmp_path / "saved")
    assert contents(tmp_path / "saved") == before


def test_where_nothing_can_be_written(classifier, tmp_path):
    (tmp_path / "file").touch()
    for target in (tmp_path / ("x" * 300), tmp_path / "file" / "x"):
        with pytest.raises(CheckpointError, match="cannot be written"):
            save(classifier, target)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


class OfTheUser(XLMRobertaVectorizer):
    """Which load would not find."""


def test_what_load_could_not_make_again_is_not_saved(tiny_checkpoint, tmp_path):
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS)
    for other in (OfTheUser(tiny_checkpoint).fit(TEXTS), None, type(vectorizer), [vectorizer]):
        with pytest.raises(TypeError, match=f"estimators of this library.* got a {type(other).__name__}: save each"):
            save(other, tmp_path / "saved")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "error", "said"),
    [
        (["\ud800", "b"], ValueError, r"holds half a surrogate pair, which no file can hold: .*\\ud800"),
        (np.array(["2020", "2021"], "M8[D]"), TypeError, r"a date cannot be saved: fit with texts .*astype\(str\)"),
        (np.array(["2020", "2021"], "M8[ns]"), TypeError, r"a date cannot be saved: fit with texts .*astype\(str\)"),
        (np.array([1, 2], "m8[s]"), TypeError, r"a duration cannot be saved: fit with texts .*astype\(str\)"),
    ],
)
def test_classes_that_no_file_can_hold(tiny_checkpoint, tmp_path, labels, error, said):
    fitted = XLMRobertaClassifier(tiny_checkpoint, **FIT).fit(TEXTS, np.array(labels)[[0, 1] * 3])
    with pytest.raises(error, match=said):
        save(fitted, tmp_path / "saved")
    assert not list(tmp_path.iterdir())


def test_paths_may_be_strings_and_start_at_home(classifier, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    save(classifier, "~/models/mine")
    assert (tmp_path / "models" / "mine" / "skxlmr.json").is_file()
    assert_same(load("~/models/mine"), classifier)
    assert_same(load(str(tmp_path / "models" / "mine")), classifier)


def test_a_disk_that_does_not_confirm_the_new_folder(classifier, tiny_checkpoint, tmp_path, monkeypatch):
    """The new estimator is in place: that is a warning, and the old one is gone."""
    save(XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS), tmp_path / "saved")

    def flush(path, real=_atomic_replace.flush):
        if path == tmp_path:
            raise OSError(5, "Input/output error")
        real(path)

    monkeypatch.setattr(_atomic_replace, "flush", flush)
    with pytest.warns(UserWarning, match="saved is complete and in its place, but the disk did not confirm it"):
        save(classifier, tmp_path / "saved")
    assert_same(load(tmp_path / "saved"), classifier)
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_what_is_partly_removed_is_never_put_back(classifier, tmp_path, monkeypatch):
    """A process may be killed while it removes the old folder."""
    save(classifier, tmp_path / "saved")

    def killed(path, **options):
        (path / "skxlmr.json").unlink(missing_ok=True)

    with monkeypatch.context() as patch:
        patch.setattr(_atomic_replace.shutil, "rmtree", killed)
        save(classifier, tmp_path / "saved")
    (tmp_path / "saved").rename(tmp_path / "away")
    with pytest.raises(CheckpointError, match="no such folder"):
        load(tmp_path / "saved")
    save(classifier, tmp_path / "saved")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["away", "saved"]


def modes(folder):
    return {stat.S_IMODE(path.stat().st_mode) for path in folder.rglob("*")}


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX permissions")
def test_permissions_stay(classifier, tiny_checkpoint, tmp_path, monkeypatch):
    folder = tmp_path / "saved"
    save(classifier, folder)
    for path in folder.iterdir():
        path.chmod(0o600)
    (folder / "README.md").chmod(0o640)
    folder.chmod(0o700)
    during = []

    def flush(path, real=_atomic_replace.flush):
        if path.parent == tmp_path:
            during.append(path.stat().st_mode & 0o077)
        real(path)

    monkeypatch.setattr("skxlmr.checkpoints._folder.flush", flush)
    save(classifier, folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700 and modes(folder) == {0o600, 0o640}
    save(XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS), folder)  # which has further files
    assert stat.S_IMODE((folder / "modules.json").stat().st_mode) == 0o600
    assert during and not any(during)


@pytest.mark.parametrize(
    "name",
    [
        ".DS_Store",
        "._model.safetensors",
        "desktop.ini",
        "Thumbs.db",
        "__MACOSX/",
        ".cache/",
        "@eaDir/",
        ".directory",
        ".localized",
    ],
)
def test_what_systems_put_into_a_folder_does_not_matter(classifier, tmp_path, name):
    save(classifier, tmp_path / "saved")
    place = tmp_path / "saved" / name
    (place / "x").parent.mkdir(parents=True, exist_ok=True) if name.endswith("/") else place.touch()
    save(classifier, tmp_path / "saved")
    assert not place.exists()
    load(tmp_path / "saved")


@pytest.mark.parametrize(
    "name", [".gitattributes", ".gitignore", ".gitkeep", ".ipynb_checkpoints/README-checkpoint.md"]
)
def test_what_tools_keep_in_a_folder_stays(classifier, tmp_path, name):
    save(classifier, tmp_path / "saved")
    place = tmp_path / "saved" / name
    place.parent.mkdir(exist_ok=True)
    place.write_text("mine")
    for _ in range(2):
        save(classifier, tmp_path / "saved")
        assert place.read_text() == "mine"
    load(tmp_path / "saved")


def test_a_repository_is_not_replaced(classifier, tmp_path):
    save(classifier, tmp_path / "saved")
    (tmp_path / "saved" / ".git").mkdir()
    with pytest.raises(CheckpointError, match=r"also holds what replacing it would delete \(\.git\)"):
        save(classifier, tmp_path / "saved")


@pytest.mark.parametrize("name", ["x" * 255, "x" * 240, "ä" * 120, "x" * 234 + "ä"])
def test_long_names(classifier, tmp_path, name):
    for _ in range(2):
        save(classifier, tmp_path / name)
    load(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_temporary_names_of_long_names_are_distinct(tmp_path):
    names = {_atomic_replace._temporary(tmp_path / ("x" * 250 + end), "new") for end in ("a", "b")}
    assert len(names) == 2 and max(map(len, names)) < 245


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="needs a file system that takes any bytes")
def test_a_path_that_is_not_utf8_is_refused_by_all(classifier, tmp_path, monkeypatch):
    parent = os.fsdecode(os.fsencode(tmp_path) + b"/\xff")
    os.mkdir(parent)
    for act in (
        lambda: save(classifier, parent + "/saved"),
        lambda: load(parent + "/saved"),
        lambda: XLMRobertaVectorizer(parent + "/saved").fit(TEXTS),
        lambda: convert("skxlmr-mini", parent + "/saved"),
    ):
        with pytest.raises(CheckpointError, match=r"udcff/saved: is not UTF-8, .* rename it") as caught:
            act()
        str(caught.value).encode()  # it can be printed
    assert not os.listdir(parent)
    monkeypatch.chdir(parent)  # where a relative path is fine
    save(classifier, "saved")
    assert_same(load("saved"), classifier)
