"""Batched inference: the same whatever the batch, and in the order of the rows."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch

from skxlmr import OutOfMemoryWarning
from skxlmr.inference import _batch_queue, engine
from tests.batching.rows import random_rows
from tests.inference.engines import SmallEngine, run_rows, run_tokens
from tests.nn.reference import make_pair

LENGTHS = [4, 30, 2, 4, 17, 30, 9, 4, 25]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("token_budget", [1, 30, 64, 10_000])
def test_batches_equal_single_rows_in_the_order_of_the_rows(dtype, token_budget):
    module, _ = make_pair("seqcls", dtype=dtype)
    encoded = random_rows(LENGTHS)
    found = run_rows(module, encoded, token_budget)
    alone = [run_rows(module, encoded.take([i]), 100) for i in range(len(encoded))]
    assert found.dtype == (np.float32 if dtype == torch.float32 else np.float64)
    np.testing.assert_allclose(found, np.concatenate(alone), rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)
    assert np.ptp(found, axis=0).min() > 1e-3  # rows differ, so that a wrong order would show


def test_results_of_any_shape_come_back_in_order():
    encoded = random_rows(LENGTHS)

    def run(ids, layout):
        firsts = [part[1] for part in ids.split(layout.lengths)]
        return torch.stack(firsts)[:, None, None].expand(-1, 2, 3).double()

    found = run_rows(run, encoded, 40)
    assert found.shape == (len(LENGTHS), 2, 3)
    assert found[:, 0, 0].tolist() == [encoded.row(i)[1] for i in range(len(encoded))]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.parametrize("kind", ["tokcls", "qa"])
@pytest.mark.parametrize("token_budget", [1, 30, 64, 10_000])
def test_token_outputs_equal_those_of_single_rows(kind, dtype, token_budget):
    module, _ = make_pair(kind, dtype=dtype)
    encoded = random_rows(LENGTHS)
    found = run_tokens(module, encoded, token_budget)
    alone = [run_tokens(module, encoded.take([i]), 100) for i in range(len(encoded))]
    assert found.dtype == (np.float32 if dtype == torch.float32 else np.float64)
    assert [len(values) for values in alone] == LENGTHS
    np.testing.assert_allclose(found, np.concatenate(alone), rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)
    assert np.ptp(found, axis=0).min() > 1e-3  # tokens differ, so that a wrong order would show


@pytest.mark.parametrize("token_budget", [1, 40, 10_000])
def test_token_outputs_of_any_shape_lie_in_the_order_of_the_tokens(token_budget):
    encoded = random_rows(LENGTHS)

    def run(ids, layout):
        return torch.stack([ids, layout.positions_T], 1)[:, None].double()

    found = run_tokens(run, encoded, token_budget)
    assert found.shape == (sum(LENGTHS), 1, 2) and found.dtype == np.float64
    assert np.array_equal(found[:, 0, 0], encoded.ids)
    assert found[:, 0, 1].tolist() == [place for length in LENGTHS for place in range(length)]


def test_token_outputs_follow_their_rows():
    """Rows in another order give the same values in that order."""
    module, _ = make_pair("tokcls", dtype=torch.float64)
    encoded = random_rows(LENGTHS)
    order = np.random.default_rng(0).permutation(len(encoded))
    values = run_tokens(module, encoded, 40)
    turned = run_tokens(module, encoded.take(order), 40)
    np.testing.assert_allclose(turned, values[encoded.token_places(order)], rtol=0, atol=1e-12)


def test_batches_keep_to_the_budget_and_start_with_the_longest():
    seen = []

    def run(ids, layout):
        assert not torch.is_grad_enabled()
        assert len(ids) == layout.n_tokens
        seen.append(layout.lengths)
        return torch.zeros(len(layout.lengths))

    run_rows(run, random_rows(LENGTHS), 28)
    assert [length for lengths in seen for length in lengths] == sorted(LENGTHS, reverse=True)
    assert all(len(lengths) == 1 or sum(lengths) <= 28 for lengths in seen)
    assert any(len(lengths) > 1 for lengths in seen)


def test_mixed_precision_gives_float32():
    module, _ = make_pair("seqcls")
    encoded = random_rows(LENGTHS)
    exact = run_rows(module, encoded, 50)
    rounded = run_rows(module, encoded, 50, torch.bfloat16)
    assert rounded.dtype == np.float32
    assert 0 < np.abs(rounded - exact).max() < 0.05


# Distinct rows --------------------------------------------------------------------------------------------------------


def repeated_rows():
    """Nine rows, each three times, in an order of their own."""
    encoded = random_rows(LENGTHS)
    order = np.random.default_rng(1).permutation(np.repeat(np.arange(len(encoded)), 3))
    return encoded, order


def test_equal_rows_are_run_once_and_answered_each():
    module, _ = make_pair("seqcls", dtype=torch.float64)
    encoded, order = repeated_rows()
    n_run = []

    def run(ids, layout):
        n_run.append(len(layout.lengths))
        return module(ids, layout)

    found = run_rows(run, encoded.take(order), 64)
    assert sum(n_run) == len(encoded) < len(order)
    np.testing.assert_allclose(found, run_rows(module, encoded, 64)[order], rtol=0, atol=1e-12)


def test_tokens_of_equal_rows_lie_where_they_belong():
    module, _ = make_pair("tokcls", dtype=torch.float64)
    encoded, order = repeated_rows()
    expected = run_tokens(module, encoded, 64)[encoded.token_places(order)]
    np.testing.assert_allclose(run_tokens(module, encoded.take(order), 64), expected, rtol=0, atol=1e-12)


def test_rows_differ_by_where_their_second_text_begins():
    """Its tokens have other positions."""
    two = random_rows([5]).take([0, 0, 0])
    two = replace(two, second_starts=np.array([2, 3, 2]))
    seen = []
    run_rows(lambda ids, layout: seen.extend(layout.second_starts) or torch.zeros(len(layout.lengths)), two, 1000)
    assert sorted(seen) == [2, 3]


# Full memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token_budget", [1, 30, 10_000])
def test_chosen_places_get_the_logits_of_the_reference(monkeypatch, token_budget):
    monkeypatch.setattr(engine, "LOGIT_ROWS", 3)
    module, reference = make_pair("mlm", dtype=torch.float64)
    encoded = random_rows(LENGTHS)
    starts = encoded.starts
    places = np.unique(
        np.concatenate([starts[:-1], starts[1:] - 1, [starts[1] + k for k in (3, 4, 11)]])
    )  # 1 to 5 per row
    found = SmallEngine(module, token_budget).places(encoded, places, lambda logits, items: logits)
    with torch.no_grad():
        rows = [reference(torch.from_numpy(encoded.row(i)).long()[None]).logits[0] for i in range(len(encoded))]
    assert found.shape == (len(places), module.project(torch.zeros(1, 32, dtype=torch.float64)).shape[1])
    np.testing.assert_allclose(found, torch.cat(rows)[places], rtol=0, atol=1e-5)  # logits are read as float32


def test_windows_are_averaged_with_their_weights():
    module, _ = make_pair("seqcls", dtype=torch.float64)
    windows = replace(random_rows([4, 6, 5, 8, 3]), row_of_window=np.array([0, 0, 1, 2, 2]))
    weights = np.array([3.0, 1.0, 2.0, 1.0, 4.0])
    found = SmallEngine(module, 10).rows(windows, window_weights=weights)
    alone = SmallEngine(module, 10).rows(windows)
    expected = [(3 * alone[0] + alone[1]) / 4, alone[2], (alone[3] + 4 * alone[4]) / 5]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert np.abs(alone[0] - alone[1]).min() > 1e-3  # so that other weights would show


def test_a_batch_that_does_not_fit_holds_no_memory_during_the_next_try(monkeypatch):
    module, _ = make_pair("mlm")
    encoded = random_rows([6, 5, 4, 3])
    held, n_live = [], []

    def read(logits, items):
        if len(items) > 2:
            held.append(weakref.ref(logits))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return logits.argmax(1)

    def released(device):
        gc.disable()  # an object that is still there is referred to, not only uncollected
        n_live.append(sum(reference() is not None for reference in held))
        gc.enable()

    monkeypatch.setattr(_batch_queue, "release_memory", released)
    places = encoded.starts[:-1] + 1
    with pytest.warns(OutOfMemoryWarning):
        found = SmallEngine(module, 1000).places(encoded, places, read)
    assert len(held) == 1 and n_live == [0]
    np.testing.assert_array_equal(found, SmallEngine(module, 6).places(encoded, places, read))
