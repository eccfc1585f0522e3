"""Which rows stand together in a step: each once, with those that they are to be compared with."""

from collections import Counter

import numpy as np
import pytest

from skxlmr.estimators._embedding.steps import FEWEST, at_least_two, of_classes, without_duplicates


@pytest.mark.parametrize("n", [4, 5, 8, 100])
@pytest.mark.parametrize("seed", range(5))
def test_rows_meet_one_of_their_class(n, seed):
    rng = np.random.default_rng(seed)
    codes = np.r_[rng.integers(0, 6, 41), 6, 7]  # two classes of one row
    steps = of_classes(codes, n, rng)
    assert sorted(np.concatenate(steps).tolist()) == list(range(43))
    for rows in steps:
        assert FEWEST <= len(rows) <= n + 5
        of_step = Counter(codes[rows].tolist())
        assert all(of_step[code] > 1 for code in of_step if code < 6)


def test_rows_of_classes_are_drawn():
    codes = np.arange(24) % 3
    rng = np.random.default_rng(0)
    partners = {tuple(sorted(rows.tolist())) for _ in range(20) for rows in of_classes(codes, 4, rng)}
    assert len(partners) > 60
    again = [rows.tolist() for rows in of_classes(codes, 4, np.random.default_rng(1))]
    assert again == [rows.tolist() for rows in of_classes(codes, 4, np.random.default_rng(1))]


def test_a_step_that_is_too_small_for_two_classes():
    with pytest.raises(
        ValueError, match=r"a step has 3 rows .* meet those of others in 4 or more: raise batch_size or accu"
    ):
        of_classes(np.array([0, 0, 1, 1]), 3, np.random.default_rng(0))


def texts_of(rows, texts):
    return [text for row in rows for text in set(texts[row].tolist())]


@pytest.mark.parametrize("n_columns", [2, 3])
@pytest.mark.parametrize("n_texts", [12, 60, 1000])
@pytest.mark.parametrize("seed", range(3))
def test_no_text_stands_in_two_rows_of_a_step(n_columns, n_texts, seed):
    rng = np.random.default_rng(seed)
    texts = rng.integers(0, n_texts, (50, n_columns))
    steps = without_duplicates(texts, 8, rng)
    rows = np.concatenate(steps).tolist()
    assert len(rows) == len(set(rows))
    for of_step in steps:
        assert max(Counter(texts_of(of_step, texts)).values()) == 1
        assert len(of_step) > 1 or n_columns == 3
    left_out = set(range(50)) - set(rows)
    assert not left_out or (n_columns == 2 and n_texts < 1000)
    for row in left_out:  # the last step has one of its texts
        assert set(texts[row].tolist()) & set(texts_of(steps[-1], texts))


@pytest.mark.parametrize(("n_rows", "sizes"), [(16, [8, 8]), (17, [8, 9]), (20, [8, 8, 4]), (3, [3])])
def test_distinct_texts_fill_the_steps(n_rows, sizes):
    steps = without_duplicates(np.arange(2 * n_rows).reshape(-1, 2), 8, np.random.default_rng(0))
    assert [len(rows) for rows in steps] == sizes
    assert [len(rows) for rows in at_least_two(n_rows, 8, np.random.default_rng(0))] == sizes
    assert sorted(np.concatenate(at_least_two(n_rows, 8, np.random.default_rng(0))).tolist()) == list(range(n_rows))


def test_one_answer_to_many_questions():
    texts = np.array([[10 + i, i % 2] for i in range(20)])  # two answers
    steps = without_duplicates(texts, 8, np.random.default_rng(0))
    assert [sorted(texts[rows, 1].tolist()) for rows in steps] == [[0, 1]] * 10


def test_rows_that_nothing_is_compared_with():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no two rows of X differ in all of their texts"):
        without_duplicates(np.array([[0, 1], [2, 1], [3, 1]]), 8, rng)
    assert len(without_duplicates(np.array([[0, 1, 2], [3, 1, 2]]), 8, rng)) == 2  # each has a hard negative
    with pytest.raises(ValueError, match=r"a step has 1 row .* raise batch_size or accumulate"):
        without_duplicates(np.array([[0, 1], [2, 3]]), 1, rng)
    assert len(without_duplicates(np.array([[0, 1, 2], [3, 4, 5]]), 1, rng)) == 2
    with pytest.raises(ValueError, match=r"a step has 1 row .* raise batch_size or accumulate"):
        at_least_two(3, 1, rng)
