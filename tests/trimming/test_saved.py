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
    XLMRobertaTokenClassifier,
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


@pytest.mark.parametrize("min_count", [1, 2])
@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta"])
def test_a_tagger_reads_rows_of_words(checkpoints, kind, min_count, tmp_path):
    """Each as if a space preceded it, which RoBERTa writes into its tokens."""
    X = [["the", "bird", "sings"], ["a", "don't", "-", "bird"], ["bird"]]
    tagger = XLMRobertaTokenClassifier(checkpoints(kind), max_epochs=1, random_state=0)
    save(tagger.fit(X, [["A", "B", "A"], ["A", "B", "A", "B"], ["B"]]), tmp_path / "whole")
    report = trim_vocabulary(tmp_path / "whole", X, tmp_path / "small", keep="used", min_count=min_count)
    small = load(report.folder)
    old, new = (each.tokenizer_.encode_words([[word] for row in X for word in row]) for each in (tagger, small))
    same = [report.old_ids[new.row(i)].tolist() == old.row(i).tolist() for i in range(8)]
    coverage = report.coverage["all texts"]
    assert coverage.n_texts == 8
    if min_count == 1:
        assert coverage.n_identical == 8 and all(same)
        assert_same(small.predict_proba(X), tagger.predict_proba(X))
    else:
        assert coverage.n_identical <= sum(same) < 8


@pytest.mark.parametrize("kind", ["roberta", "xlm-roberta"])
@pytest.mark.parametrize("source", ["saved", "of another tool"])
def test_a_tagger_cuts_texts_into_words(checkpoints, kind, source, tmp_path):
    """A full stop has no space before it in the text, but as a word of its own it has."""
    X = ["the bird sings.", "(das Haus)", "ein Vogel, läuft"]
    tagger = XLMRobertaTokenClassifier(checkpoints(kind), max_epochs=1, random_state=0)
    save(tagger.fit(X, [[(0, 3, "A")], [(1, 4, "A")], []]), tmp_path / "whole")
    if source != "saved":
        for name in ("skxlmr.json", "README.md"):
            (tmp_path / "whole" / name).unlink()
        tagger = XLMRobertaTokenClassifier.from_checkpoint(tmp_path / "whole")
    report = trim_vocabulary(tmp_path / "whole", X, tmp_path / "small", keep="used")
    small = load(report.folder) if source == "saved" else XLMRobertaTokenClassifier.from_checkpoint(report.folder)
    assert_same(small.predict_proba(X), tagger.predict_proba(X))
    for aggregation in ("word", "none"):
        found, expected = (each.predict_entities(X, aggregation, ignore_labels=()) for each in (small, tagger))
        assert_same(found, expected)
    assert report.coverage["all texts"].identical == 1
    assert report.coverage["all texts"].n_tokens == tagger._encode(tagger._check_X(X, reset=False)).lengths.sum() - 6


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
