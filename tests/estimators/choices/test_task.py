"""Prompts with their choices in one batch, and the loss over the choices of each row."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from skxlmr.checkpoints import on_meta
from skxlmr.estimators._choices.task import ChoiceTask, by_row
from skxlmr.nn import XLMRobertaForMultipleChoice
from tests.batching.rows import padded, random_rows
from tests.nn.reference import TINY


def rng(seed=0):
    return np.random.default_rng(seed)


def choice_rows(n_choices, seed=0):
    """Random sequences, as many for each row as ``n_choices`` says."""
    lengths = rng(seed).integers(3, 12, sum(n_choices))
    return replace(random_rows(lengths, seed), row_of_window=np.repeat(np.arange(len(n_choices)), n_choices))


def choice_task(n_choices, targets, weights=None, seed=0):
    weights = np.ones(len(targets)) if weights is None else weights
    return ChoiceTask(choice_rows(n_choices, seed), np.array(targets), np.array(weights, np.float32))


@pytest.fixture(scope="module", params=[torch.float32, torch.float64], ids=str)
def pair(request):
    """Our module and the reference's with the same perturbed weights, without dropout."""
    torch.manual_seed(0)
    quiet = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = transformers.XLMRobertaConfig(**TINY.to_dict() | quiet, attn_implementation="eager")
    theirs = transformers.XLMRobertaForMultipleChoice(config).to(request.param)
    with torch.no_grad():
        for parameter in theirs.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    with on_meta():
        ours = XLMRobertaForMultipleChoice(replace(TINY, **quiet))
    ours.load_state_dict({name: p.detach().clone() for name, p in theirs.named_parameters()}, strict=True, assign=True)
    return ours.requires_grad_(True), theirs, 1e-5 if request.param == torch.float32 else 1e-12


def loss_of(task, module, rows):
    batch = task.collate(np.array(rows), rng())
    return task.losses(module, batch)["loss"].sum() / batch.totals["loss"]


@pytest.mark.parametrize("training", [False, True])
def test_loss_and_gradients_equal_the_reference(pair, training):
    ours, theirs, tolerance = pair
    task = choice_task([3] * 4, [0, 2, 1, 1])
    ids, mask = padded([task.encoded.row(i) for i in range(12)])
    for module in (ours, theirs):
        module.train(training).zero_grad()
    expected = theirs(ids.view(4, 3, -1), attention_mask=mask.view(4, 3, -1), labels=torch.tensor([0, 2, 1, 1])).loss
    found = loss_of(task, ours, [0, 1, 2, 3])
    assert found.item() == pytest.approx(expected.item(), abs=tolerance)
    found.backward()
    expected.backward()
    gradients = dict(theirs.named_parameters())
    largest = max(p.grad.abs().max() for p in gradients.values())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name].grad, atol=10 * tolerance * largest.item(), rtol=0, msg=name
        )


def test_ragged_rows_count_their_own_choices_alone(pair):
    ours, theirs, tolerance = pair
    n_choices, targets = [2, 5, 3], [1, 4, 0]
    task = choice_task(n_choices, targets)
    batch = task.collate(np.arange(3), rng())
    found = task.losses(ours.eval(), batch)["loss"]
    theirs.eval()
    first = np.cumsum([0, *n_choices])
    for row in range(3):
        ids, mask = padded([task.encoded.row(i) for i in range(first[row], first[row + 1])])
        expected = theirs(ids[None], attention_mask=mask[None], labels=torch.tensor(targets[row : row + 1])).loss
        assert found[row].item() == pytest.approx(expected.item(), abs=tolerance)
    ours.zero_grad()
    found.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in ours.parameters())


def test_rows_weights_and_targets_stay_together(pair):
    ours = pair[0].eval()
    task = choice_task([2, 5, 3, 2], [1, 4, 0, 0], weights=[1, 2, 3, 0])
    assert task.n_rows == 4
    alone = [task.losses(ours, task.collate(np.array([row]), rng()))["loss"].item() for row in range(4)]
    assert alone[3] == 0 and alone[1] > 0
    for rows in ([3, 1, 0], [2, 0, 1, 3]):
        batch = task.collate(np.array(rows), rng())
        assert batch.rows["loss"].tolist() == rows and batch.totals == {
            "loss": sum([1.0, 2.0, 3.0, 0.0][i] for i in rows)
        }
        assert batch.layout.lengths == sorted(batch.layout.lengths, reverse=True)
        assert task.losses(ours, batch)["loss"].tolist() == pytest.approx([alone[row] for row in rows], abs=1e-5)


def test_by_row():
    lines = by_row(np.array([1.0, 2, 3, 4, 5], np.float32), np.array([2, 3]), fill=-np.inf)
    assert lines.dtype == np.float32 and lines.tolist() == [[1, 2, -np.inf], [3, 4, 5]]
    assert by_row(np.arange(4), np.array([2, 2]), fill=-1).tolist() == [[0, 1], [2, 3]]
    assert by_row(np.arange(4), np.array([2, 2]), fill=-1, n_columns=3).tolist() == [[0, 1, -1], [2, 3, -1]]
