"""One fitted classifier, and folders of it that a test may spoil."""

import shutil

import pytest

from skxlmr import XLMRobertaClassifier, save

TEXTS = ["the bird sings", "das Haus", "река птица", "κόκκινο σπίτι", "children walk slowly", "ein Vogel läuft"]
FIT = {"max_epochs": 1, "warmup_ratio": 0.0, "learning_rate": 3e-3, "dtype": "float32", "random_state": 0}


@pytest.fixture(scope="session")
def fitted_classifier(tiny_checkpoint):
    """Never fit it again."""
    return XLMRobertaClassifier(tiny_checkpoint, **FIT).fit(TEXTS, ["a", "b", "c"] * 2)


@pytest.fixture(scope="session")
def saved_once(fitted_classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "classifier"
    save(fitted_classifier, folder)
    return folder


@pytest.fixture
def saved(saved_once, tmp_path):
    """A copy of the saved classifier to write to."""
    return shutil.copytree(saved_once, tmp_path / "saved")


def names_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
