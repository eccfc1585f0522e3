"""MaxSim, compared with its definition."""

import tracemalloc

import numpy as np
import pytest

from skxlmr.metrics import max_sim


def rows(lengths, width=5, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, width)).astype(dtype) for n in lengths]


def by_definition(queries, documents):
    return np.array([[(q.astype(float) @ d.astype(float).T).max(axis=1).mean() for d in documents] for q in queries])


@pytest.mark.parametrize("most", [2**24, 60, 1])  # numbers in memory at a time
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_equals_the_definition_in_blocks_of_any_size(monkeypatch, most, dtype):
    monkeypatch.setattr("skxlmr.metrics._max_sim.MOST_NUMBERS", most)
    queries, documents = rows([1, 7, 2], dtype=dtype), rows([3, 1, 12, 1, 30], dtype=dtype, seed=1)
    found = max_sim(queries, documents)
    assert found.dtype == (np.float64 if dtype == np.float64 else np.float32)
    np.testing.assert_allclose(found, by_definition(queries, documents), rtol=1e-5, atol=1e-6)


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr("skxlmr.metrics._max_sim.MOST_NUMBERS", 2**15)
    queries, documents = rows([400]), rows([100] * 400)  # 16,000,000 products, and 800,000 bytes of vectors
    tracemalloc.start()
    max_sim(queries, documents)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**19


def test_none_and_lists():
    assert max_sim([], rows([2])).shape == (0, 1)
    assert max_sim(rows([2, 3]), []).shape == (2, 0)
    assert max_sim([[[1, 0]]], [[[2, 0], [0, 1]]]).tolist() == [[2]]


@pytest.mark.parametrize(
    ("queries", "documents", "said"),
    [
        (rows([2]), rows([2], width=4), "vectors of the same number of features, found 4 and 5"),
        (rows([2]), rows([3, 0]), r"documents\[1\] must be numbers of shape .* found shape \(0, 5\)"),
        (rows([2])[0], rows([2]), r"queries\[0\] must be numbers .* found shape \(5,\)"),
        ([["a"]], rows([2]), r"queries\[0\] must be numbers"),
    ],
    ids=["widths", "no tokens", "one row", "texts"],
)
def test_what_it_refuses(queries, documents, said):
    with pytest.raises(ValueError, match=said):
        max_sim(queries, documents)
