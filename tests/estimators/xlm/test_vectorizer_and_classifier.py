"""Features and classes from the original XLM: against transformers on the same folder, and training."""

import shutil
import warnings

import numpy as np
import pytest
import torch
import transformers

from skxlmr import (
    TruncationWarning,
    XLMClassifier,
    XLMMaskedLM,
    XLMVectorizer,
    load,
    save,
)
from skxlmr.training import freeze, make_optimizer
from skxlmr.training._optimizer import train_mode
from tests.estimators.conftest import differing, padded, weights_of
from tests.sentence_encoders import OLD, flags, put
from tests.tiny import sentences, write_xlm_checkpoint, xlm_tokenizer


@pytest.fixture
def texts():
    return sentences(24)


def masked(inputs, hidden):
    return hidden * inputs["attention_mask"][..., None]


# Against the reference ------------------------------------------------------------------------------------------------


def test_a_folder_of_a_sentence_encoder_is_honoured(make_xlm, tiny_xlm, texts, tmp_path):
    folder = shutil.copytree(tiny_xlm, tmp_path / "published")
    (folder / "1_Pooling").mkdir()
    put(folder / "1_Pooling" / "config.json", flags("cls"))
    parts = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    put(folder / "modules.json", [{"path": path, "type": f"{OLD}.{kind}"} for kind, path in parts.items()])
    vectorizer = make_xlm(XLMVectorizer, folder, prompt="der ").fit(texts)
    expected = make_xlm(XLMVectorizer, pooling="cls", normalize=True).fit_transform([f"der {text}" for text in texts])
    np.testing.assert_allclose(vectorizer.transform(texts), expected, atol=1e-6)
    save(vectorizer, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert (loaded.pooling_, loaded.normalize_, loaded.prompt_) == ("cls", True, "der ")
    np.testing.assert_allclose(loaded.transform(texts), expected, atol=1e-6)


@pytest.mark.parametrize("pooling", ["mean", "cls", "max"])
def test_features_are_the_references(make_xlm, reference, tiny_xlm, texts, pooling):
    vectorizer = make_xlm(XLMVectorizer, pooling=pooling, layers=[1, -1]).fit(texts)
    model, tokenizer = reference("XLMModel", tiny_xlm), transformers.XLMTokenizer.from_pretrained(tiny_xlm)
    expected = []
    for text in texts:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt"), output_hidden_states=True).hidden_states
        pools = {"mean": lambda x: x[0].mean(0), "cls": lambda x: x[0, 0], "max": lambda x: x[0].amax(0)}
        expected.append(torch.cat([pools[pooling](states[layer]) for layer in (1, -1)]).numpy())
    np.testing.assert_allclose(vectorizer.transform(texts), expected, atol=1e-5)


@pytest.mark.parametrize("lang", ["de", "ru"])
def test_features_in_a_language_are_the_references(make_xlm, reference, tiny_xlm_languages, texts, lang):
    vectorizer = make_xlm(XLMVectorizer, tiny_xlm_languages, lang=lang).fit(texts)
    inputs = padded(vectorizer.tokenizer_, texts)
    langs = torch.full_like(inputs["input_ids"], {"de": 0, "en": 1, "ru": 2}[lang])
    with torch.no_grad():
        hidden = reference("XLMModel", tiny_xlm_languages)(**inputs, langs=langs).last_hidden_state
    expected = masked(inputs, hidden).sum(1) / inputs["attention_mask"].sum(1, keepdim=True)
    np.testing.assert_allclose(vectorizer.transform(texts), expected, atol=1e-5)


@pytest.mark.parametrize("summary_type", ["first", "last", "mean"])
def test_fine_tuned_classifier_comes_back_and_is_the_references(texts, tmp_path, reference, make_xlm, summary_type):
    folder = write_xlm_checkpoint(
        tmp_path / "start", xlm_tokenizer(), summary_type=summary_type, causal=summary_type == "last"
    )
    classifier = make_xlm(XLMClassifier, folder).fit(texts, np.array(["a", "b", "c"])[np.arange(24) % 3])
    save(classifier, tmp_path / "saved")
    logits = classifier.decision_function(texts)
    model = reference("XLMForSequenceClassification", tmp_path / "saved")
    assert model.config.id2label == {0: "a", 1: "b", 2: "c"}
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        expected = [model(**tokenizer(text, return_tensors="pt")).logits[0].numpy() for text in texts]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    for again in (load(tmp_path / "saved"), XLMClassifier.from_checkpoint(tmp_path / "saved", dtype="float32")):
        np.testing.assert_array_equal(again.decision_function(texts), logits)
        assert again.classes_.tolist() == ["a", "b", "c"]
    with pytest.warns(UserWarning, match=r"has a head of its own \(sequence_summary\)"):
        make_xlm(XLMClassifier, tmp_path / "saved").fit(texts, np.arange(24) % 3)


@pytest.mark.parametrize(
    ("estimator", "params", "architecture"),
    [
        (XLMVectorizer, {"lang": "ru"}, "XLMModel"),
        (XLMMaskedLM, {"lang": "de"}, "XLMWithLMHeadModel"),
        (XLMMaskedLM, {"lang": "en", "objective": "clm"}, "XLMWithLMHeadModel"),
        (XLMMaskedLM, {"lang": ("en", "ru"), "objective": "tlm"}, "XLMWithLMHeadModel"),
    ],
    ids=str,
)
def test_save_and_load(texts, tmp_path, make_xlm, tiny_xlm_languages, reference, estimator, params, architecture):
    X = list(zip(texts, texts[::-1], strict=True)) if params.get("objective") == "tlm" else texts
    fitted = make_xlm(estimator, tiny_xlm_languages, max_length=64, **params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        fitted.fit(X)
        save(fitted, tmp_path / "saved")
        loaded = load(tmp_path / "saved")
        np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
        if hasattr(fitted, "score"):
            assert loaded.score(X) == fitted.score(X)
    assert loaded.config_ == fitted.config_ and loaded.tokenizer_ == fitted.tokenizer_
    assert loaded.config_.causal == (params.get("objective") == "clm")
    names = {path.name for path in (tmp_path / "saved").iterdir()}
    assert {"config.json", "model.safetensors", "vocab.json", "merges.txt", "skxlmr.json"} <= names
    model = reference("AutoModel" if architecture == "XLMModel" else architecture, tmp_path / "saved")
    assert model.config.causal == loaded.config_.causal and model.config.architectures == [architecture]
    ids = torch.arange(14, 24)[None]
    with torch.no_grad():
        found = fitted.module_.backbone(ids, langs=torch.ones_like(ids)).last_hidden_state
        base = model if architecture == "XLMModel" else model.transformer
        torch.testing.assert_close(found, base(ids, langs=torch.ones_like(ids)).last_hidden_state, atol=1e-5, rtol=0)


# Training -------------------------------------------------------------------------------------------------------------


def test_frozen_layers_keep_their_weights(make_xlm, tiny_xlm_languages, texts):
    y = np.arange(24) % 2
    before = weights_of(make_xlm(XLMMaskedLM, tiny_xlm_languages, lang="en", learning_rate=1e-9).fit(texts[:1]))
    fitted = make_xlm(XLMClassifier, tiny_xlm_languages, lang="en", n_frozen_layers=1).fit(texts, y)
    names = [name for name in before if name.startswith("transformer.")]
    found = {name: weights_of(fitted)[name] for name in names}
    start = weights_of(XLMVectorizer(tiny_xlm_languages, lang="en").fit(texts))
    changed = differing(found, {name: start[name] for name in names})
    parts = {"attentions.1", "layer_norm1.1", "ffns.1", "layer_norm2.1"}
    assert {".".join(name.split(".")[1:3]) for name in changed} == parts


def test_rates_fall_from_layer_to_layer_and_frozen_parts_rest(make_xlm, tiny_xlm_languages, texts):
    module = make_xlm(XLMClassifier, tiny_xlm_languages, lang="en").fit(texts, np.arange(24) % 2).module_
    options = {"learning_rate": 1.0, "head_learning_rate": 9.0, "layer_decay": 0.5, "weight_decay": 0.1}
    groups = make_optimizer(module, **options).param_groups
    names = {parameter: name for name, parameter in module.named_parameters()}
    found = {names[p]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert found.keys() == set(names.values())
    for name, (rate, decay) in found.items():
        expected = {"0": 0.5, "1": 1.0}.get(name.split(".")[2], 0.25) if name.startswith("transformer.") else 9.0
        assert rate == expected, name
        assert decay == (0.0 if name.endswith("bias") or "layer_norm" in name else 0.1), name
    freeze(module, 1)
    train_mode(module)
    encoder = module.transformer
    assert not encoder.layer_norm_emb.training and not encoder.attentions[0].training and not encoder.ffns[0].training
    assert encoder.attentions[1].training and encoder.ffns[1].training and module.sequence_summary.training
    ids = torch.arange(14, 24)[None]
    first, second = (encoder(ids, output_hidden_states=True).hidden_states for _ in range(2))
    assert (
        torch.equal(first[0], second[0]) and torch.equal(first[1], second[1]) and not torch.equal(first[2], second[2])
    )


def test_only_used_words_are_trained(make_xlm, tiny_xlm, texts):
    classifier = make_xlm(XLMClassifier, weight_decay=0.1).fit(texts, np.arange(24) % 2)
    words = weights_of(classifier)["transformer.embeddings.weight"]
    start = weights_of(XLMVectorizer(tiny_xlm).fit(texts))["transformer.embeddings.weight"]
    used = np.unique(classifier.tokenizer_.encode_batch(texts).ids)
    unused = np.setdiff1d(np.arange(len(words)), used)
    assert len(unused) > 50 and torch.equal(words[unused], start[unused])
    assert (words[used] != start[used]).any(1).all()


def test_gradient_checkpointing_changes_nothing(make_xlm, texts):
    fitted = [make_xlm(XLMMaskedLM, gradient_checkpointing=value).fit(texts).loss_curve_ for value in (False, True)]
    assert fitted[0] == pytest.approx(fitted[1], rel=1e-6)


def test_neighbours_make_no_difference(make_xlm, tiny_xlm_languages, texts):
    vectorizer = make_xlm(XLMVectorizer, tiny_xlm_languages, lang="de").fit(texts)
    expected = vectorizer.transform(texts)
    one_by_one = np.concatenate([vectorizer.transform([text]) for text in texts])
    np.testing.assert_allclose(one_by_one, expected, atol=1e-6)
    np.testing.assert_allclose(vectorizer.set_params(batch_size=1).transform(texts[::-1])[::-1], expected, atol=1e-6)


def test_the_classifier_learns(make_xlm):
    texts, y = sentences(128), np.arange(128) % 4
    classifier = make_xlm(XLMClassifier, max_epochs=6, batch_size=8).fit(texts, y)
    assert classifier.score(sentences(64, seed=3), np.arange(64) % 4) > 0.8


def test_long_texts_in_windows(make_xlm):
    long = "the old red house and the bird " * 20
    vectorizer = make_xlm(XLMVectorizer, max_length=20, long_text="window").fit([long, "a bird"])
    assert vectorizer.transform([long]).shape == (1, 32) and vectorizer.coverage([long])["coverage"].tolist() == [1.0]
