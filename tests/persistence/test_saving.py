"""A folder is written as a whole or not at all, and never over something else."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaVectorizer, load, save

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


def test_only_fitted_estimators_are_saved(tiny_checkpoint, tmp_path):
    with pytest.raises(NotFittedError):
        save(XLMRobertaClassifier(tiny_checkpoint), tmp_path / "saved")
    assert not list(tmp_path.iterdir())


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
    for other in (OfTheUser(tiny_checkpoint).fit(TEXTS), make_pipeline(vectorizer).fit(TEXTS), None, type(vectorizer)):
        with pytest.raises(
            TypeError, match=f"estimators of this library.* got a {type(other).__name__}: save the parts"
        ):
            save(other, tmp_path / "saved")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("labels", "error", "said"),
    [
        (["\ud800", "b"], ValueError, r"holds half a surrogate pair, which no file can hold: .*\\ud800"),
        (np.array(["2020", "2021"], "M8[D]"), TypeError, "a date cannot be saved"),
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
