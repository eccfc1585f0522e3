"""One target per row: order, weights and rows of batches stay together, and so do their losses."""

import numpy as np
import pytest
import torch

from skxlmr.estimators._sequence.task import SequenceTask
from skxlmr.nn import losses
from tests.batching.rows import random_rows
from tests.nn.reference import assert_gradients_agree, make_pair


def rng(seed=0):
    return np.random.default_rng(seed)


def split(batch):
    """Ids of each sequence of a batch."""
    return [part.tolist() for part in batch.ids.split(batch.layout.lengths)]


def ones(n):
    return np.ones(n, np.float32)


def sequence_task(encoded, weights=None, seed=0):
    targets = rng(seed).integers(0, 3, len(encoded))
    return SequenceTask(encoded, targets, ones(len(encoded)) if weights is None else weights, losses.cross_entropy)


def test_targets_weights_and_rows_stay_together():
    encoded = random_rows([4, 9, 2, 7])
    task = SequenceTask(encoded, np.arange(4), np.array([1, 2, 3, 4], np.float32), losses.cross_entropy)
    batch = task.collate(np.array([2, 3, 1]), rng())
    assert batch.rows["loss"].tolist() == [1, 3, 2]  # longest first
    assert split(batch) == [encoded.row(i).tolist() for i in (1, 3, 2)]
    assert batch.targets["y"].tolist() == [1, 3, 2]
    assert batch.targets["weights"].tolist() == [2, 4, 3]
    assert batch.totals == {"loss": 9.0}
    assert batch.to(torch.device("cpu")) is batch
    moved = batch.to(torch.device("meta"))
    assert moved.ids.is_meta and all(target.is_meta for target in moved.targets.values())
    assert moved.layout.lengths == batch.layout.lengths and moved.layout.device.type == "meta"


def test_losses_of_rows_do_not_depend_on_their_order():
    task, (module, _) = sequence_task(random_rows([4, 9, 2, 7])), make_pair("seqcls", dtype=torch.float64)
    values = {}
    for rows in ([0, 1, 2, 3], [3, 0, 2, 1], [1], [2, 0]):
        batch = task.collate(np.array(rows), rng())
        with torch.no_grad():
            found = task.losses(module, batch)["loss"]
        assert found.dtype == torch.float64
        for row, value in zip(batch.rows["loss"], found, strict=True):
            assert value.item() == pytest.approx(values.setdefault(row, value.item()), abs=1e-12)
    assert len(values) == 4


def gradients(task, rows):
    module, _ = make_pair("seqcls", dtype=torch.float64)
    batch = task.collate(np.array(rows), rng())
    (task.losses(module, batch)["loss"].sum() / batch.totals["loss"]).backward()
    return module


def test_a_weight_is_a_number_of_repetitions():
    encoded, weights = random_rows([5, 8, 3]), np.array([3, 1, 2], np.float32)
    weighted = sequence_task(encoded, weights)
    repeated = sequence_task(encoded)
    assert_gradients_agree(gradients(weighted, [0, 1, 2]), gradients(repeated, [0, 0, 0, 1, 2, 2]), 1e-12)


def test_rows_of_weight_zero_do_not_count():
    encoded, weights = random_rows([5, 8, 3]), np.array([1, 0, 1], np.float32)
    assert_gradients_agree(
        gradients(sequence_task(encoded, weights), [0, 1, 2]), gradients(sequence_task(encoded), [0, 2]), 1e-12
    )


def test_losses_are_computed_in_float32_at_least():
    task, (module, _) = sequence_task(random_rows([4, 6])), make_pair("seqcls")
    batch = task.collate(np.array([0, 1]), rng())
    module.train()
    with torch.autocast("cpu", torch.bfloat16):
        assert module(batch.ids, batch.layout).dtype == torch.bfloat16
        assert task.losses(module, batch)["loss"].dtype == torch.float32
