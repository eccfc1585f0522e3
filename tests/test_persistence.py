"""A saved estimator comes back the same, as a whole or not at all, and without pickle."""

import json
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

import skxlmr
from skxlmr import (
    CheckpointError,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaRegressor,
    XLMRobertaVectorizer,
    load,
    save,
)

TEXTS = ["the bird sings", "das Haus", "река птица", "κόκκινο σπίτι", "children walk slowly", "ein Vogel läuft"]
FIT = {"max_epochs": 1, "warmup_ratio": 0.0, "learning_rate": 3e-3, "dtype": "float32", "random_state": 0}


@pytest.fixture
def classifier(tiny_checkpoint):
    return XLMRobertaClassifier(tiny_checkpoint, **FIT).fit(TEXTS, ["a", "b", "c"] * 2)


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


def without_paths(params):
    return {name: str(value) if isinstance(value, Path) else value for name, value in params.items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("estimator", "params"),
    [
        (XLMRobertaVectorizer, {}),
        (XLMRobertaVectorizer, {"pooling": "pooler", "layers": [0, -1], "normalize": True}),
        (XLMRobertaVectorizer, {"layers": np.array([1, 2])}),
        (XLMRobertaClassifier, {"class_weight": {0: 2.0, 1: 1}, "max_length": 16, "early_stopping": True}),
        (XLMRobertaClassifier, {"label_smoothing": np.float64(0.1), "max_grad_norm": None}),
        (XLMRobertaRegressor, {"n_frozen_layers": 1}),
        (XLMRobertaMaskedLM, {"mask_probability": 0.3}),
        (XLMRobertaCausalLM, {"subword_sampling": 0.5}),
    ],
    ids=str,
)
def test_round_trip(tiny_checkpoint, tmp_path, estimator, params, dtype):
    known = FIT if estimator is not XLMRobertaVectorizer else {}
    fitted = estimator(tiny_checkpoint, **known | params | {"dtype": dtype}).fit(TEXTS, [0, 1] * 3)
    save(fitted, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert_same(loaded, fitted)
    theirs = without_paths(fitted.get_params())
    assert {name: np.asarray(value, dtype=object).tolist() for name, value in loaded.get_params().items()} == {
        name: np.asarray(value, dtype=object).tolist() for name, value in theirs.items()
    }
    learnt = {name for name in vars(fitted) if name not in fitted.get_params()}
    assert {name for name in vars(loaded) if name not in loaded.get_params()} == learnt
    for name in learnt - {"module_", "tokenizer_", "config_"}:
        np.testing.assert_equal(getattr(loaded, name), getattr(fitted, name), err_msg=name)
    assert loaded.tokenizer_ == fitted.tokenizer_ and loaded.config_ == fitted.config_
    assert not loaded.module_.training
    # once more, from the one that was loaded, and over it
    save(loaded, tmp_path / "saved")
    assert_same(load(tmp_path / "saved"), fitted)


@pytest.mark.parametrize(
    "labels",
    [
        np.array(["yes", "нет"]),
        np.array([3, -7]),
        np.array([2, 1], dtype=np.int8),
        np.array([True, False]),
        np.array([0.0, 1.0]),
        np.array(["ja", "nein"], dtype=object),
    ],
    ids=lambda labels: str(labels.dtype),
)
def test_classes_keep_their_type(tiny_checkpoint, tmp_path, labels):
    fitted = XLMRobertaClassifier(tiny_checkpoint, **FIT).fit(TEXTS, labels[[0, 1] * 3])
    save(fitted, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.classes_.dtype == fitted.classes_.dtype
    assert list(map(type, loaded.classes_.tolist())) == list(map(type, fitted.classes_.tolist()))
    assert_same(loaded, fitted)


def test_pairs_and_names_come_back(tiny_checkpoint, tmp_path):
    X = pd.DataFrame({"question": TEXTS, "answer": TEXTS[::-1]})
    fitted = XLMRobertaVectorizer(tiny_checkpoint, dtype="float32").set_output(transform="pandas").fit(X)
    save(fitted, tmp_path / "pairs")
    loaded = load(tmp_path / "pairs")
    pd.testing.assert_frame_equal(loaded.transform(X), fitted.transform(X))
    assert loaded.get_feature_names_out()[0] == "question_answer_0"
    with pytest.raises(ValueError, match="fitted on pairs"):
        loaded.transform(TEXTS)
    named = XLMRobertaVectorizer(tiny_checkpoint).fit(pd.Series(TEXTS, name="review"))
    save(named, tmp_path / "named")
    assert load(tmp_path / "named").get_feature_names_out()[0] == "review_0"


def test_several_targets_come_back(tiny_checkpoint, tmp_path):
    y = np.arange(12.0).reshape(6, 2) * 100
    fitted = XLMRobertaRegressor(tiny_checkpoint, **FIT).fit(TEXTS, y)
    save(fitted, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.predict(TEXTS).shape == (6, 2)
    assert_same(loaded, fitted)
    # and training goes on as if it had never been away
    again = [e.set_params(warm_start=True).fit(TEXTS, y).predict(TEXTS) for e in (fitted, loaded)]
    np.testing.assert_array_equal(*again)


def test_language_model_from_a_checkpoint_comes_back(tiny_checkpoint, tmp_path):
    lm = XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint, dtype="float32")
    save(lm, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert loaded.fill_mask(["a <mask>"]) == lm.fill_mask(["a <mask>"])


def test_random_state_instance_is_left_behind(tiny_checkpoint, tmp_path):
    fitted = XLMRobertaClassifier(tiny_checkpoint, **FIT | {"random_state": np.random.RandomState(0)})
    save(fitted.fit(TEXTS, [0, 1] * 3), tmp_path / "saved")
    assert load(tmp_path / "saved").random_state is None
    assert_same(load(tmp_path / "saved"), fitted)


def test_device_may_be_chosen(classifier, tmp_path):
    save(classifier.set_params(device=torch.device("cpu")), tmp_path / "saved")
    assert load(tmp_path / "saved").device == "cpu"
    assert load(tmp_path / "saved", device="cpu").device == "cpu"
    about = json.loads((tmp_path / "saved" / "skxlmr.json").read_text())
    about["params"]["device"] = "abacus"
    (tmp_path / "saved" / "skxlmr.json").write_text(json.dumps(about))
    assert_same(load(tmp_path / "saved", device="cpu", verify=False), classifier)
    with pytest.raises(CheckpointError, match="device='abacus' cannot be used here"):
        load(tmp_path / "saved", verify=False)


def test_folder_is_a_checkpoint(classifier, tmp_path, tiny_checkpoint):
    save(classifier, tmp_path / "saved")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    wanted = {"config.json", "model.safetensors", "sentencepiece.bpe.model", "skxlmr.json"}
    assert wanted <= names and not any(name.endswith((".pkl", ".pickle", ".joblib", ".bin")) for name in names)
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["id2label"] == {"0": "a", "1": "b", "2": "c"} and config["label2id"] == {"a": 0, "b": 1, "c": 2}
    # another estimator starts from it, with the encoder as it was trained
    features = XLMRobertaVectorizer(tmp_path / "saved", dtype="float32").fit_transform(TEXTS)
    before = XLMRobertaVectorizer(tiny_checkpoint, dtype="float32").fit_transform(TEXTS)
    assert np.abs(features - before).max() > 1e-3


def test_transformers_gives_the_same_logits(classifier, tmp_path):
    transformers = pytest.importorskip("transformers")
    save(classifier, tmp_path / "saved")
    model = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        expected = model(**tokenizer(TEXTS, padding=True, return_tensors="pt")).logits.numpy()
    np.testing.assert_allclose(classifier.decision_function(TEXTS), expected, atol=1e-5)


# Writing --------------------------------------------------------------------------------------------------------------


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


# Reading what is broken -----------------------------------------------------------------------------------------------


@pytest.fixture
def saved(classifier, tmp_path):
    save(classifier, tmp_path / "saved")
    return tmp_path / "saved"


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
    with pytest.raises(CheckpointError, match=r"skxlmr\.json: is missing: the folder was not written by skxlmr\.save"):
        load(tiny_checkpoint)


def test_error_survives_the_way_between_processes(tmp_path):
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and type(again) is skxlmr.CheckpointError
