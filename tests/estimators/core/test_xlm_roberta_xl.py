"""Every estimator on a checkpoint of XLM-RoBERTa-XL; its folders in transformers and sentence-transformers, and theirs here."""

import json
import shutil

import numpy as np
import pytest
import torch

from skxlmr import (
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaMultipleChoiceClassifier,
    XLMRobertaQuestionAnswerer,
    XLMRobertaTokenClassifier,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
    convert,
    load,
    save,
)
from skxlmr.checkpoints import read_model
from tests import contract
from tests.estimators.conftest import differing, padded, weights_of
from tests.tiny import write_checkpoint

GEOMETRY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
}
N_FURTHER = 7  # the published checkpoints have more word embeddings than their tokenizer has tokens


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, tiny_tokenizer):
    """Of three layers, 32 wide, with both files of the tokenizer, as published ones have."""
    folder = write_checkpoint(
        tmp_path_factory.mktemp("xl") / "checkpoint",
        tiny_tokenizer,
        model_type="xlm-roberta-xl",
        num_hidden_layers=3,
        vocab_size=tiny_tokenizer.vocab_size + N_FURTHER,
    )
    tiny_tokenizer.save_conversion(folder)
    return folder


def logits_of(output):
    """The outputs of a module, ours or the reference's, as one tensor."""
    if isinstance(output, torch.Tensor):
        return output
    return torch.stack([output.start_logits, output.end_logits], 2) if "start_logits" in output else output.logits


@contract.each_that(lambda cls: not contract.is_original_xlm(cls) and cls is not XLMRobertaZeroShotClassifier)
def test_every_estimator_and_the_reference_on_its_folder(checkpoint, reference, make_any, tmp_path, estimator):
    X, y, _ = contract.inputs(estimator)
    fitted = make_any(estimator).set_params(checkpoint=checkpoint).fit(X, y)
    save(fitted, tmp_path / "saved")
    contract.assert_same(contract.answers(load(tmp_path / "saved"), X), contract.answers(fitted, X))

    saved = json.loads((tmp_path / "saved" / "config.json").read_text())
    head = fitted._head
    assert saved["model_type"] == "xlm-roberta-xl" and saved["architectures"] == [f"XLMRobertaXL{head.task}"]
    assert '\nlanguage: ["multilingual"]\n' in (tmp_path / "saved" / "README.md").read_text()
    model = reference(head.auto_class, tmp_path / "saved")
    assert type(model).__name__ == saved["architectures"][0]
    rows = padded(fitted.tokenizer_, contract.TEXTS)
    with torch.no_grad():
        states = reference("AutoModel", tmp_path / "saved")(**rows).last_hidden_state
        assert torch.allclose(fitted.module_.backbone(**rows).last_hidden_state, states, atol=1e-5)
        if head.task != "Model":
            theirs = {name: tensor.view(1, *tensor.shape) for name, tensor in rows.items()}  # one set of choices
            expected = logits_of(model(**(theirs if head.task == "ForMultipleChoice" else rows)))
            found = logits_of(fitted.module_(**rows))
            assert torch.allclose(found, expected.view(found.shape), atol=1e-5)


def test_zero_shot(checkpoint, reference, make_any, tmp_path):
    pairs = list(zip(contract.TEXTS, contract.TEXTS[::-1], strict=True))
    nli = make_any(XLMRobertaClassifier).set_params(checkpoint=checkpoint)
    save(nli.fit(pairs, ["contradiction", "entailment", "neutral"] * 2), tmp_path / "nli")
    zero_shot = XLMRobertaZeroShotClassifier(tmp_path / "nli", candidate_labels=["art", "sport"], dtype="float32").fit()
    texts, hypotheses = contract.TEXTS[:2], ["This example is art.", "This example is sport."]
    rows = padded(zero_shot.tokenizer_, np.repeat(texts, 2).tolist(), hypotheses * 2)
    with torch.no_grad():
        logits = reference("AutoModelForSequenceClassification", tmp_path / "nli")(**rows).logits
    expected = logits[:, 1].view(2, 2).softmax(1).numpy()
    np.testing.assert_allclose(zero_shot.predict_proba(texts), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("estimator", "n_labels"),
    [
        (XLMRobertaClassifier, 3),
        (XLMRobertaTokenClassifier, 3),
        (XLMRobertaQuestionAnswerer, 2),
        (XLMRobertaMultipleChoiceClassifier, 2),
        (XLMRobertaMaskedLM, 2),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)
def test_heads_that_the_reference_saved_in_shards(tmp_path, tiny_tokenizer, estimator, n_labels):
    transformers = pytest.importorskip("transformers")
    config = {**GEOMETRY, "vocab_size": tiny_tokenizer.vocab_size + N_FURTHER, "num_labels": n_labels}
    task = estimator._head.task
    torch.manual_seed(0)
    model = getattr(transformers, f"XLMRobertaXL{task}")(transformers.XLMRobertaXLConfig(**config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    model.save_pretrained(tmp_path, max_shard_size="30KB")
    tiny_tokenizer.save(tmp_path)
    assert (tmp_path / "model.safetensors.index.json").exists()
    opened = estimator.from_checkpoint(tmp_path, dtype="float32")
    rows = padded(tiny_tokenizer, contract.TEXTS)
    theirs = {name: tensor[None] for name, tensor in rows.items()} if task == "ForMultipleChoice" else rows
    with torch.no_grad():
        found, expected = logits_of(opened.module_(**rows)), logits_of(model(**theirs))
    assert torch.allclose(found, expected.view(found.shape), atol=1e-5)


# Files ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("most", [None, "40KB"])
@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_weights_in_one_file_or_shards(checkpoint, reference, tmp_path, form, most, dtype):
    convert(checkpoint, tmp_path / "files", form, dtype=dtype, max_shard_size=most)
    names = {file.name for file in (tmp_path / "files").iterdir()}
    stem = {"safetensors": "model.safetensors", "bin": "pytorch_model.bin"}[form]
    assert (f"{stem}.index.json" in names) == (most is not None) and (stem in names) == (most is None)
    vectorizer = XLMRobertaVectorizer(tmp_path / "files", pooling="cls", dtype="float32").fit(contract.TEXTS)
    model = reference("AutoModel", tmp_path / "files").float()
    with torch.no_grad():
        expected = model(**padded(vectorizer.tokenizer_, contract.TEXTS)).last_hidden_state[:, 0]
    np.testing.assert_allclose(vectorizer.transform(contract.TEXTS), expected, atol=1e-5)


def test_a_published_folder(checkpoint, tmp_path, tiny_tokenizer):
    """With the names of a masked language model, its tied projection and the buffers that old versions saved."""
    tensors = read_model(checkpoint).tensors()
    tensors["lm_head.decoder.weight"] = tensors["roberta.embeddings.word_embeddings.weight"]
    tensors["lm_head.decoder.bias"] = tensors["lm_head.bias"]
    tensors["roberta.embeddings.position_ids"] = torch.arange(66)[None]
    folder = shutil.copytree(checkpoint, tmp_path / "published")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    plain, published = (XLMRobertaMaskedLM.from_checkpoint(f, dtype="float32") for f in (checkpoint, folder))
    assert not differing(weights_of(published), weights_of(plain))
    found = published.fill_mask(["the <mask> sings"], top_k=10_000)[0][0]
    assert sorted(filling["token"] for filling in found) == list(range(tiny_tokenizer.vocab_size))


def test_fill_mask_equals_the_pipeline(checkpoint):
    transformers = pytest.importorskip("transformers")
    pipeline = transformers.pipeline("fill-mask", model=str(checkpoint), tokenizer=str(checkpoint), device="cpu")
    text = "the <mask> bird sings"
    expected = [f for f in pipeline(text, top_k=20) if f["token_str"]][:7]
    found = XLMRobertaMaskedLM.from_checkpoint(checkpoint, dtype="float32").fill_mask([text], top_k=7)[0][0]
    assert [f["token"] for f in found] == [f["token"] for f in expected]
    np.testing.assert_allclose([f["score"] for f in found], [f["score"] for f in expected], atol=1e-5)


# Training -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_frozen_layers", [0, 1, 2, 3])
def test_frozen_layers(checkpoint, make_any, n_frozen_layers):
    """The last layer norm goes with the highest layer."""
    before = read_model(checkpoint).tensors()
    classifier = make_any(XLMRobertaClassifier, n_frozen_layers=n_frozen_layers, gradient_checkpointing=True)
    after = weights_of(classifier.set_params(checkpoint=checkpoint).fit(contract.TEXTS, contract.Y))
    encoder = {name for name in after if name.startswith("roberta.encoder.")}
    frozen = [f"roberta.encoder.layer.{i}." for i in range(n_frozen_layers)]
    still = {name for name in encoder if name.startswith(tuple(frozen))} if frozen else set()
    still |= (
        {name for name in encoder if name.startswith("roberta.encoder.LayerNorm")} if n_frozen_layers == 3 else set()
    )
    changed = {name for name in encoder if not torch.equal(after[name], before[name])}
    assert not changed & still
    # adding a number to all keys of a text changes no attention weight
    assert encoder - changed - still <= {name for name in encoder if name.endswith("key.bias")}
    is_moved = differing({"words": after[WORDS]}, {"words": before[WORDS]})
    assert bool(is_moved) == (n_frozen_layers == 0)


WORDS = "roberta.embeddings.word_embeddings.weight"


def test_bfloat16(checkpoint, make_any):
    exact, half = (
        make_any(XLMRobertaVectorizer, dtype=dtype).set_params(checkpoint=checkpoint).fit_transform(contract.TEXTS)
        for dtype in ("float32", "bfloat16")
    )
    cosine = (exact * half).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(half, axis=1)
    assert cosine.min() > 0.999 and not np.array_equal(exact, half)
