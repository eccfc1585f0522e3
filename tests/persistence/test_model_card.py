"""The model card says what the model is, for people and for the hub, and nothing of this machine."""

import numpy as np
import pytest
import torch
import yaml
from huggingface_hub import ModelCard

import skxlmr
from skxlmr import CheckpointError, XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaVectorizer, save
from skxlmr.estimators.heads import HEADS
from skxlmr.persistence._model_card import CARD, model_card
from tests import lora
from tests.persistence.conftest import FIT, TEXTS


def card_of(estimator):
    card = ModelCard(model_card(estimator, for_sentences=False))
    return card.data, card.text


def test_front_matter(fitted_classifier, tmp_path):
    save(fitted_classifier, tmp_path / "saved")
    data = ModelCard.load(tmp_path / "saved" / CARD).data
    assert data.library_name == "skxlmr" and data.pipeline_tag == "text-classification"
    assert data.language == ["multilingual"]
    assert data.tags == ["skxlmr", "scikit-learn", "xlm-roberta"]
    assert data.metrics is None and data.base_model is None


def test_sentence_transformers_are_named_where_they_open_it(tiny_checkpoint, tmp_path):
    save(XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS), tmp_path / "saved")
    card = ModelCard.load(tmp_path / "saved" / CARD)
    assert "sentence-transformers" in card.data.tags and "SentenceTransformer(" in card.text


@pytest.mark.parametrize("name", skxlmr.estimators.__all__)
def test_every_estimator_has_a_task(name):
    transformers = pytest.importorskip("transformers")
    estimator = getattr(skxlmr, name)
    assert hasattr(transformers, estimator._head.auto_class)
    assert sum(head.estimator == name for head in HEADS) == 1 and estimator._head in HEADS
    assert bool(estimator._head.score) is hasattr(estimator(), "early_stopping")


@pytest.mark.parametrize(("early_stopping", "which"), [(True, "best"), (False, "last")])
def test_scores(tiny_checkpoint, early_stopping, which):
    settings = FIT | {"max_epochs": 3, "early_stopping": early_stopping, "learning_rate": 0.05}
    classifier = XLMRobertaClassifier(tiny_checkpoint, **settings)
    classifier.fit(TEXTS, ["a", "b", "c"] * 2, X_val=TEXTS, y_val=["a", "b", "c"] * 2)
    classifier.validation_scores_ = [0.25, 0.75, 0.5][: classifier.n_iter_]
    classifier.final_loss_ = classifier.loss_curve_[1 if early_stopping else -1]
    data, text = card_of(classifier)
    assert data.metrics == ["accuracy"]
    value = {"best": "0.75", "last": "0.5"}[which]
    assert f"The {which} validation score (share of the rows that are right) is **{value}**" in text
    assert f"| 1 | {classifier.loss_curve_[0]:.4g} | 0.25 |" in text


@pytest.mark.parametrize("early_stopping", [True, False])
def test_no_score_of_weights_that_were_trained_on_since(tiny_checkpoint, early_stopping):
    classifier = XLMRobertaClassifier(
        tiny_checkpoint, **FIT | {"early_stopping": early_stopping, "learning_rate": 0.05}
    )
    classifier.fit(TEXTS, ["a", "b", "c"] * 2, X_val=TEXTS, y_val=["a", "b", "c"] * 2)
    assert "validation score (" in card_of(classifier)[1]
    classifier.partial_fit(TEXTS, ["a"] * 6)
    assert "validation score (" not in card_of(classifier)[1]


def test_settings_that_differ_and_no_others(tiny_checkpoint):
    _, text = card_of(XLMRobertaRegressor(tiny_checkpoint, **FIT, layer_decay=0.9).fit(TEXTS, np.arange(6.0)))
    table = text.partition("## Settings")[2].partition("## Versions")[0]
    assert "| `` layer_decay `` | `` 0.9 `` |" in table and "| `` learning_rate `` | `` 0.003 `` |" in table
    for name in ("weight_decay", "checkpoint", "device", "tol"):
        assert f"`` {name} ``" not in table


def test_base_model_is_named_where_it_is_on_the_hub(fitted_classifier, tmp_path, monkeypatch):
    checkpoint = fitted_classifier.checkpoint
    try:
        fitted_classifier.set_params(checkpoint="org/name@v1")
        data, text = card_of(fitted_classifier)
        assert data.base_model == "org/name"
        assert "[org/name](https://huggingface.co/org/name) at revision `` 'v1' ``" in text
        fitted_classifier.set_params(checkpoint="skxlmr-mini")
        data, text = card_of(fitted_classifier)
        assert data.base_model is None and "started from `skxlmr-mini`" in text
        monkeypatch.chdir(tmp_path)
        (tmp_path / "models" / "mine").mkdir(parents=True)
        fitted_classifier.set_params(checkpoint="models/mine")  # looks like a repository, and is a folder
        assert card_of(fitted_classifier)[0].base_model is None
    finally:
        fitted_classifier.set_params(checkpoint=checkpoint)


def test_no_place_on_this_machine_is_named(saved, tiny_checkpoint):
    text = (saved / CARD).read_text(encoding="utf-8")
    assert str(tiny_checkpoint.parent) not in text and "local checkpoint" in text


def test_odd_classes_break_out_of_nothing(tiny_checkpoint):
    odd = ["---", "`a|b`", 'x"\n\nlanguage: [xx]\n', "{{ jinja }}", "<b>", "ä"]
    classifier = XLMRobertaClassifier(tiny_checkpoint, **FIT, class_weight=dict.fromkeys(odd, 2.0)).fit(TEXTS, odd)
    text = model_card(classifier, for_sentences=False)
    front = yaml.safe_load(text.split("\n---\n")[0].removeprefix("---\n"))
    assert front["language"] == ["multilingual"]
    assert "6 classes: " in text and "\n\nlanguage" not in text
    (row,) = [line for line in text.splitlines() if line.startswith("| `` class_weight")]
    assert row.replace("\\|", "").count("|") == 3


def test_long_values_stay_on_their_line(tiny_checkpoint):
    threshold = np.linspace(0.1, 0.9, 40)
    classifier = XLMRobertaClassifier(tiny_checkpoint, **FIT, threshold=threshold)
    classifier.fit(TEXTS, np.arange(240).reshape(6, 40) % 2)
    (row,) = [line for line in card_of(classifier)[1].splitlines() if line.startswith("| `` threshold")]
    assert "array([0.1" in row and row.endswith("... `` |") and len(row) < 240


def test_many_classes_are_counted(tiny_checkpoint):
    texts = [f"das Haus {i}" for i in range(25)]
    classifier = XLMRobertaClassifier(tiny_checkpoint, **FIT).fit(texts, range(25))
    assert "25 classes: " in card_of(classifier)[1] and "`` 19 `` and 5 more." in card_of(classifier)[1]


def test_a_card_of_somebody_else_is_never_replaced(saved, fitted_classifier):
    save(fitted_classifier, saved)
    (saved / CARD).write_text("My own words.")
    with pytest.raises(CheckpointError, match=r"README\.md: was not written by save, or edited since"):
        save(fitted_classifier, saved)
    assert (saved / CARD).read_text() == "My own words."
    (saved / CARD).rename(saved.parent / "mine.md")
    save(fitted_classifier, saved)
    (saved / "skxlmr.json").unlink()  # so that nothing tells whose the card is
    with pytest.raises(CheckpointError, match=r"README\.md: was not written by save"):
        save(fitted_classifier, saved)


@pytest.mark.parametrize(
    ("name", "base", "params", "option"),
    [
        ("XLMRobertaCausalLM", "tiny_checkpoint", {}, "is_decoder"),
        ("XLMMaskedLM", "tiny_xlm", {"objective": "clm"}, "causal"),
    ],
)
def test_the_card_of_an_adapter_says_that_attention_looks_backwards(name, base, params, option, tmp_path, request):
    """Its base is an encoder, whose config peft has."""
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    base = request.getfixturevalue(base)
    lm = getattr(skxlmr, name)(str(base), **lora.FIT, **lora.LORA, **params).fit(TEXTS)
    folder, kind = lora.save(lm, tmp_path / "adapter"), lm._head.auto_class
    assert f'{kind}.from_pretrained("BASE", {option}=True)' in (folder / CARD).read_text()
    inputs = lora.tokens(base)
    mask = inputs["attention_mask"].bool()
    plain = lora.opened(getattr(transformers, kind), base, **{option: True})
    found = lora.theirs(lora.opened(peft.PeftModel, plain, folder), inputs)
    torch.testing.assert_close(found[mask], lora.logits(lm, inputs)[mask], rtol=0, atol=1e-5)
