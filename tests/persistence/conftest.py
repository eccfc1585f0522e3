"""One fitted classifier, and copies and folders of it that a test may spoil."""

import copy
import shutil

import numpy as np
import pytest

from skxlmr import XLMRobertaClassifier, save

TEXTS = ["the bird sings", "das Haus", "река птица", "κόκκινο σπίτι", "children walk slowly", "ein Vogel läuft"]
FIT = {"max_epochs": 1, "warmup_ratio": 0.0, "learning_rate": 3e-3, "dtype": "float32", "random_state": 0}


@pytest.fixture(scope="session")
def fitted_classifier(tiny_checkpoint):
    """Never fit it again."""
    return XLMRobertaClassifier(tiny_checkpoint, **FIT).fit(TEXTS, ["a", "b", "c"] * 2)


@pytest.fixture
def classifier(fitted_classifier):
    """A copy to change."""
    return copy.deepcopy(fitted_classifier)


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


def outputs(estimator, X=TEXTS):
    names = ("predict_proba", "predict", "transform", "decision_function", "score_samples")
    found = {name: getattr(estimator, name)(X) for name in names if hasattr(estimator, name)}
    assert found
    return found


def assert_same(found, expected, X=TEXTS):
    assert type(found) is type(expected)
    for name, values in outputs(expected, X).items():
        ours = getattr(found, name)(X)
        assert ours.dtype == values.dtype
        np.testing.assert_array_equal(ours, values)


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
