"""Outputs that are kept: each row is encoded once, and nothing that matters is left out of the key."""


import pickle
from threading import Thread

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone

import skxlmr
from skxlmr import Cache, XLMRobertaVectorizer, XLMVectorizer, cache_info, clear_cache
from skxlmr.inference import Engine

TEXTS = ["Good morning.", "Guten Morgen.", "Bonne nuit, mes amis !", "Good morning.", "नमस्ते दुनिया"]
N_DISTINCT = 4


@pytest.fixture(autouse=True)
def _cache(with_cache):
    """All tests here are with the cache."""


@pytest.fixture
def computed(monkeypatch):
    """The number of rows of each call that computes."""
    counts = []
    run = Engine._run

    def counting(self, encoded, *rest):
        counts.append(len(encoded))
        return run(self, encoded, *rest)

    monkeypatch.setattr(Engine, "_run", counting)
    return counts


def vectorizer(**params):
    return XLMRobertaVectorizer(**{"checkpoint": "skxlmr-mini", "device": "cpu"} | params).fit(TEXTS)


def test_each_text_is_encoded_once(computed):
    first = vectorizer().transform(TEXTS)
    again = vectorizer().transform(TEXTS[::-1])
    assert computed == [N_DISTINCT]
    assert np.array_equal(first, again[::-1])
    assert np.array_equal(first, vectorizer(memory=None).transform(TEXTS))


def test_only_new_texts_are_computed(computed):
    one = vectorizer()
    before = one.transform(TEXTS[:2])
    together = one.transform([*TEXTS, "Zeile"])
    assert computed == [2, N_DISTINCT + 1 - 2]
    assert np.array_equal(together[:2], before)
    np.testing.assert_allclose(together, vectorizer(memory=None).transform([*TEXTS, "Zeile"]), atol=1e-5)


def test_nothing_is_kept_without_memory(computed):
    one = vectorizer(memory=None)
    one.transform(TEXTS), one.transform(TEXTS)
    assert computed == [5, 5] and cache_info().entries == 0


LONG = ["word " * 60 + "end", "short", "query: short"]


@pytest.mark.filterwarnings("ignore::skxlmr.TruncationWarning")
@pytest.mark.parametrize(
    "params",
    [
        {"pooling": "cls"},
        {"pooling": ["mean", "cls"]},
        {"layers": 0},
        {"layers": [0, 1]},
        {"prompt": "query: "},
        {"max_length": 16},
        {"max_length": 16, "long_text": "window"},
        {"dtype": "bfloat16"},
    ],
    ids=str,
)
def test_each_part_of_the_key(computed, params):
    """Whatever is changed, what is returned is what would have been computed."""
    vectorizer(max_length=32).transform(LONG)
    n_before = sum(computed)
    changed = vectorizer(**{"max_length": 32} | params).transform(LONG)
    assert sum(computed) > n_before
    expected = vectorizer(**{"max_length": 32, "memory": None} | params).transform(LONG)
    np.testing.assert_allclose(changed, expected, atol=1e-5)
