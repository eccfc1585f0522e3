"""What other libraries make of a saved folder."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from skxlmr import XLMRobertaMaskedLM, XLMRobertaVectorizer, load, save
from skxlmr.checkpoints import read_model
from tests.persistence.conftest import FIT, TEXTS, names_in

LONG = [*TEXTS, " ".join(TEXTS * 5)]  # the last one is longer than 20 tokens
FILES = {"modules.json", "sentence_bert_config.json", "1_Pooling/config.json"}
CUT = {"max_length": 20, "dtype": "float32"}


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize(
    "params",
    [
        {"pooling": "mean"},
        {"pooling": "cls"},
        {"pooling": "max", "layers": [2]},
        {"pooling": "mean", "layers": -1, "normalize": True},
    ],
    ids=str,
)
def test_sentence_transformers_give_the_same_features(tiny_checkpoint, tmp_path, params):
    theirs = pytest.importorskip("sentence_transformers")
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint, **CUT, **params).fit(TEXTS)
    save(vectorizer, tmp_path / "saved")
    assert set(names_in(tmp_path / "saved")) >= FILES
    found = theirs.SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(LONG)
    np.testing.assert_allclose(found, vectorizer.transform(LONG), atol=1e-5)


@pytest.mark.filterwarnings("ignore")
def test_sentence_transformers_open_a_masked_language_model(tiny_checkpoint, tmp_path):
    theirs = pytest.importorskip("sentence_transformers")
    lm = XLMRobertaMaskedLM(tiny_checkpoint, pooling="max", max_length=20, **FIT).fit(TEXTS)
    save(lm, tmp_path / "saved")
    found = theirs.SentenceTransformer(str(tmp_path / "saved"), device="cpu").encode(LONG)
    np.testing.assert_allclose(found, lm.transform(LONG), atol=1e-5)


@pytest.mark.parametrize(
    "params",
    [
        {"pooling": "pooler"},
        {"layers": [0, -1]},
        {"layers": 1},
        {"long_text": "window", "stride": 2},
    ],
    ids=str,
)
def test_what_sentence_transformers_cannot_do_is_not_promised(tiny_checkpoint, tmp_path, params):
    save(XLMRobertaVectorizer(tiny_checkpoint, **params).fit(TEXTS), tmp_path / "saved")
    assert not set(names_in(tmp_path / "saved")) & FILES
    assert "sentence" not in (tmp_path / "saved" / "README.md").read_text()


def test_pairs_are_not_promised_either(tiny_checkpoint, tmp_path):
    save(XLMRobertaVectorizer(tiny_checkpoint).fit(list(zip(TEXTS, TEXTS, strict=True))), tmp_path / "saved")
    assert not set(names_in(tmp_path / "saved")) & FILES


def test_a_folder_may_be_replaced_by_one_with_other_files(tiny_checkpoint, tmp_path, fitted_classifier):
    folder = tmp_path / "saved"
    save(XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS), folder)
    save(fitted_classifier, folder)
    assert not set(names_in(folder)) & FILES
    assert not (folder / "1_Pooling").exists()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_transformers_open_the_encoder(tiny_checkpoint, tmp_path, dtype):
    transformers = pytest.importorskip("transformers")
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint, pooling="cls", dtype="float32").fit(TEXTS)
    save(vectorizer, tmp_path / "saved", dtype=dtype)
    model, report = transformers.AutoModel.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert model.dtype == (dtype or torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
    with torch.no_grad():
        states = model.float().eval()(**tokenizer(TEXTS, padding=True, return_tensors="pt")).last_hidden_state
    expected = vectorizer.transform(TEXTS)
    np.testing.assert_allclose(states[:, 0].numpy(), expected, atol=1e-5 if dtype is None else 0.1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_may_be_stored_in_half_the_size(saved, fitted_classifier, tmp_path, dtype):
    save(fitted_classifier, tmp_path / "half", dtype=dtype)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (saved, tmp_path / "half")]
    assert sizes[1] < 0.6 * sizes[0]
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == str(dtype).rpartition(".")[2]


def test_the_pooler_of_the_checkpoint_is_kept(tiny_checkpoint, tmp_path):
    """The features do without it; other tools would make a random one."""
    wanted = read_model(tiny_checkpoint).tensors()
    folder, again = tmp_path / "saved", tmp_path / "again"
    save(XLMRobertaVectorizer(tiny_checkpoint, dtype="float32").fit(TEXTS), folder)
    loaded = load(folder)
    assert loaded.module_.backbone.pooler is None
    save(loaded, again)
    for found in (read_model(folder).tensors(), read_model(again).tensors()):
        for name in ("roberta.pooler.dense.weight", "roberta.pooler.dense.bias"):
            assert torch.equal(found[name], wanted[name])
    save(loaded, tmp_path / "half", dtype="bfloat16")
    assert json.loads((tmp_path / "half" / "config.json").read_text())["torch_dtype"] == "bfloat16"


@pytest.mark.parametrize(("max_length", "expected"), [(None, 64), (20, 20)])
def test_other_tools_cut_where_the_estimator_does(tiny_checkpoint, tmp_path, max_length, expected):
    """And never after more tokens than the model has positions for."""
    checkpoint = shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    file = checkpoint / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_max_length": 512}))
    save(XLMRobertaVectorizer(checkpoint, max_length=max_length).fit(TEXTS), tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["model_max_length"] == expected
    loaded = load(tmp_path / "saved").set_params(max_length=40)
    save(loaded, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["model_max_length"] == 40


@pytest.mark.filterwarnings("ignore")  # theirs
def test_pipelines_of_transformers_cut_long_texts(classifier, tmp_path):
    transformers = pytest.importorskip("transformers")
    classifier.tokenizer_.model_max_length = 512  # as in many checkpoints; the model has 64 positions
    save(classifier, tmp_path / "saved")
    long = " ".join(TEXTS * 40)
    (found,) = transformers.pipeline("text-classification", str(tmp_path / "saved"), device="cpu")(
        [long], truncation=True
    )
    assert found["score"] == pytest.approx(classifier.predict_proba([long]).max(), abs=1e-4)


@pytest.mark.filterwarnings("ignore")  # theirs
def test_the_bias_of_a_language_model_has_both_of_its_names(tiny_checkpoint, tmp_path):
    """Some versions of transformers read the one, some the other."""
    transformers = pytest.importorskip("transformers")
    lm = XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint, dtype="float32")
    save(lm, tmp_path / "saved")
    bias = lm.module_.state_dict()["lm_head.bias"]
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    assert bias.abs().sum() > 0 and torch.equal(stored["lm_head.bias"], bias)
    assert torch.equal(stored["lm_head.decoder.bias"], bias)
    model, report = transformers.AutoModelForMaskedLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(model.lm_head.bias, bias) and torch.equal(model.lm_head.decoder.bias, bias)
    assert load(tmp_path / "saved").fill_mask(["a <mask>"]) == lm.fill_mask(["a <mask>"])
