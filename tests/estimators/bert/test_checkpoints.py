"""What published folders of BERT and DistilBERT hold: old names, other heads, every format, sentence encoders."""

import json
import shutil

import numpy as np
import pytest
import torch

from skxlmr import (
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaVectorizer,
    convert,
    load,
    save,
)
from skxlmr.checkpoints import read_model
from skxlmr.estimators._core.pickling import StoredModule
from skxlmr.utils._errors import CheckpointError
from tests import contract
from tests.estimators.conftest import differing, padded, weights_of
from tests.sentence_encoders import dense, flags, write
from tests.tiny import sentences

every_body = pytest.mark.parametrize("body", ["bert", "distilbert", "minilm"])
PREFIX = {"bert": "bert", "distilbert": "distilbert", "minilm": "bert"}


def rewritten(folder, target, tensors, **config):
    """A copy with these tensors in PyTorch's old format, and changes of ``config.json``."""
    shutil.copytree(folder, target)
    (target / "model.safetensors").unlink()
    torch.save(tensors, target / "pytorch_model.bin")
    content = json.loads((target / "config.json").read_text())
    content = {name: value for name, value in (content | config).items() if value is not None}
    (target / "config.json").write_text(json.dumps(content))
    return target


def as_published_in_2018(tensors, prefix):
    """With TensorFlow's names of layer norms, buffers, a second name of the projection, and the head of the other objective."""
    published = {}
    for name, tensor in tensors.items():
        for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias")):
            name = name.replace(new, old)
        published[name] = tensor
    published[f"{prefix}.embeddings.position_ids"] = torch.arange(64)[None]
    words = tensors[f"{prefix}.embeddings.word_embeddings.weight"]
    if prefix == "bert":
        published |= {
            "cls.predictions.decoder.weight": words,
            "cls.predictions.decoder.bias": tensors["cls.predictions.bias"],
        }
        published |= {"cls.seq_relationship.weight": torch.ones(2, 32), "cls.seq_relationship.bias": torch.ones(2)}
    else:
        published["vocab_projector.weight"] = words
    return published


@every_body
def test_old_names_and_other_heads(bodies, tmp_path, body):
    prefix, tensors = PREFIX[body], read_model(bodies[body]).tensors()
    bare = {name.removeprefix(f"{prefix}."): t for name, t in tensors.items() if name.startswith(f"{prefix}.")}
    folders = [
        rewritten(bodies[body], tmp_path / "old", as_published_in_2018(tensors, prefix)),
        rewritten(bodies[body], tmp_path / "bare", bare, architectures=None),
        rewritten(bodies[body], tmp_path / "wrapped", {f"module.{name}": tensor for name, tensor in tensors.items()}),
    ]
    expected = XLMRobertaVectorizer(bodies[body], dtype="float32").transform(contract.TEXTS)
    for folder in folders:
        np.testing.assert_array_equal(XLMRobertaVectorizer(folder, dtype="float32").transform(contract.TEXTS), expected)
    plain, old = (XLMRobertaMaskedLM.from_checkpoint(folder, dtype="float32") for folder in (bodies[body], folders[0]))
    assert not differing(weights_of(old), weights_of(plain))
    unknown = rewritten(bodies[body], tmp_path / "unknown", tensors | {"head.weight": torch.ones(2)})
    with pytest.raises(CheckpointError, match=r"1 tensor unexpected \(head.weight"):
        XLMRobertaVectorizer(unknown).transform(contract.TEXTS)


@every_body
@pytest.mark.parametrize("form", ["safetensors", "bin", "h5", "msgpack"])
def test_formats(bodies, tmp_path, form, body):
    convert(bodies[body], tmp_path / "converted", form, max_shard_size="40KB")
    found = XLMRobertaVectorizer(tmp_path / "converted", dtype="float32").transform(contract.TEXTS)
    expected = XLMRobertaVectorizer(bodies[body], dtype="float32").transform(contract.TEXTS)
    np.testing.assert_array_equal(found, expected)


def test_without_a_pooler(bodies, make_any, tmp_path):
    """A first fit of a classifier starts one from scratch, as the reference does; without a fit it must be there."""
    tensors = {name: t for name, t in read_model(bodies["bert"]).tensors().items() if ".pooler." not in name}
    folder = rewritten(bodies["bert"], tmp_path / "poolerless", tensors)
    with pytest.warns(UserWarning, match=r"has no pooler \(bert.pooler\), which the head reads: a new one starts from"):
        fitted = make_any(XLMRobertaClassifier).set_params(checkpoint=folder).fit(contract.TEXTS, contract.Y)
    assert fitted.module_.bert.pooler.dense.weight.std() > 0.1  # initializer_range of the config is 0.2
    assert not fitted.module_.bert.pooler.dense.weight.is_meta
    with pytest.raises(CheckpointError, match=r"2 tensors missing \(bert.pooler.dense.bias"):
        XLMRobertaVectorizer(folder, pooling="pooler").transform(contract.TEXTS)
    with pytest.raises(ValueError, match="DistilBERT has no pooler: choose another pooling"):
        XLMRobertaVectorizer(bodies["distilbert"], pooling="pooler").transform(contract.TEXTS)


@pytest.mark.parametrize("body", ["bert", "distilbert"])
def test_a_head_of_its_own_is_replaced(bodies, make_any, tmp_path, body):
    fitted = make_any(XLMRobertaClassifier).set_params(checkpoint=bodies[body]).fit(contract.TEXTS, contract.Y)
    save(fitted, tmp_path / "saved")
    again = XLMRobertaClassifier.from_checkpoint(tmp_path / "saved", dtype="float32")
    np.testing.assert_allclose(again.predict_proba(contract.TEXTS), fitted.predict_proba(contract.TEXTS), atol=1e-6)
    parts = {"bert": r"\(classifier\)", "distilbert": r"\(pre_classifier, classifier\)"}[body]
    with pytest.warns(UserWarning, match=rf"has a head of its own {parts}, and fit trains a new one"):
        make_any(XLMRobertaClassifier).set_params(checkpoint=tmp_path / "saved").fit(contract.TEXTS, [0, 1, 2] * 2)
    with pytest.raises(CheckpointError, match=r"has no head for whole texts: use XLMRobertaMaskedLM\.from"):
        XLMRobertaClassifier.from_checkpoint(bodies[body])


# Training ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", ["bert", "distilbert"])
def test_frozen_layers_checkpointing_and_pickles(bodies, make_any, body):
    """The lower layer and the embeddings stay, dropout is repeated, and a pickle borrows what did not change."""
    options = {"n_frozen_layers": 1, "layer_decay": 0.9}
    made = [
        make_any(XLMRobertaClassifier, gradient_checkpointing=checkpointing, **options)
        .set_params(checkpoint=bodies[body])
        .fit(contract.TEXTS, contract.Y)
        for checkpointing in (False, True)
    ]
    assert not differing(*map(weights_of, made))
    before, after = read_model(bodies[body]).tensors(), weights_of(made[0])
    prefix = PREFIX[body]
    layers = f"{prefix}.{'transformer' if body == 'distilbert' else 'encoder'}.layer"
    changed = {name for name in after if name in before and not torch.equal(after[name], before[name])}
    assert changed and all(name.startswith((f"{layers}.1.", f"{prefix}.pooler.")) for name in changed)
    stored = made[0].__getstate__()["module_"]
    assert isinstance(stored, StoredModule) and f"{prefix}.embeddings.word_embeddings.weight" in stored.borrowed
    assert not any(name.startswith(f"{layers}.0.") for name in stored.learnt)


@pytest.mark.parametrize("body", ["bert", "distilbert"])
def test_only_used_words_learn(bodies, make_any, body):
    """As with the whole vocabulary; rows that no text uses keep their values."""
    words = f"{PREFIX[body]}.embeddings.word_embeddings.weight"
    before = read_model(bodies[body]).tensors()[words]
    made = make_any(XLMRobertaClassifier, weight_decay=0.0).set_params(checkpoint=bodies[body])
    after = weights_of(made.fit(contract.TEXTS, contract.Y))[words]
    used = np.unique(made.tokenizer_.encode_batch(contract.TEXTS).ids)
    changed = (after != before).any(1).nonzero().flatten().tolist()
    assert set(changed) == set(used.tolist()) - {made.config_.pad_token_id}


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("body", ["bert", "distilbert"])
def test_lora_adapters(bodies, reference, tmp_path, body):
    peft, transformers = pytest.importorskip("peft"), pytest.importorskip("transformers")
    save(XLMRobertaClassifier(bodies[body], max_epochs=1).fit(contract.TEXTS, contract.Y), tmp_path / "base")
    base = reference("AutoModelForSequenceClassification", tmp_path / "base")
    modules = {"bert": ["query", "dense"], "distilbert": ["q_lin", "lin2"]}[body]
    settings = peft.LoraConfig("SEQ_CLS", r=4, target_modules=modules, init_lora_weights=False)
    adapted = peft.get_peft_model(base, settings).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    ours = XLMRobertaClassifier.from_checkpoint(tmp_path / "adapter", dtype="float32")
    rows = transformers.AutoTokenizer.from_pretrained(bodies[body])(contract.TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        expected = adapted(**rows).logits.softmax(1)
    np.testing.assert_allclose(ours.predict_proba(contract.TEXTS), expected, atol=1e-5)


# Sentence encoders ------------------------------------------------------------------------------------------------------

LAYOUTS = {
    "paraphrase-multilingual-MiniLM-L12-v2": ("minilm", "mean", [], 24),
    "multilingual-e5-small": ("minilm", "mean", [("Normalize", {})], 30),
    "LaBSE": ("bert", "cls", [("Dense", dense()), ("Normalize", {})], 40),
    "distiluse-base-multilingual-cased-v2": ("distilbert", "mean", [("Dense", dense(n_out=16))], 24),
}


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize("name", LAYOUTS)
def test_sentence_encoders(bodies, tmp_path, name):
    theirs = pytest.importorskip("sentence_transformers")
    body, pooling, layers, limit = LAYOUTS[name]
    settings = {"max_seq_length": limit, "do_lower_case": False}
    write(tmp_path / "theirs", bodies[body], flags(pooling), layers, settings)
    texts = [*contract.TEXTS, *sentences(20), " ".join(contract.TEXTS * 3)]
    vectorizer = XLMRobertaVectorizer(tmp_path / "theirs", dtype="float32").fit(texts)
    assert vectorizer.max_length_ == limit
    with pytest.warns(UserWarning, match="longer than"):
        found = vectorizer.transform(texts)
    save(vectorizer, tmp_path / "ours")
    for folder in ("theirs", "ours"):
        expected = theirs.SentenceTransformer(str(tmp_path / folder), device="cpu").encode(texts)
        np.testing.assert_allclose(found, expected, atol=1e-5, err_msg=folder)
    with pytest.warns(UserWarning, match="longer than"):
        np.testing.assert_array_equal(load(tmp_path / "ours").transform(texts), found)


@pytest.mark.filterwarnings("ignore")  # theirs
@every_body
def test_fill_mask_equals_the_pipeline(bodies, body):
    transformers = pytest.importorskip("transformers")
    pipeline = transformers.pipeline("fill-mask", model=str(bodies[body]), tokenizer=str(bodies[body]), device="cpu")
    text = f"the {pipeline.tokenizer.mask_token} bird sings"
    found = XLMRobertaMaskedLM.from_checkpoint(bodies[body], dtype="float32").fill_mask([text], top_k=7)[0][0]
    expected = [f for f in pipeline(text, top_k=20) if f["token"] in {f["token"] for f in found}]
    assert [f["token"] for f in found] == [f["token"] for f in expected]
    np.testing.assert_allclose([f["score"] for f in found], [f["score"] for f in expected], atol=1e-5)
    is_plain = [f["token_str"].removeprefix("##").isalpha() for f in found]  # their decoding moves punctuation
    assert any(is_plain)
    for ours, theirs, plain in zip(found, expected, is_plain, strict=True):
        assert ours["sequence"] == theirs["sequence"] or not plain


def test_a_decoder_is_for_the_reference(bodies, tmp_path):
    """The causal estimator, which is for decoders of XLM-R, reads none of BERT."""
    folder = shutil.copytree(bodies["bert"], tmp_path / "decoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"is_decoder": True}))
    with pytest.raises(CheckpointError, match=r"is_decoder is true.* reads the first token.*: use transformers$"):
        XLMRobertaClassifier(folder).fit(["a", "b"], [0, 1])
    with pytest.raises(CheckpointError, match="XLMRobertaCausalLM can't read: use one of"):
        XLMRobertaCausalLM(folder).fit(["a"])


def test_fillings_of_wordpieces_start_a_word_or_go_on_with_one(bodies):
    lm = XLMRobertaMaskedLM.from_checkpoint(bodies["bert"], dtype="float32")
    cases = {
        "the [MASK] sings": ("the river sings", "thes sings"),
        "[MASK] sings": ("river sings", "##s sings"),
        "The![MASK]": ("The!river", "The!s"),
        "The[MASK], [MASK]": ("The river, [MASK]", "Thes, [MASK]"),
    }
    for text, (word, end) in cases.items():
        sequences = {f["token_str"]: f["sequence"] for f in lm.fill_mask([text], top_k=1000)[0][0]}
        assert sequences["river"] == word and sequences["##s"] == end
        (ranked,) = lm.fill_mask([text], targets=["river", "rivers river"])[0][:1]
        assert {f["sequence"] for f in ranked} == {word, word.replace("river", "rivers river")}


@pytest.mark.parametrize("body", ["bert", "distilbert"])
def test_layers_are_the_hidden_states_of_the_reference(bodies, reference, body):
    vectorizer = XLMRobertaVectorizer(bodies[body], layers=[0, 1, -1], pooling="cls", dtype="float32")
    with torch.no_grad():
        rows = padded(vectorizer.fit(contract.TEXTS).tokenizer_, contract.TEXTS)
        states = reference("AutoModel", bodies[body])(**rows, output_hidden_states=True).hidden_states
    expected = torch.cat([x[:, 0] for x in states], 1)
    np.testing.assert_allclose(vectorizer.transform(contract.TEXTS), expected, atol=1e-5)
