"""Adapters in every estimator: as their base model with peft's merge; saved, pickled, and when files change later."""

import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import skxlmr
from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaVectorizer
from skxlmr.checkpoints import read_model
from skxlmr.estimators import heads
from skxlmr.estimators._dialogues.estimator import SPEAKER_TOKENS
from skxlmr.text import load_tokenizer
from tests import adapters, contract
from tests.adapters import QUERY
from tests.estimators.conftest import padded

TEXTS, Y = contract.TEXTS, contract.Y
MODEL, LM, SEQ = "XLMRobertaModel", "XLMRobertaForMaskedLM", "XLMRobertaForSequenceClassification"
NLI = {"0": "contradiction", "1": "neutral", "2": "entailment"}
# For each estimator the class that was adapted, what it was opened with, and peft's options
ESTIMATORS = {
    "XLMRobertaVectorizer": (
        MODEL,
        {},
        {"task_type": "FEATURE_EXTRACTION", "target_modules": ["query", "word_embeddings"]},
    ),
    "XLMRobertaEmbedder": (MODEL, {}, {"task_type": "FEATURE_EXTRACTION"}),
    "XLMRobertaClassifier": (SEQ, {"num_labels": 3}, {"task_type": "SEQ_CLS"}),
    "XLMRobertaRegressor": (SEQ, {"num_labels": 1}, {"task_type": "SEQ_CLS", "use_dora": True}),
    "XLMRobertaZeroShotClassifier": (SEQ, {"num_labels": 3}, {"task_type": "SEQ_CLS"}),
    "XLMRobertaTokenClassifier": ("XLMRobertaForTokenClassification", {"num_labels": 5}, {"task_type": "TOKEN_CLS"}),
    "XLMRobertaQuestionAnswerer": ("XLMRobertaForQuestionAnswering", {}, {"task_type": "QUESTION_ANS"}),
    "XLMRobertaMultipleChoiceClassifier": (
        "XLMRobertaForMultipleChoice",
        {},
        {"modules_to_save": ["classifier", "pooler"]},
    ),
    "XLMRobertaMaskedLM": (LM, {}, {"modules_to_save": ["word_embeddings"]}),  # no longer tied afterwards
    "XLMRobertaCausalLM": ("XLMRobertaForCausalLM", {}, {"task_type": "CAUSAL_LM"}),
    "XLMRobertaDialogueLM": (LM, {"resize": 304}, {}),  # with tokens of its own
}


def test_every_estimator_is_tried():
    assert {head.estimator for head in heads.HEADS if head.estimator.startswith("XLMRoberta")} == ESTIMATORS.keys()


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator(name, tmp_path, tiny_checkpoint):
    pytest.importorskip("peft", reason="compares with peft")
    kind, config, lora = ESTIMATORS[name]
    base = tiny_checkpoint
    if name == "XLMRobertaCausalLM":
        base = shutil.copytree(tiny_checkpoint, tmp_path / "base")
        content = adapters.describes(base) | {"is_decoder": True}
        (base / "config.json").write_text(json.dumps(content))
    folder = adapters.made(tmp_path / "a", base, kind, model=config, **{"target_modules": ["query"], **lora})
    reference = adapters.merged(folder, base, kind, **config)
    if name == "XLMRobertaDialogueLM":
        load_tokenizer(base).with_tokens(SPEAKER_TOKENS).save(folder)
    if name == "XLMRobertaZeroShotClassifier":
        (folder / "config.json").write_text(json.dumps({"id2label": NLI}))
    estimator = getattr(skxlmr, name)
    if name == "XLMRobertaVectorizer":
        fitted = estimator(folder, pooling="cls", dtype="float32").fit(TEXTS)
        logits = reference(**padded(fitted.tokenizer_, TEXTS[:3])).last_hidden_state[:, 0].detach().numpy()
        np.testing.assert_allclose(fitted.transform(TEXTS[:3]), logits, atol=1e-5)
    else:
        params = {"candidate_labels": ["bird", "river"]} if name == "XLMRobertaZeroShotClassifier" else {}
        fitted = estimator.from_checkpoint(folder, dtype="float32", **params)
    if name == "XLMRobertaClassifier":
        logits = reference(**padded(fitted.tokenizer_, TEXTS[:3])).logits.detach().numpy()
        np.testing.assert_allclose(fitted.decision_function(TEXTS[:3]), logits, atol=1e-5)
        assert list(fitted.classes_) == ["LABEL_0", "LABEL_1", "LABEL_2"]
    own, theirs = fitted.module_.state_dict(), reference.state_dict()
    prefix = "roberta." if kind == MODEL else ""
    theirs = {prefix + name: tensor for name, tensor in theirs.items()}
    assert own.keys() <= theirs.keys() | {"lm_head.bias"}
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in own.items() if name in theirs)
    if name == "XLMRobertaMaskedLM":
        assert not torch.equal(own["lm_head.decoder.weight"], own["roberta.embeddings.word_embeddings.weight"])


def test_a_fit_on_an_adapter_starts_from_the_merged_weights(tmp_path, tiny_checkpoint):
    folder = adapters.write(tmp_path / "a", tiny_checkpoint)
    skxlmr.convert(folder, tmp_path / "merged")
    fits = [XLMRobertaClassifier(place, **contract.FAST).fit(TEXTS, Y) for place in (folder, tmp_path / "merged")]
    assert np.array_equal(*(fit.decision_function(TEXTS) for fit in fits))


def test_save_writes_merged_weights(tmp_path, tiny_checkpoint):
    base = shutil.copytree(tiny_checkpoint, tmp_path / "base")
    vectorizer = XLMRobertaVectorizer(adapters.write(tmp_path / "a", base), dtype="float32").fit(TEXTS)
    expected = vectorizer.transform(TEXTS)
    skxlmr.save(vectorizer, tmp_path / "saved")
    shutil.rmtree(base)
    assert not (tmp_path / "saved" / "adapter_config.json").exists()
    assert read_model(tmp_path / "saved").lora is None
    assert np.array_equal(skxlmr.load(tmp_path / "saved").transform(TEXTS), expected)


def test_an_adapter_without_a_head_is_named_not_its_base(tmp_path, tiny_checkpoint):
    folder = adapters.write(tmp_path / "a", tiny_checkpoint, task_type="FEATURE_EXTRACTION")
    with pytest.raises(CheckpointError, match="XLMRobertaModel, which has no head for whole texts") as refused:
        XLMRobertaClassifier.from_checkpoint(folder)
    assert str(refused.value).startswith(f"{folder}: describes")


@pytest.fixture
def vectorizer(tmp_path, tiny_checkpoint):
    """An estimator whose pickle names the adapter."""
    base = shutil.copytree(tiny_checkpoint, tmp_path / "base")
    return XLMRobertaVectorizer(adapters.write(tmp_path / "a", base), dtype="float32").fit(TEXTS)


def changed(base):
    weights = load_file(base / "model.safetensors")
    weights[f"{QUERY.format(0)}.bias"] += 1
    save_file(weights, base / "new")
    os.replace(base / "new", base / "model.safetensors")


def test_a_pickle_names_the_adapter_and_opens_both_folders(vectorizer, tmp_path, monkeypatch):
    expected, content = vectorizer.transform(TEXTS), pickle.dumps(vectorizer)
    assert len(content) < 10_000
    monkeypatch.chdir(tmp_path)
    assert np.array_equal(pickle.loads(content).transform(TEXTS), expected)
    changed(tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"needs the checkpoint with the content hash .* but this one has"):
        pickle.loads(content)
    shutil.rmtree(tmp_path / "base")
    with pytest.raises(CheckpointError, match=r"which cannot be opened .*names the base model"):
        pickle.loads(content)


@pytest.mark.parametrize("which", ["base", "adapter"])
def test_a_pickle_holds_the_weights_once_a_folder_has_changed(which, vectorizer, tmp_path):
    expected = vectorizer.transform(TEXTS)
    if which == "base":
        changed(tmp_path / "base")
    else:
        adapters.write(tmp_path / "a", tmp_path / "base", adapters.matrices(seed=1))
    content = pickle.dumps(vectorizer)
    assert len(content) > 100_000
    shutil.rmtree(tmp_path / "base")
    assert np.array_equal(pickle.loads(content).transform(TEXTS), expected)


def test_a_base_that_is_overwritten_in_place_is_noticed(vectorizer, tmp_path):
    file = tmp_path / "base" / "model.safetensors"
    with open(file, "r+b") as opened:
        opened.seek(-4, os.SEEK_END)
        opened.write(b"\0\0\0\0")
    with pytest.raises(CheckpointError, match="was overwritten after it was opened"):
        vectorizer.transform(TEXTS)
