"""The folder of a saved estimator is trimmed to one that `load` opens."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxlmr import (
    CheckpointError,
    XLMMaskedLM,
    XLMRobertaCausalLM,
    XLMRobertaMaskedLM,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
    export_onnx,
    load,
    save,
    trim_vocabulary,
)
from skxlmr.text import load_tokenizer
from tests import lora
from tests.contract import answers, assert_same, each, inputs, is_original_xlm
from tests.trimming.texts import TEXTS

LANGUAGE_MODELS = (XLMRobertaMaskedLM, XLMMaskedLM, XLMRobertaCausalLM)


def strings_in(value):
    """All texts of rows, however nested."""
    if isinstance(value, str):
        return [value]
    values = value.values() if isinstance(value, dict) else value
    return [text for each in values for text in strings_in(each)]


@each
def test_every_estimator_gives_the_same_answers(estimator, fitted, tmp_path):
    X = inputs(estimator)[0]
    texts = sorted(set(strings_in(X)))
    if estimator.__name__ == "XLMRobertaTokenClassifier":  # reads words one by one
        texts += [word for text in texts for word in text.split()]
    save(fitted(estimator), tmp_path / "whole")
    report = trim_vocabulary(
        tmp_path / "whole", {"en": texts} if is_original_xlm(estimator) else texts, tmp_path / "small"
    )
    assert report.n_rows_after < report.n_rows_before
    before, after = load(tmp_path / "whole"), load(tmp_path / "small")
    assert type(after) is estimator and after.get_params() == before.get_params()
    assert after.tokenizer_.vocab_size == len(report.old_ids) == after.config_.vocab_size
    assert after.tokenizer_.model_max_length == before.tokenizer_.model_max_length
    if issubclass(estimator, LANGUAGE_MODELS):  # their scores are probabilities among all tokens
        if hasattr(estimator, "transform"):
            assert np.array_equal(after.transform(X), before.transform(X))
        return
    assert_same(answers(after, X), answers(before, X))


def test_the_folder_is_a_saved_one(fitted_vectorizer, tmp_path):
    save(fitted_vectorizer, tmp_path / "whole")
    trim_vocabulary(tmp_path / "whole", TEXTS, tmp_path / "small")
    assert sorted(path.name for path in (tmp_path / "small").iterdir()) == sorted(
        path.name for path in (tmp_path / "whole").iterdir()
    )
    whole, small = (json.loads((tmp_path / name / "skxlmr.json").read_text()) for name in ("whole", "small"))
    assert small["files"].keys() == whole["files"].keys() and small["files"] != whole["files"]
    assert {key: small[key] for key in small.keys() - {"files", "sha256"}} == {
        key: whole[key] for key in whole.keys() - {"files", "sha256"}
    }
    twice = trim_vocabulary(tmp_path / "small", TEXTS[:5], tmp_path / "smaller")
    assert np.array_equal(load(twice.folder).transform(TEXTS[:5]), fitted_vectorizer.transform(TEXTS[:5]))
    (tmp_path / "small" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is not what save wrote"):
        trim_vocabulary(tmp_path / "small", TEXTS, tmp_path / "again")


@pytest.fixture
def fitted_vectorizer(tiny_checkpoint):
    return XLMRobertaVectorizer(tiny_checkpoint, prompt="red: ").fit(TEXTS)


def test_own_texts_stay(fitted_vectorizer, nli_checkpoint, tmp_path):
    """The prompt, and the hypotheses about labels."""
    zero_shot = XLMRobertaZeroShotClassifier(nli_checkpoint, candidate_labels=["πουλί", "дети"]).fit()
    for name, estimator, own in (("a", fitted_vectorizer, ["red: "]), ("b", zero_shot, zero_shot._hypotheses())):
        save(estimator, tmp_path / name)
        report = trim_vocabulary(tmp_path / name, ["das Haus"], tmp_path / f"small {name}", keep="used")
        used = load_tokenizer(tmp_path / name).encode_batch(own).ids
        assert set(used.tolist()) <= set(report.old_ids.tolist())
        assert report.n_rows_after < 60
    expected, found = (load(tmp_path / name).predict_proba(["das Haus"]) for name in ("b", "small b"))
    assert np.array_equal(found, expected)


def test_half_precision_stays(fitted_vectorizer, tmp_path):
    save(fitted_vectorizer, tmp_path / "whole", dtype="bfloat16")
    report = trim_vocabulary(tmp_path / "whole", TEXTS, tmp_path / "small")
    assert json.loads((tmp_path / "small" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    expected, found = (load(tmp_path / name).transform(TEXTS) for name in ("whole", "small"))
    assert np.array_equal(found, expected) and report.n_bytes_after < report.n_bytes_before


def test_what_is_refused(fitted_vectorizer, tmp_path):
    save(make_pipeline(fitted_vectorizer, FunctionTransformer()).fit(TEXTS), tmp_path / "pipeline")
    with pytest.raises(
        CheckpointError, match="pipeline of scikit-learn: trim the folder of its estimator, such as estimators/"
    ):
        trim_vocabulary(tmp_path / "pipeline", TEXTS, tmp_path / "small")
    save(fitted_vectorizer, tmp_path / "whole")
    save(fitted_vectorizer, tmp_path / "edited")
    (tmp_path / "edited" / "README.md").write_text("My notes.")
    with pytest.raises(CheckpointError, match="was not written by save, or edited since"):
        trim_vocabulary(tmp_path / "whole", TEXTS, tmp_path / "edited")
    assert (tmp_path / "edited" / "README.md").read_text() == "My notes."


def test_a_folder_of_an_earlier_version(tmp_path):
    folder = Path(__file__).parents[1] / "fixtures" / "format_1" / "classifier"
    with pytest.raises(CheckpointError, match="load it, save it again, and trim what was saved"):
        trim_vocabulary(folder, TEXTS, tmp_path / "small")


def test_onnx_is_made_again(fitted_vectorizer, tmp_path):
    """A graph has the whole vocabulary: it is not copied, and a folder without other weights is refused."""
    pytest.importorskip("onnx", reason="needs the extra onnx")
    save(fitted_vectorizer, tmp_path / "both", onnx=True)
    assert (tmp_path / "both" / "onnx").is_dir()
    report = trim_vocabulary(tmp_path / "both", TEXTS, tmp_path / "small")
    assert not (tmp_path / "small" / "onnx").exists()
    assert np.array_equal(load(report.folder).transform(TEXTS), fitted_vectorizer.transform(TEXTS))
    export_onnx(fitted_vectorizer, tmp_path / "alone")
    with pytest.raises(CheckpointError, match="holds an ONNX model and no other weights"):
        trim_vocabulary(tmp_path / "alone", TEXTS, tmp_path / "small")


def test_a_saved_adapter_becomes_a_whole_model(tiny_checkpoint, tmp_path):
    classifier = lora.fitted("XLMRobertaClassifier", str(tiny_checkpoint), max_epochs=1)
    source = lora.save(classifier, tmp_path / "adapter")
    trim_vocabulary(source, lora.TEXTS, tmp_path / "small")
    found = load(tmp_path / "small")
    np.testing.assert_array_equal(found.predict_proba(lora.TEXTS), classifier.predict_proba(lora.TEXTS))
    names = {path.name for path in (tmp_path / "small").iterdir()}
    assert "model.safetensors" in names and not names & {
        "adapter_config.json",
        "README.md",
    }  # which said how peft opens it
    assert "adapter" not in json.loads((tmp_path / "small" / "skxlmr.json").read_text())
