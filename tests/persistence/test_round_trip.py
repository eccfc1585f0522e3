"""A saved estimator comes back the same, and its folder is a checkpoint."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

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

from .conftest import FIT, TEXTS, assert_same


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
    for name in learnt - {"module_", "tokenizer_", "config_", "_said"}:
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


def test_columns_side_by_side_come_back(tiny_checkpoint, tmp_path):
    X = pd.DataFrame({"a": TEXTS, "b": TEXTS[::-1], "c": TEXTS})
    apart = XLMRobertaVectorizer(tiny_checkpoint, pairs=False, dtype="float32")
    expected = apart.transform(X)
    for made in (apart, apart.fit(X)):
        save(made, tmp_path / "saved")
        np.testing.assert_array_equal(load(tmp_path / "saved").transform(X), expected)


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
