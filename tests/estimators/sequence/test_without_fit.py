"""Vectorizers transform without fit, like scikit-learn's HashingVectorizer: the checkpoint is opened at first use."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

import skxlmr
from skxlmr import CheckpointError, XLMRobertaVectorizer, XLMVectorizer
from tests.tiny import write_checkpoint

TEXTS = ["ein Haus", "the old house", "река", "ein Haus"]


@pytest.fixture
def opened(monkeypatch):
    """How often a checkpoint is opened."""
    calls, load = [], XLMRobertaVectorizer._load_module
    monkeypatch.setattr(XLMRobertaVectorizer, "_load_module", lambda *args: calls.append(args) or load(*args))
    return calls


def test_features_are_those_after_fit(tiny_checkpoint, opened):
    fitted = XLMRobertaVectorizer(tiny_checkpoint).fit(TEXTS)
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint)
    np.testing.assert_array_equal(vectorizer.transform(TEXTS), fitted.transform(TEXTS))
    np.testing.assert_array_equal(vectorizer.transform(TEXTS[:2]), fitted.transform(TEXTS[:2]))
    assert len(opened) == 2  # once each
    assert not hasattr(vectorizer, "n_features_in_") and not hasattr(vectorizer, "n_truncated_")
    assert not get_tags(vectorizer).requires_fit


def test_texts_and_pairs_are_both_read(tiny_checkpoint):
    """There was no fit to compare them with."""
    vectorizer, pairs = XLMRobertaVectorizer(tiny_checkpoint, pooling="cls"), list(zip(TEXTS, TEXTS[::-1], strict=True))
    assert vectorizer.transform(TEXTS).shape == vectorizer.transform(pairs).shape == (4, 32)
    np.testing.assert_array_equal(
        vectorizer.transform(pairs), XLMRobertaVectorizer(tiny_checkpoint, pooling="cls").fit(pairs).transform(pairs)
    )


@pytest.mark.parametrize("change", ["checkpoint", "pooling", "dtype"])
def test_other_parameters_open_it_again(tiny_checkpoint, tiny_tokenizer, tmp_path, opened, change):
    other = write_checkpoint(tmp_path / "other", tiny_tokenizer, seed=1)
    params = {"checkpoint": {"checkpoint": other}, "pooling": {"pooling": "pooler"}, "dtype": {"dtype": "bfloat16"}}[
        change
    ]
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint, dtype="float32")
    before = vectorizer.transform(TEXTS)
    found = vectorizer.set_params(**params).transform(TEXTS)
    assert len(opened) == 2 and not np.array_equal(found, before)
    expected = XLMRobertaVectorizer(**{"checkpoint": tiny_checkpoint, "dtype": "float32", **params}).fit(TEXTS)
    np.testing.assert_array_equal(found, expected.transform(TEXTS))
    vectorizer.fit(TEXTS).set_params(**params)
    vectorizer.transform(TEXTS)
    assert len(opened) == 4  # after fit the parameters of the fit stay


def test_nothing_is_opened_before_it_is_needed(opened):
    vectorizer = XLMRobertaVectorizer("org/name")  # which would be looked for on the hub
    repr(vectorizer), vectorizer._repr_html_(), pickle.dumps(vectorizer), copy.deepcopy(vectorizer)
    with pytest.raises(NotFittedError):
        vectorizer.get_feature_names_out()
    with pytest.raises(NotFittedError):
        skxlmr.save(vectorizer, "folder")
    assert not opened


def test_a_checkpoint_that_cannot_be_opened_leaves_nothing(tiny_checkpoint, tmp_path):
    vectorizer = XLMRobertaVectorizer(tmp_path / "none")
    with pytest.raises(CheckpointError, match="no such folder"):
        vectorizer.transform(TEXTS)
    assert vars(vectorizer) == XLMRobertaVectorizer(tmp_path / "none").get_params()
    assert vectorizer.set_params(checkpoint=tiny_checkpoint).transform(TEXTS).shape == (4, 32)
    with pytest.raises(ValueError, match="layers must name layers"):
        XLMRobertaVectorizer(tiny_checkpoint, layers=7).transform(TEXTS)
    with pytest.raises(ValueError, match="The 'pooling' parameter"):
        XLMRobertaVectorizer(tiny_checkpoint, pooling="sum").transform(TEXTS)


def test_copies_files_and_names(tiny_checkpoint, tmp_path):
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint, layers=[1, 2])
    frame = vectorizer.set_output(transform="pandas").transform(TEXTS)
    assert list(frame.columns[:2]) == ["xlmrobertavectorizer_0", "xlmrobertavectorizer_1"] and frame.shape == (4, 64)
    skxlmr.save(vectorizer, tmp_path / "saved")
    for other in (pickle.loads(pickle.dumps(vectorizer)), copy.deepcopy(vectorizer), skxlmr.load(tmp_path / "saved")):
        np.testing.assert_array_equal(np.asarray(other.transform(TEXTS)), frame.to_numpy())


def test_in_a_pipeline(tiny_checkpoint):
    pipeline = make_pipeline(XLMRobertaVectorizer(tiny_checkpoint), LogisticRegression()).fit(TEXTS, [0, 1, 1, 0])
    assert pipeline.predict(TEXTS).shape == (4,)


def test_the_original_xlm(tiny_xlm):
    fitted = XLMVectorizer(tiny_xlm, lang="de").fit(TEXTS)
    np.testing.assert_array_equal(XLMVectorizer(tiny_xlm, lang="de").transform(TEXTS), fitted.transform(TEXTS))
