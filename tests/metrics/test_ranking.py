"""Recall at k, compared with counts by hand."""

import numpy as np
import pandas as pd
import pytest

from skxlmr.metrics import recall_at_k

RANKING = [[2, 0, 1], [1, 0, 2], [0, 1, 2], [1, 2, 0]]
RIGHT = [2, 0, 2, 1]  # first, second, third, first


def test_counts_the_first_k():
    assert recall_at_k(RIGHT, RANKING) == 0.5
    assert [recall_at_k(RIGHT, RANKING, k) for k in (1, 2, 3, 10)] == [0.5, 0.75, 1.0, 1.0]
    assert recall_at_k(np.array(RIGHT), np.array(RANKING), k=[1, 3]) == {1: 0.5, 3: 1.0}


def test_rankings_may_differ_in_length():
    assert recall_at_k([3, 0], [np.array([1, 3, 2, 0]), [0]], 1) == 0.5


def test_equals_top_k_accuracy():
    from sklearn.metrics import top_k_accuracy_score

    rng = np.random.default_rng(0)
    scores, right = rng.normal(size=(50, 8)), rng.integers(0, 8, 50)
    for k in range(1, 8):
        expected = top_k_accuracy_score(right, scores, k=k, labels=range(8))
        assert recall_at_k(right, np.argsort(-scores, axis=1), k) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("right", "ranking", "k", "reason"),
    [
        ([0], RANKING, 1, "one candidate for each of the 4 rankings"),
        ([], [], 1, "one candidate for each of the 0 rankings"),
        ([0], [[1, 2]], 1, "ranking 0 must contain the right candidate 0 once, found it 0 times"),
        ([0, 1], [[0, 1], [1, 1]], 1, "ranking 1 must contain the right candidate 1 once, found it 2 times"),
        ([0], [[0, 1]], 0, "k must be an integer of at least 1"),
        ([0], [[0, 1]], [1, 1.5], "k must be an integer of at least 1"),
        ([0], [[0, 1]], 1.0, r"k must be an integer of at least 1.*found 1\.0"),
    ],
)
def test_errors(right, ranking, k, reason):
    with pytest.raises(ValueError, match=reason):
        recall_at_k(right, ranking, k)


def test_a_frame_is_rows_and_not_names_of_columns():
    order = np.array([[1, 2, 0], [0, 2, 1], [0, 1, 2]])
    for k in (1, 2):
        assert recall_at_k([0, 1, 2], pd.DataFrame(order), k) == recall_at_k([0, 1, 2], order, k) < 1
