"""What the original XLM adds: languages, and checkpoints of one family that estimators of the other refuse."""

import copy
import json
import pickle

import numpy as np
import pytest
import torch

import skxlmr
from skxlmr import (
    CheckpointError,
    XLMClassifier,
    XLMMaskedLM,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaRegressor,
    XLMRobertaVectorizer,
    XLMVectorizer,
)
from tests.estimators.conftest import weights_of
from tests.tiny import sentences, write_xlm_checkpoint, xlm_tokenizer


@pytest.fixture
def texts():
    return sentences(24)


# Languages ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", [XLMVectorizer, XLMClassifier, XLMMaskedLM])
def test_language_must_be_known_where_the_checkpoint_needs_it(make_xlm, tiny_xlm_languages, texts, estimator):
    y = np.arange(24) % 2
    with pytest.raises(ValueError, match="has embeddings of its languages: pass lang, one of de, en, ru"):
        make_xlm(estimator, tiny_xlm_languages).fit(texts, y)
    with pytest.raises(ValueError, match=r"lang='fr' is not a language of the checkpoint, which has de, en, ru$"):
        make_xlm(estimator, tiny_xlm_languages, lang="fr").fit(texts, y)


def test_languages_without_names_are_refused(make_xlm, texts, tmp_path):
    folder = write_xlm_checkpoint(tmp_path / "nameless", xlm_tokenizer(), n_langs=3)
    with pytest.raises(ValueError, match=r"has embeddings of 3 languages, but its config\.json does not name them"):
        make_xlm(XLMVectorizer, folder, lang="en").fit(texts)


def test_language_chooses_embedding_and_rules(make_xlm, tiny_xlm, tiny_xlm_languages, tmp_path):
    features = [
        make_xlm(XLMVectorizer, tiny_xlm_languages, lang=lang).fit_transform(["a bird"]) for lang in ("en", "de")
    ]
    assert np.abs(features[0] - features[1]).max() > 0.1
    # without embeddings it still chooses Moses' rules: French keeps the apostrophe with the word before it
    english, french = (make_xlm(XLMVectorizer, tiny_xlm, lang=lang).fit(["l'oiseau"]) for lang in (None, "fr"))
    assert (english.tokenizer_.language, french.tokenizer_.language) == ("en", "fr")
    assert np.abs(english.transform(["l'oiseau"]) - french.transform(["l'oiseau"])).max() > 1e-3
    # languages that the config names but has no embeddings for
    folder = write_xlm_checkpoint(
        tmp_path / "shared", xlm_tokenizer(lang2id={"de": 0, "en": 1}), n_langs=2, use_lang_emb=False
    )
    pair = [make_xlm(XLMVectorizer, folder, lang=lang).fit_transform(["a bird"]) for lang in ("en", "de", None)]
    np.testing.assert_array_equal(pair[0], pair[1])
    np.testing.assert_array_equal(pair[0], pair[2])
    with pytest.raises(ValueError, match=r"lang='fr' is not a language of the checkpoint, which has de, en$"):
        make_xlm(XLMVectorizer, folder, lang="fr").fit(["a"])


def test_languages_are_learnt_and_used(make_xlm, tiny_xlm_languages, texts):
    classifier = make_xlm(XLMClassifier, tiny_xlm_languages, lang="ru", weight_decay=0.0).fit(texts, np.arange(24) % 2)
    before = XLMVectorizer(tiny_xlm_languages, lang="ru").fit(texts)
    learnt = weights_of(classifier)["transformer.lang_embeddings.weight"]
    start = weights_of(before)["transformer.lang_embeddings.weight"]
    assert torch.equal(learnt[:2], start[:2]) and not torch.equal(learnt[2], start[2])


@pytest.mark.parametrize("fitted", [True, False], ids=["fit", "no_fit"])
def test_features_are_of_the_language_that_was_set_after_fit(tiny_xlm_languages, texts, tmp_path, fitted):
    english, german = (XLMVectorizer(tiny_xlm_languages, lang=lang).fit_transform(texts) for lang in ("en", "de"))
    made = XLMVectorizer(tiny_xlm_languages, lang="en")
    np.testing.assert_array_equal((made.fit(texts) if fitted else made).transform(texts), english)
    made.set_params(lang="de")
    skxlmr.save(made, tmp_path / "saved")
    for each in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made), skxlmr.load(tmp_path / "saved"), made):
        np.testing.assert_array_equal(each.transform(texts), german)
    np.testing.assert_array_equal(made.set_params(lang="en").transform(texts), english)
    whole = pickle.dumps(made.set_params(lang="fr", store_weights_in_pickle=True))
    for call in (lambda: made.transform(texts), lambda: pickle.loads(whole)):
        with pytest.raises(ValueError, match=r"lang='fr' is not a language of the checkpoint, which has de, en, ru$"):
            call()


def test_predictions_are_of_the_language_that_was_set_after_fit(make_xlm, tiny_xlm_languages, texts, tmp_path):
    y = [0, 1] * (len(texts) // 2)
    made = make_xlm(XLMClassifier, tiny_xlm_languages, lang="en").fit(texts, y)
    english = made.predict_proba(texts)
    skxlmr.save(made, tmp_path / "saved")
    german = XLMClassifier.from_checkpoint(tmp_path / "saved", lang="de").predict_proba(texts)
    assert np.abs(german - english).max() > 1e-4
    np.testing.assert_array_equal(made.set_params(lang="de").predict_proba(texts), german)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(made)).predict_proba(texts), german)
    skxlmr.save(made, tmp_path / "german")
    np.testing.assert_array_equal(skxlmr.load(tmp_path / "german").predict_proba(texts), german)


def test_rules_are_of_the_language_that_was_set_after_fit(tiny_xlm):
    english, french = (XLMVectorizer(tiny_xlm, lang=lang).fit_transform(["l'oiseau"]) for lang in (None, "fr"))
    made = XLMVectorizer(tiny_xlm, lang="fr").fit(["l'oiseau"])
    np.testing.assert_array_equal(made.set_params(lang=None).transform(["l'oiseau"]), english)
    np.testing.assert_array_equal(made.set_params(lang="fr").transform(["l'oiseau"]), french)


def test_a_graph_reads_the_language_that_was_set(tiny_xlm_languages, texts, tmp_path):
    pytest.importorskip("onnxruntime", reason="ONNX needs the extra onnx")
    english, german = (XLMVectorizer(tiny_xlm_languages, lang=lang).fit(texts) for lang in ("en", "de"))
    skxlmr.export_onnx(english, tmp_path / "graph")
    made = skxlmr.load_onnx(tmp_path / "graph", threads=1).set_params(lang="de")
    expected = german.transform(texts)
    np.testing.assert_allclose(made.transform(texts), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(made.fit(texts).transform(texts), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="lang='fr' is not a language of the checkpoint"):
        made.set_params(lang="fr").fit(texts)


def test_a_warm_start_may_continue_in_another_language(make_xlm, tiny_xlm_languages, texts):
    lm = make_xlm(XLMMaskedLM, tiny_xlm_languages, lang="ru", weight_decay=0.0).fit(texts)
    first = weights_of(lm)["transformer.lang_embeddings.weight"]
    lm.set_params(lang="de", warm_start=True).fit(texts)
    second = weights_of(lm)["transformer.lang_embeddings.weight"]
    assert torch.equal(first[1:], second[1:]) and not torch.equal(first[0], second[0])
    assert lm.tokenizer_.language == "de"
    with pytest.raises(
        ValueError, match=r"warm_start cannot continue with objective='clm': .* look at later tokens too"
    ):
        lm.set_params(objective="clm").fit(texts)
    causal = make_xlm(XLMMaskedLM, objective="clm").fit(texts).set_params(objective="mlm", warm_start=True)
    with pytest.raises(ValueError, match=r"warm_start cannot continue with objective='mlm': .* made the model causal"):
        causal.fit(texts)


def test_a_warm_start_in_an_unknown_language_changes_nothing(make_xlm, tiny_xlm_languages, texts):
    made = make_xlm(XLMClassifier, tiny_xlm_languages, lang="en").fit(texts, [0, 1] * (len(texts) // 2))
    expected = made.predict_proba(texts)
    for fit in (made.set_params(lang="fr", warm_start=True).fit, made.partial_fit):
        with pytest.raises(ValueError, match=r"lang='fr' is not a language of the checkpoint, which has de, en, ru$"):
            fit(texts, [0, 1] * (len(texts) // 2))
    np.testing.assert_array_equal(made.set_params(lang="en").predict_proba(texts), expected)


def test_a_warm_start_in_another_language_that_diverges_changes_nothing(make_xlm, tiny_xlm_languages, texts):
    y = [0, 1] * (len(texts) // 2)
    made = make_xlm(XLMClassifier, tiny_xlm_languages, lang="en").fit(texts, y)
    expected = made.predict_proba(texts)
    made.set_params(lang="de", warm_start=True, learning_rate=1e30, max_grad_norm=None, max_epochs=3)
    with pytest.raises(FloatingPointError):
        made.fit(texts, y)
    np.testing.assert_array_equal(made.set_params(lang="en").predict_proba(texts), expected)


# Families -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("estimator", "use"),
    [
        (XLMRobertaVectorizer, "use XLMVectorizer"),
        (XLMRobertaClassifier, "use XLMClassifier"),
        (XLMRobertaMaskedLM, "use XLMMaskedLM"),
        (XLMRobertaRegressor, "use one of XLMClassifier, XLMMaskedLM, XLMVectorizer"),
    ],
)
def test_checkpoints_of_the_original_xlm_are_for_its_estimators(tiny_xlm, texts, estimator, use):
    with pytest.raises(
        CheckpointError,
        match=rf"config\.json: describes the original XLM .*but {estimator.__name__} reads XLM-RoBERTa: {use}$",
    ):
        estimator(tiny_xlm).fit(texts, np.arange(24) % 2)


@pytest.mark.parametrize("estimator", [XLMVectorizer, XLMClassifier, XLMMaskedLM])
def test_checkpoints_of_xlm_roberta_are_for_its_estimators(tiny_checkpoint, texts, estimator):
    name = estimator.__name__
    use = f"use {name.replace('XLM', 'XLMRoberta')}$"
    with pytest.raises(
        CheckpointError,
        match=rf"config\.json: describes a model of the type 'xlm-roberta', but {name} reads the original XLM: {use}",
    ):
        estimator(tiny_checkpoint).fit(texts, np.arange(24) % 2)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("asm", True, "adaptive softmax"), ("is_encoder", False, "XLM decoders are not supported")],
)
def test_what_is_not_supported_is_said(tmp_path, texts, make_xlm, field, value, said):
    folder = write_xlm_checkpoint(tmp_path / "xlm", xlm_tokenizer())
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, field: value}))
    with pytest.raises(CheckpointError, match=said):
        make_xlm(XLMVectorizer, folder).fit(texts)


def test_byte_pairs_are_not_drawn():
    assert "subword_sampling" not in XLMClassifier().get_params() | XLMMaskedLM().get_params()
    with pytest.raises(ValueError, match="Invalid parameter 'subword_sampling'"):
        XLMMaskedLM().set_params(subword_sampling=0.1)
