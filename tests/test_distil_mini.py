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


def vectors(folder):
    return XLMRobertaVectorizer(str(folder), device="cpu", dtype="float32", memory=None).fit_transform(TEXTS)


def test_further_layers_change_next_to_nothing_at_first(weights, tmp_path):
    source = Path(resolve_checkpoint("skxlmr-mini"))
    weights.deepen(source, tmp_path, 8)
    before, after = vectors(source), vectors(tmp_path / "deeper")
    cosines = (before * after).sum(1) / np.linalg.norm(before, axis=1) / np.linalg.norm(after, axis=1)
    assert cosines.min() > 0.99 and not np.array_equal(before, after)


def test_the_mean_of_a_checkpoint_and_itself(weights, tmp_path):
    source = Path(resolve_checkpoint("skxlmr-mini"))
    weights.average([source, source], [0.25, 0.75], tmp_path)
    np.testing.assert_array_equal(vectors(tmp_path / "average"), vectors(source))


def test_whitened_means_beside_what_the_layers_made(weights, tmp_path):
    source, texts = Path(resolve_checkpoint("skxlmr-mini")), load_reviews().frame["review"].tolist()
    weights.whiten(source, texts, tmp_path, power=0.75)
    plain = {"device": "cpu", "dtype": "float32", "memory": None}
    means = XLMRobertaVectorizer(str(source), pooling="mean", **plain).fit_transform(texts).astype(float)
    before, after = (
        XLMRobertaVectorizer(str(f), **plain).fit_transform(texts) for f in (source, tmp_path / "whitened")
    )
    centred = means - means.mean(0)
    left, spread, right = np.linalg.svd(centred, full_matrices=False)
    whitened = left * spread**0.25 @ right
    parts = [part / np.sqrt((part**2).sum(1).mean()) for part in (before, whitened)]
    expected, found = (normalize(vectors) @ normalize(vectors).T for vectors in (np.hstack(parts), after))
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05)  # 192 of 384 directions are kept
    assert np.abs(found - expected).mean() < 0.008
    assert np.abs(normalize(before) @ normalize(before).T - expected).max() > 0.2
