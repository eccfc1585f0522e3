"""Scores of vectors, beside loops over the rows."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from skxlmr.estimators._embedding import scores
from skxlmr.estimators._embedding.scores import rank_correlation, score_of


def cosine(a, b):
    return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def unit(x):
    return x / np.linalg.norm(x)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("at_once", [1024, 7])
def test_nearest_class(rng, monkeypatch, at_once):
    monkeypatch.setattr(scores, "AT_ONCE", at_once)
    codes = np.r_[rng.integers(0, 4, 29), 9]
    vectors = rng.normal(size=(30, 1, 5)).astype("f4") + 1.5 * np.eye(5, dtype="f4")[codes % 5][:, None]
    right = []
    for i in range(29):
        means = {}
        for code in set(codes.tolist()):
            others = [j for j in range(30) if j != i and codes[j] == code]
            means[code] = np.mean([unit(vectors[j, 0]) for j in others], axis=0)
        right.append(max(means, key=lambda code, i=i, means=means: cosine(vectors[i, 0], means[code])) == codes[i])
    found = score_of("classes", vectors, codes, np.ones(30))
    assert 0.3 < found < 0.95 and found == pytest.approx(np.mean(right))
    weights = np.arange(30.0)
    assert score_of("classes", vectors * 3, codes, weights) == pytest.approx(
        score_of("classes", vectors.repeat(np.arange(30), 0), codes.repeat(np.arange(30)), np.ones(435))
    )


def test_a_copy_of_a_text_does_not_help_it():
    vectors = np.array([[1.0, 0], [1, 0], [0, 1], [0.9, 0.1]])[:, None]
    codes = np.array([0, 0, 0, 1])
    assert score_of("classes", vectors, codes, np.ones(4)) == 0
    with pytest.raises(ValueError, match="each class of y has only one text, and the score of a text needs another"):
        score_of("classes", vectors[[0, 3]], codes[[0, 3]], np.ones(2))


@pytest.mark.parametrize("weights", [[1, 1, 1, 0], [1, 1, 0, 0]])
def test_one_class_is_not_told_apart(weights):
    vectors = np.eye(4)[:, None]
    with pytest.raises(ValueError, match=r"y has only one class, .* cv=StratifiedKFold\(\)"):
        score_of("classes", vectors, np.array([0, 0, 0, 1]), np.array(weights))


@pytest.mark.parametrize("at_once", [1024, 7])
@pytest.mark.parametrize("n_columns", [2, 3])
def test_retrieval(rng, monkeypatch, at_once, n_columns):
    monkeypatch.setattr(scores, "AT_ONCE", at_once)
    texts = rng.integers(0, 40, (30, n_columns))
    table = rng.normal(size=(40, 6))
    vectors = table[texts]
    vectors[:, 0] += vectors[:, 1]  # which also tells first texts from their copies
    right = []
    for i in range(30):
        pool = [(row, k) for row in range(30) for k in range(1, n_columns)]
        pool = [(row, k) for row, k in pool if texts[row, k] != texts[i, 0] or texts[row, k] == texts[i, 1]]
        best = max(pool, key=lambda place, i=i: cosine(vectors[i, 0], vectors[place]))
        right.append(texts[best] == texts[i, 1])
    found = score_of("pairs", vectors, texts, np.ones(30))
    assert 0.2 < found < 0.95 and found == np.mean(right)
    weights = np.arange(30.0)
    kept = np.array(right)[1:]
    if at_once == 7 and n_columns == 2:  # the first row is left out, and so no candidate
        others = score_of("pairs", vectors[1:], texts[1:], np.ones(29))
        assert score_of("pairs", vectors, texts, (weights > 0) * 1.0) == others >= kept.mean()


def test_correlation(rng):
    a, b = rng.integers(0, 5, 30).astype(float), rng.normal(size=30)
    assert rank_correlation(a, b, np.ones(30)) == pytest.approx(spearmanr(a, b)[0])
    times = rng.integers(1, 4, 30)
    assert rank_correlation(a, b, times) == pytest.approx(spearmanr(a.repeat(times), b.repeat(times))[0])
    assert rank_correlation(a, np.ones(30), times) == 0
    vectors = rng.normal(size=(30, 2, 4))
    expected = spearmanr(b, [cosine(*pair) for pair in vectors])[0]
    assert score_of("scores", vectors, b, np.ones(30)) == pytest.approx(expected)
    with pytest.raises(ValueError, match="two rows or more, got 1"):
        score_of("scores", vectors, b, np.arange(30) < 1)


def test_teacher(rng):
    vectors, teacher = rng.normal(size=(5, 1, 4)), rng.normal(size=(5, 4))
    vectors[4] = 0  # has the cosine 0 with everything
    cosines = [*(cosine(v[0], t) for v, t in zip(vectors[:4], teacher, strict=False)), 0]
    weights = np.arange(1.0, 6)
    assert score_of("vectors", vectors, teacher, weights) == pytest.approx(np.average(cosines, weights=weights))
