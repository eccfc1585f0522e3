"""Which rows go into which batch."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skxlmr.batching import batches_by_length, shuffled_batches


@given(lengths=st.lists(st.integers(1, 60), max_size=40), budget=st.integers(1, 200))
@settings(deadline=None, derandomize=True)
def test_batches_by_length(lengths, budget):
    lengths = np.array(lengths, np.int64)
    batches = list(batches_by_length(lengths, budget))
    order = np.concatenate([np.empty(0, np.int64), *batches])
    assert sorted(order) == list(range(len(lengths)))
    assert (np.diff(lengths[order]) <= 0).all()
    assert all(len(rows) == 1 or lengths[rows].sum() <= budget for rows in batches)
    for rows, following in pairwise(batches):  # each is full: the next row would not have fitted
        assert lengths[rows].sum() + lengths[following[0]] > budget


def test_rows_of_equal_length_keep_their_order():
    assert [rows.tolist() for rows in batches_by_length(np.array([3, 5, 3, 5, 3]), 10)] == [[1, 3], [0, 2, 4]]


def test_a_row_longer_than_the_budget_is_a_batch_of_its_own():
    assert [rows.tolist() for rows in batches_by_length(np.array([4, 50, 4]), 8)] == [[1], [0, 2]]


@pytest.mark.parametrize(("n_rows", "batch_size", "sizes"), [(10, 4, [4, 4, 2]), (8, 4, [4, 4]), (3, 10, [3])])
def test_shuffled_batches(n_rows, batch_size, sizes):
    batches = shuffled_batches(n_rows, batch_size, np.random.default_rng(0))
    assert [len(rows) for rows in batches] == sizes
    assert sorted(np.concatenate(batches)) == list(range(n_rows))


def test_shuffling_follows_the_generator():
    first, again, other = (
        np.concatenate(shuffled_batches(50, 7, np.random.default_rng(seed))).tolist() for seed in (0, 0, 1)
    )
    assert first == again != other
    assert first != sorted(first)
