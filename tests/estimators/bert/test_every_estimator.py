"""Every estimator on checkpoints of BERT and DistilBERT; what it saves computes the same in transformers, texts included."""

import json

import numpy as np
import pytest
import torch

from skxlmr import (
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaRegressor,
    XLMRobertaZeroShotClassifier,
    load,
    save,
)
from skxlmr.batching import pack
from skxlmr.nn.bert.bert import BertEmbeddings
from skxlmr.utils._errors import CheckpointError
from tests import contract

CLASSES = {"bert": "Bert", "distilbert": "DistilBert"}
READ = [
    cls
    for cls in contract.ESTIMATORS
    if not contract.is_original_xlm(cls) and cls not in (XLMRobertaZeroShotClassifier, XLMRobertaCausalLM)
]
PAIRS = list(zip(contract.TEXTS, contract.TEXTS[::-1], strict=True))

every_body = pytest.mark.parametrize("body", ["bert", "distilbert", "minilm"])


def logits_of(output):
    """The outputs of a module of the reference as one tensor."""
    if "start_logits" in output:
        return torch.stack([output.start_logits, output.end_logits], 2)
    return output.last_hidden_state if "last_hidden_state" in output else output.logits


def assert_equals_the_reference(fitted, folder, reference, pairs):
    """Texts, or pairs of them, through our tokenizer and module and through theirs."""
    transformers = pytest.importorskip("transformers")
    texts = (contract.TEXTS, contract.TEXTS[::-1]) if pairs else (contract.TEXTS,)
    rows = transformers.AutoTokenizer.from_pretrained(folder)(*texts, padding=True, return_tensors="pt")
    mask = rows["attention_mask"].bool()
    is_choice = fitted._head.task == "ForMultipleChoice"
    given = {name: tensor[None] for name, tensor in rows.items()} if is_choice else rows  # one set of choices
    ids, layout = pack(fitted.tokenizer_.encode_batch(*texts))
    with torch.no_grad():
        expected = logits_of(reference(fitted._head.auto_class, folder)(**given))
        found = fitted.module_(ids, layout)
    found = found.last_hidden_state if fitted._head.task == "Model" else found
    assert ids.tolist() == rows["input_ids"][mask].tolist()
    if is_choice:
        expected = expected[0]
    if len(found) == len(ids):
        expected = expected[mask]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # theirs
@contract.each_that(READ.__contains__)
@every_body
def test_every_estimator_and_the_reference_on_its_folder(bodies, reference, make_any, tmp_path, estimator, body):
    X, y, _ = contract.inputs(estimator)
    fitted = make_any(estimator).set_params(checkpoint=bodies[body]).fit(X, y)
    save(fitted, tmp_path / "saved")
    contract.assert_same(contract.answers(load(tmp_path / "saved"), X), contract.answers(fitted, X))
    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    model_type = "distilbert" if body == "distilbert" else "bert"
    head = fitted._head
    assert saved["model_type"] == model_type and saved["architectures"] == [f"{CLASSES[model_type]}{head.task}"]
    for pairs in (False, True) if estimator.__name__ != "XLMRobertaDialogueLM" else (False,):
        assert_equals_the_reference(fitted, tmp_path / "saved", reference, pairs)


@pytest.mark.parametrize("body", ["bert", "minilm"])
def test_zero_shot(bodies, reference, make_any, tmp_path, body):
    transformers = pytest.importorskip("transformers")
    nli = make_any(XLMRobertaClassifier).set_params(checkpoint=bodies[body])
    save(nli.fit(PAIRS, ["contradiction", "entailment", "neutral"] * 2), tmp_path / "nli")
    zero_shot = XLMRobertaZeroShotClassifier(tmp_path / "nli", candidate_labels=["art", "sport"], dtype="float32").fit()
    texts, hypotheses = contract.TEXTS[:2], ["This example is art.", "This example is sport."]
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "nli")
    rows = tokenizer(np.repeat(texts, 2).tolist(), hypotheses * 2, padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = reference("AutoModelForSequenceClassification", tmp_path / "nli")(**rows).logits
    expected = logits[:, 1].view(2, 2).softmax(1).numpy()
    np.testing.assert_allclose(zero_shot.predict_proba(texts), expected, atol=1e-5)


def of_pairs(estimator):
    """Rows of pairs for the estimator, and their targets."""
    X, y, _ = contract.inputs(estimator)
    return (PAIRS, y) if contract.takes_pairs(estimator) else (X, y)


@contract.each_that(lambda cls: cls in READ and cls.__name__ != "XLMRobertaTokenClassifier")
@pytest.mark.parametrize("body", ["bert", "minilm"])
def test_second_texts_have_token_type_1(bodies, make_any, monkeypatch, estimator, body):
    """In training and in predictions, where the files of the tokenizer give them this type: those of XLM-R don't."""
    X, y = of_pairs(estimator)
    of_second, token_types = [], BertEmbeddings._token_types

    def watched(embeddings, layout, token_type_ids):
        if layout.second_T is not None:
            of_second.append(embeddings.training)
        return token_types(embeddings, layout, token_type_ids)

    monkeypatch.setattr(BertEmbeddings, "_token_types", watched)
    contract.infer(make_any(estimator).set_params(checkpoint=bodies[body]).fit(X, y), X)
    is_pair = body == "bert" and estimator.__name__ not in ("XLMRobertaDialogueLM", "XLMRobertaEmbedder")
    trains = {True, False} if hasattr(estimator, "partial_fit") else {False}
    assert set(of_second) == (trains if is_pair else set())


@contract.each_that(lambda cls: cls in READ and contract.methods_of(cls))
@pytest.mark.parametrize("body", ["bert", "distilbert"])
def test_each_row_is_answered_by_itself(bodies, make_any, estimator, body):
    """Of pairs where there may be some: a row with the same ids, but another place of the second text, is another row."""
    X, y = of_pairs(estimator)
    made = make_any(estimator).set_params(checkpoint=bodies[body]).fit(X, y)
    X = [*X, X[0], ("the", "bird sings"), ("the bird", "sings")] if contract.takes_pairs(estimator) else [*X, X[0]]
    together = contract.answers(made, X)
    alone = [contract.answers(made, part) for part in contract.parts(X, 1)]
    for name, found in together.items():
        contract.assert_same(found, [answer for answers in alone for answer in answers[name]], name)


@every_body
def test_numbers_are_in_the_units_of_y(bodies, make_any, body):
    regressor = make_any(XLMRobertaRegressor, max_epochs=3).set_params(checkpoint=bodies[body])
    X = contract.TEXTS * 4
    y = np.tile([995.0, 1005.0], 12)
    found = regressor.fit(X, y).predict(X)
    assert abs(found.mean() - 1000) < 6 and np.corrcoef(found, y)[0, 1] > 0.5
    assert regressor.set_params(warm_start=True).fit(X, y).predict(X).mean() == pytest.approx(1000, abs=6)


def test_causal_models_are_of_other_families(bodies, make_any):
    with pytest.raises(
        CheckpointError, match=r"describes BERT \(model_type 'bert'\), which XLMRobertaCausalLM can't read: use"
    ):
        make_any(XLMRobertaCausalLM).set_params(checkpoint=bodies["bert"]).fit(contract.TEXTS)
