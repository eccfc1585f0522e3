"""Weights that are NaN or infinite never become an answer: an error names the tensor, at the latest when an output shows it."""

import json

import numpy as np
import pytest
import torch

import skxlmr
from skxlmr import (
    CheckpointError,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaVectorizer,
)
from skxlmr.checkpoints import _weights, read_config, read_tensors, write_folder
from skxlmr.text import load_tokenizer

WORDS = "roberta.embeddings.word_embeddings.weight"
DENSE = "roberta.encoder.layer.0.intermediate.dense.weight"
TEXTS = ["the bird sings", "das Haus"]


@pytest.fixture
def broken(tiny_checkpoint, tmp_path, request):
    """A checkpoint with one weight that is not finite; in the word embeddings, that of a word of the first text."""
    name, value = request.param
    tensors = {key: tensor.clone() for key, tensor in read_tensors(tiny_checkpoint).items()}
    tokenizer = load_tokenizer(tiny_checkpoint)
    row = tokenizer.encode_batch(TEXTS[:1]).ids[1] if name == WORDS else 3
    tensors[name][row, 2] = value
    write_folder(tmp_path / "broken", config=read_config(tiny_checkpoint), tensors=tensors, tokenizer=tokenizer)
    return tmp_path / "broken", name


CASES = [(WORDS, float("nan")), (WORDS, float("inf")), (DENSE, float("nan")), (DENSE, -float("inf"))]
cases = pytest.mark.parametrize("broken", CASES, indirect=True, ids=str)


@cases
def test_small_tensors_are_checked_when_they_are_read(broken):
    folder, name = broken
    with pytest.raises(CheckpointError, match=rf"{folder}: holds weights that are NaN or infinite, in {name}"):
        XLMRobertaVectorizer(folder).fit(TEXTS)
    with pytest.raises(CheckpointError, match=rf"NaN or infinite, in {name}"):
        XLMRobertaMaskedLM.from_checkpoint(folder)


@cases
def test_large_tensors_are_checked_when_an_output_shows_them(broken, monkeypatch):
    folder, name = broken
    monkeypatch.setattr(_weights, "CHEAP", 0)
    vectorizer = XLMRobertaVectorizer(folder, dtype="float32").fit(TEXTS)
    with pytest.raises(CheckpointError, match=rf"{folder}: holds weights that are NaN or infinite, in {name}"):
        vectorizer.transform(TEXTS)
    if name == WORDS:  # a text without that word is not affected
        assert np.isfinite(vectorizer.transform(["κόκκινο"])).all()


def test_weights_too_large_to_compute_with_are_named_with_their_checkpoint(tiny_checkpoint, tmp_path):
    tensors = {key: tensor.clone() for key, tensor in read_tensors(tiny_checkpoint).items()}
    tensors[DENSE][3] = -3e38
    folder, tokenizer = tmp_path / "huge", load_tokenizer(tiny_checkpoint)
    write_folder(folder, config=read_config(tiny_checkpoint), tensors=tensors, tokenizer=tokenizer)
    said = rf"no weight of {folder} is: .* The largest weight is 3e\+38, in {DENSE}\. .* damaged"
    with pytest.raises(FloatingPointError, match=said):
        XLMRobertaVectorizer(folder, dtype="float32").fit_transform(TEXTS)


@cases
def test_all_tensors_are_checked_before_training(broken, monkeypatch):
    monkeypatch.setattr(_weights, "CHEAP", 0)
    with pytest.raises(CheckpointError, match=f"NaN or infinite, in {broken[1]}"):
        XLMRobertaClassifier(broken[0], max_epochs=1).fit(TEXTS * 2, [0, 1] * 2)


def test_a_saved_estimator(tiny_checkpoint, tmp_path):
    fitted = XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS)
    with torch.no_grad():
        fitted.module_.get_parameter(next(name for name in fitted.module_.state_dict()))[0, 0] = float("nan")
    skxlmr.save(fitted, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "skxlmr.json").read_text())["estimator"] == "XLMRobertaVectorizer"
    with pytest.raises(CheckpointError, match="NaN or infinite, in"):
        skxlmr.load(tmp_path / "saved")


@cases
def test_no_text_is_generated_from_broken_weights(broken, monkeypatch):
    monkeypatch.setattr(_weights, "CHEAP", 0)
    config = json.loads((broken[0] / "config.json").read_text())
    (broken[0] / "config.json").write_text(json.dumps(config | {"is_decoder": True}))
    model = XLMRobertaCausalLM.from_checkpoint(broken[0], dtype="float32")
    with pytest.raises(CheckpointError, match=f"NaN or infinite, in {broken[1]}"):
        model.generate(["a"], max_new_tokens=2)
