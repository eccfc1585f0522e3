"""Folders that older versions of the library wrote.

``tests/fixtures/format_1`` was written by version 0.1.0: a classifier, and what it predicted. ``format_2``, with checksums,
holds a classifier of several labels, a token classifier and a question answerer as first saved. They stay as they are.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from skxlmr import CheckpointError, XLMRobertaClassifier, load, save

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "format_1"


@pytest.fixture
def older(tmp_path):
    return shutil.copytree(FIXTURE / "classifier", tmp_path / "classifier")


@pytest.fixture
def expected():
    return json.loads((FIXTURE / "expected.json").read_text(encoding="utf-8"))


def change(folder, **parts):
    file = folder / "skxlmr.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | parts))


def assert_predicts(classifier, expected):
    assert classifier.predict(expected["texts"]).tolist() == expected["predict"]
    np.testing.assert_allclose(classifier.predict_proba(expected["texts"]), expected["predict_proba"], atol=1e-6)


def test_names_of_format_2(older):
    """A folder of the state of a fit and the kind of targets have other names now."""
    about = json.loads((older / "skxlmr.json").read_text(encoding="utf-8"))
    params = about["params"] | {"checkpoint_dir": None, "checkpoint_every": 7}
    change(older, format=2, files={}, params=params, fitted=about["fitted"] | {"target_type_": "single_label"})
    classifier = load(older, verify=False)
    assert (classifier.resume_dir, classifier.resume_every) == (None, 7)
    assert classifier.target_type_ == ("binary" if len(classifier.classes_) == 2 else "multiclass")


def test_format_1(older, expected, tmp_path):
    classifier = load(older)
    assert type(classifier) is XLMRobertaClassifier
    assert classifier.class_weight == {"a": 2.0, "b": 1, "ä": 1} and classifier.learning_rate == 0.003
    assert classifier.validation_scores_ == expected["validation_scores"]
    assert_predicts(classifier, expected)
    save(classifier, older)  # and is of today's format from then on
    assert json.loads((older / "skxlmr.json").read_text(encoding="utf-8"))["format"] == 5
    assert_predicts(load(older), expected)


@pytest.mark.parametrize("name", ["labels", "tokens", "answers"])
def test_format_2(name):
    fixture = FIXTURE.parent / "format_2"
    expected = json.loads((fixture / "expected.json").read_text(encoding="utf-8"))[name]
    X = [tuple(row) for row in expected["X"]] if name == "answers" else expected["X"]
    loaded = load(fixture / name)
    assert loaded.get_params()["resume_dir"] is loaded.resume_every is None  # checkpoint_dir and checkpoint_every there
    if name == "labels":
        assert loaded.target_type_ == "multilabel-indicator"  # multi_label there
    assert [np.asarray(row).tolist() for row in loaded.predict(X)] == expected["predict"]
    for row, wanted in (
        zip(loaded.predict_proba(X), expected["predict_proba"], strict=True) if name != "answers" else ()
    ):
        np.testing.assert_allclose(row, wanted, atol=1e-6)


def test_parameters_that_came_later_take_their_defaults(older, expected):
    about = json.loads((older / "skxlmr.json").read_text(encoding="utf-8"))
    few = {name: about["params"][name] for name in ("checkpoint", "device", "dtype")}
    change(older, params=few)
    classifier = load(older)
    assert classifier.threshold == 0.5 and classifier.max_epochs == XLMRobertaClassifier().max_epochs
    assert_predicts(classifier, expected)


def test_fields_that_only_inform_may_lack(older, expected):
    file = older / "skxlmr.json"
    about = json.loads(file.read_text(encoding="utf-8"))
    del about["skxlmr"]
    about["fitted"] = {name: about["fitted"][name] for name in ("classes_", "n_features_in_", "target_type_")}
    file.write_text(json.dumps(about))
    assert_predicts(load(older), expected)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"format": 0}, "is not a description"),
        ({"format": True}, "is not a description"),
        ({"format": 2}, "has no object 'files'"),
        ({"format": 6, "skxlmr": "0.9"}, r"was written by the later version 0\.9 of skxlmr: upgrade to read it"),
        ({"fitted": {"predict": 1}}, "predict is a method, not something that fit learns"),
        ({"fitted": {"_weight_dtype": "float32"}}, "_weight_dtype is a method"),
        ({"fitted": {"anything": 1}}, "anything is not something that fit learns"),
        ({"fitted": {"learning_rate_": "x"}}, "learning_rate_ must be a number, got 'x'"),
        ({"fitted": {"classes_": {"array": ["a"], "dtype": "<U400000000"}}}, "an array of 1 items of dtype"),
        ({"fitted": {"classes_": {"array": ["a"], "dtype": "<U10000000"}}}, "an array of 1 items of dtype"),
        # each is small, and all of them take 64 MB
        (
            {"fitted": {"n_features_in_": 1, **{f"x{i}_": {"array": ["a"], "dtype": "<U400000"} for i in range(40)}}},
            "an array of 1 items of dtype",
        ),
        ({"fitted": {"classes_": {"array": [1], "dtype": "V8"}}}, "an array of 1 items of dtype 'V8'"),
        ({"fitted": {"classes_": {"array": [10**400], "dtype": "<i8"}}}, "does not describe"),
        ({"params": {"device": ["cpu"]}}, r"skxlmr\.json"),
        ({"params": {"max_length": 10**9}}, r"max_length=1000000000 is more than the \d+ tokens"),
        ({"params": {"device": "abacus"}}, r"device='abacus' cannot be used here.*load\(\.\.\., device='cpu'\)"),
    ],
)
def test_what_no_version_wrote(older, parts, said):
    change(older, **parts)
    with pytest.raises(CheckpointError, match=said):
        load(older)


def test_a_device_of_another_machine_may_be_replaced(older, expected):
    about = json.loads((older / "skxlmr.json").read_text(encoding="utf-8"))
    change(older, params=about["params"] | {"device": "abacus"})
    assert_predicts(load(older, device="cpu"), expected)
    with pytest.raises(ValueError, match="device='harp' cannot be used here") as caught:
        load(older, device="harp")
    assert not isinstance(caught.value, CheckpointError)
