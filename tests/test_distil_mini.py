"""The checkpoints that examples/distil_mini.py writes."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from sklearn.preprocessing import normalize

from skxlmr import XLMRobertaVectorizer
from skxlmr.checkpoints import resolve_checkpoint
from skxlmr.datasets import load_reviews
from tests.contract import TEXTS

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def weights(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("distil_mini_weights")


def vectors(folder, texts=TEXTS, **params):
    vectorizer = XLMRobertaVectorizer(str(folder), device="cpu", dtype="float32", memory=None, **params)
    return vectorizer.fit_transform(texts).astype(float)


def cosines(vectors):
    return normalize(vectors) @ normalize(vectors).T


def test_further_layers_change_next_to_nothing_at_first(weights, tmp_path):
    source = Path(resolve_checkpoint("skxlmr-mini"))
    weights.deepen(source, tmp_path, 8)
    before, after = vectors(source), vectors(tmp_path / "deeper")
    assert (normalize(before) * normalize(after)).sum(1).min() > 0.99 and not np.array_equal(before, after)


def test_the_mean_of_a_checkpoint_and_itself(weights, tmp_path):
    source = Path(resolve_checkpoint("skxlmr-mini"))
    weights.average([source, source], [0.25, 0.75], tmp_path)
    np.testing.assert_array_equal(vectors(tmp_path / "average"), vectors(source))


def test_whitened_means_beside_what_the_layers_made(weights, tmp_path):
    source, texts = Path(resolve_checkpoint("skxlmr-mini")), load_reviews().frame["review"].tolist()
    weights.whiten(source, texts, tmp_path, power=0.75)
    before, after = vectors(source, texts), vectors(tmp_path / "whitened", texts)
    means = vectors(source, texts, pooling="mean")
    left, spread, right = np.linalg.svd(means - means.mean(0), full_matrices=False)
    whitened = left * spread**0.25 @ right
    parts = [part / np.sqrt((part**2).sum(1).mean()) for part in (before, whitened)]
    expected, found = cosines(np.hstack(parts)), cosines(after)
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)  # 192 of 384 directions are kept
    assert np.abs(found - expected).mean() < 0.008
    assert np.abs(cosines(before) - expected).max() > 0.2
