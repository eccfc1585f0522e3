"""Correlations: computed by hand, for several outputs, undefined, and as scorers."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import cross_validate

from skxlmr.metrics import pearson_score, spearman_score

RNG = np.random.default_rng(0)
A, B = RNG.normal(size=(2, 30))
B = A + B


def test_equals_the_correlation_computed_by_hand():
    assert pearson_score(A, B) == pytest.approx(np.corrcoef(A, B)[0, 1])
    ranks = [np.argsort(np.argsort(values)) for values in (A, B)]
    assert spearman_score(A, B) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert spearman_score(A, np.exp(3 * B)) == spearman_score(A, B) != pearson_score(A, np.exp(3 * B))
    assert pearson_score(A, -A) == pytest.approx(-1) and pearson_score([1, 2], [[1], [2]]) == pytest.approx(1)


@pytest.mark.parametrize("score", [pearson_score, spearman_score])
def test_several_outputs_and_constants(score):
    both = score(np.stack([A, A], axis=1), np.stack([B, np.ones(30)], axis=1))
    assert both == pytest.approx(score(A, B) / 2)
    assert score(A, np.zeros(30)) == 0 and score(np.zeros(30), A) == 0


@pytest.mark.parametrize("score", [pearson_score, spearman_score])
def test_bad_input(score):
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        score([1, 2, 3], [1, 2])
    with pytest.raises(ValueError, match=r"must have the same shape, got \(3,\) and \(3, 2\)"):
        score([1, 2, 3], np.ones((3, 2)))
    with pytest.raises(ValueError, match="minimum of 2"):
        score([1], [1])
    with pytest.raises(ValueError, match="NaN"):
        score([1, np.nan], [1, 2])


def test_as_scorers():
    scoring = {"pearson": make_scorer(pearson_score), "spearman": make_scorer(spearman_score)}
    scores = cross_validate(LinearRegression(), A[:, None], B, scoring=scoring, cv=3)
    assert (scores["test_pearson"] > 0.2).all() and (scores["test_spearman"] > 0.2).all()
