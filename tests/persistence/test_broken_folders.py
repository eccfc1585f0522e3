"""Folders that are broken, or not those of a saved estimator, are refused by name."""

import json
import pickle

import pytest

import skxlmr
from skxlmr import CheckpointError, load


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda about: None, "is missing: the folder was not written by skxlmr.save"),
        (lambda about: "{", "is not valid JSON"),
        (lambda about: "[]", "expected a JSON object, found list"),
        (lambda about: {}, "is not a description of an estimator"),
        (lambda about: {**about, "format": "1"}, "is not a description of an estimator"),
        (
            lambda about: {**about, "format": 99, "skxlmr": "7.1"},
            r"was written by the later version 7\.1 of skxlmr: upgrade to read it",
        ),
        (lambda about: {**about, "estimator": "Popen"}, "names an unknown estimator, 'Popen'"),
        (lambda about: {**about, "estimator": ["a"]}, "names an unknown estimator"),
        (lambda about: {**about, "estimator": "__all__"}, "names an unknown estimator"),
        (lambda about: {**about, "params": None}, "has no object 'params'"),
        (lambda about: {"format": 1, "estimator": about["estimator"], "params": {}}, "has no object 'fitted'"),
        (lambda about: {**about, "params": {"speed": 3}}, "does not describe a XLMRobertaClassifier"),
        (lambda about: {**about, "fitted": {}}, "does not describe a XLMRobertaClassifier"),
        (
            lambda about: {**about, "fitted": {**about["fitted"], "classes_": {"array": ["a"], "dtype": "spam"}}},
            "does not describe a XLMRobertaClassifier",
        ),
        (
            lambda about: {**about, "fitted": {**about["fitted"], "classes_": {"array": ["a"], "dtype": "<U1"}}},
            "does not fit the model",
        ),
        (lambda about: {**about, "fitted": {**about["fitted"], "classes_": {}}}, "does not describe a"),
        (lambda about: {**about, "fitted": {**about["fitted"], "target_type_": "several"}}, "does not describe a"),
        (lambda about: {**about, "fitted": {**about["fitted"], "target_type_": "continuous"}}, "does not describe a"),
    ],
)
def test_description_missing_or_broken(saved, change, said):
    file = saved / "skxlmr.json"
    content = change(json.loads(file.read_text()))
    file.unlink()
    if content is not None:
        file.write_text(content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(CheckpointError, match=said) as caught:
        load(saved, verify=False)
    assert "saved" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "sentencepiece.bpe.model"])
def test_other_files_missing_or_broken(saved, name):
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[: len(whole) // 2])
    for verify in (True, False):
        with pytest.raises(CheckpointError, match=name.replace(".", r"\.")):
            load(saved, verify=verify)
    (saved / name).unlink()
    with pytest.raises(CheckpointError):
        load(saved)


def test_folder_that_is_not_there(tmp_path, tiny_checkpoint):
    with pytest.raises(CheckpointError, match="no such folder"):
        load(tmp_path / "absent")
    with pytest.raises(
        CheckpointError, match=r"skxlmr\.json: is missing: the folder was not written by skxlmr\.save\. Pass it to"
    ):
        load(tiny_checkpoint)


def test_error_survives_the_way_between_processes(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and type(again) is skxlmr.CheckpointError
