"""The batches of an epoch are made one step ahead, and nobody else sees the generator ahead of the steps."""

from contextlib import nullcontext as nothing
from dataclasses import replace

import numpy as np
import pytest
import torch

from skxlmr.batching import Batch
from skxlmr.estimators._language.task import MaskedLMTask
from skxlmr.training import Watcher, fit_loop
from skxlmr.training._distributed import Processes
from skxlmr.training._step_batches import StepBatches
from skxlmr.utils._warnings import OutOfMemoryWarning
from tests.batching.rows import TOKENIZER, random_rows
from tests.nn.reference import make_pair

from .fits import SETTINGS, STILL, optimizer_for

CPU = torch.device("cpu")
STEPS = [[np.arange(0, 4)], [np.arange(4, 8)], [np.arange(8, 12)]]


def masked_task():
    """Each of its batches draws a mask."""
    return MaskedLMTask(random_rows(np.arange(12) % 7 + 8), None, TOKENIZER, np.ones(12, np.float32), 0.3)


def one_by_one(steps=STEPS):
    """The ids of batches that are made when they are needed, and the generator's state after each."""
    task, rng = masked_task(), np.random.default_rng(3)
    return [(task.collate(rows, rng).ids, rng.bit_generator.state) for (rows,) in steps]


def batches_of_steps(rng, device=CPU):
    batches = StepBatches(4, 1, device, rng)
    batches.begin_epoch(masked_task(), STEPS)
    return batches


def ids_of(batches):
    return torch.cat([batch.ids for batch in batches])


@pytest.mark.parametrize("ahead", [False, True])
def test_batches_and_states_are_those_without_it(ahead):
    expected, rng = one_by_one(), np.random.default_rng(3)
    batches = batches_of_steps(rng)
    for ids, state in expected:
        assert torch.equal(batches.run(ids_of), ids)
        assert rng.bit_generator.state == state
        if ahead:
            batches.prepare_next()
            assert rng.bit_generator.state == state


def test_batches_made_ahead_lie_on_the_device():
    """And are not copied again by whoever needs them there."""
    device = torch.device("meta")
    batches = batches_of_steps(np.random.default_rng(3), device)
    batches.prepare_next()
    (made,) = batches.run(lambda made: made)
    assert {part.device for part in (made.ids, *made.targets.values())} == {device} == {made.layout.device}
    assert made.to(device) is made
    (made,) = batches.run(lambda made: made)
    assert made.ids.device == CPU and made.to(CPU) is made


def test_a_step_that_runs_out_of_memory_draws_its_batches_again_in_parts():
    expected, rng = one_by_one(), np.random.default_rng(3)
    batches = batches_of_steps(rng)
    sizes, undone = [], []

    def compute(made):
        sizes.append([len(batch.layout.lengths) for batch in made])
        if sizes == [[4], [4]]:
            raise torch.OutOfMemoryError("full")
        return sorted(ids_of(made).tolist())

    for ids, state in expected[:2]:
        with pytest.warns(OutOfMemoryWarning) if len(sizes) == 1 else nothing():
            found = batches.run(compute, lambda: undone.append(len(sizes)))
        assert found == sorted(ids.tolist()) and rng.bit_generator.state == state
        batches.prepare_next()
    assert batches.run(compute) == sorted(expected[2][0].tolist()) and rng.bit_generator.state == expected[2][1]
    assert sizes == [[4], [4], [2, 2], [2, 2]] and undone == [2]


def test_a_process_that_runs_out_of_memory_computes_its_share_in_parts():
    """And draws what it would have drawn; where rows are compared it can't, because the others wait."""
    expected, rng = one_by_one(), np.random.default_rng(3)
    batches = StepBatches(4, 1, CPU, rng, Processes(1, 2, False))
    batches.begin_epoch(masked_task(), STEPS)
    made_ids = []

    def compute(made):
        made_ids.append([batch.ids for batch in made])
        if len(made_ids) == 1:
            raise torch.OutOfMemoryError("full")

    with pytest.warns(
        OutOfMemoryWarning, match="in parts of 1, which .*; to start like this, set batch_size=2 and accumulate=2"
    ):
        batches.run(compute)
    (share,), parts = made_ids
    assert [len(ids) for ids in parts] and sorted(torch.cat(parts).tolist()) == sorted(share.tolist())
    assert set(share.tolist()) <= set(expected[0][0].tolist()) and rng.bit_generator.state == expected[0][1]
    assert torch.equal(batches.step.whole[0].ids, expected[0][0])
    batches.task.contrastive_weight = 1.0
    made_ids.clear()
    with pytest.raises(torch.OutOfMemoryError, match="lower batch_size and raise accumulate"):
        batches.run(compute)


def test_memory_that_runs_out_in_the_copy_is_left_to_the_step(monkeypatch):
    expected, rng = one_by_one(), np.random.default_rng(3)
    batches = batches_of_steps(rng)
    batches.run(ids_of)
    for error, caught in (
        (torch.OutOfMemoryError("full"), nothing()),
        (RuntimeError("other"), pytest.raises(RuntimeError, match="other")),
    ):
        with monkeypatch.context() as patch, caught:
            patch.setattr(Batch, "to", lambda *_, error=error: raising(error))
            batches.prepare_next()
        assert rng.bit_generator.state == expected[0][1]
    assert torch.equal(batches.run(ids_of), expected[1][0])


class EndsEpochs(Watcher):
    """Ends every epoch after its first step."""

    def step_ends(self):
        return True


def test_an_epoch_that_ends_early_leaves_the_generator_there():
    module, rng, expected = (
        make_pair("mlm", STILL, torch.float32)[0],
        np.random.default_rng(3),
        np.random.default_rng(3),
    )
    settings = replace(SETTINGS, max_epochs=3)
    fit_loop(module, masked_task(), optimizer_for(module), settings, rng, watcher=EndsEpochs())
    for _ in range(3):
        masked_task().collate(expected.permutation(12)[:4], expected)
    assert rng.bit_generator.state == expected.bit_generator.state


def raising(error):
    raise error
