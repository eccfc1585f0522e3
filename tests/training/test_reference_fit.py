"""Fifty steps of the fit loop equal those of a plain loop with PyTorch and transformers over the same batches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers

from skxlmr.estimators._language.task import MaskedLMTask
from skxlmr.training import fit_loop
from tests.batching.rows import TOKENIZER, padded
from tests.nn.reference import make_ours, make_pair, make_reference, named_parameters

from .fits import SETTINGS, STILL, Watched, make_task, optimizer_for

N_EPOCHS, LEARNING_RATE, WEIGHT_DECAY, WARMUP_RATIO = 10, 3e-3, 0.05, 0.1
LINEAR = replace(SETTINGS, max_epochs=N_EPOCHS, schedule="linear", warmup_ratio=WARMUP_RATIO, max_grad_norm=1.0)


class PlainLoop:
    """The loop that users of transformers write by hand."""

    def __init__(self, module, n_steps):
        self.module = module.train()
        undecayed = ("bias", "LayerNorm.weight", "layer_norm.weight")
        groups = [[], []]
        for name, parameter in module.named_parameters():
            groups[name.endswith(undecayed)].append(parameter)
        self.optimizer = torch.optim.AdamW(
            [{"params": groups[0], "weight_decay": WEIGHT_DECAY}, {"params": groups[1], "weight_decay": 0.0}],
            lr=LEARNING_RATE,
        )
        n_warmup = round(n_steps * WARMUP_RATIO)
        self.scheduler = transformers.get_linear_schedule_with_warmup(self.optimizer, n_warmup, n_steps)

    def step(self, ids, mask, labels):
        loss = self.module(ids, attention_mask=mask, labels=labels).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.step()
        self.scheduler.step()
        self.optimizer.zero_grad()
        return loss.item()


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["fp32", "fp64"])
def test_fifty_steps_follow_the_reference(dtype, tolerance):
    ours, theirs = make_pair("seqcls", STILL, dtype)
    task = Watched(make_task(40))
    optimizer = optimizer_for(ours, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    history = fit_loop(ours, task, optimizer, replace(LINEAR, batch_size=8), np.random.default_rng(0))

    plain, encoded = PlainLoop(theirs, 50), task.task.encoded
    expected = []
    for rows in task.rows:
        ids, mask = padded([encoded.row(i) for i in rows])
        expected.append(plain.step(ids, mask, torch.from_numpy(task.task.targets[rows])))
    assert len(expected) == len(task.step_losses) == 50
    np.testing.assert_allclose(task.step_losses, expected, rtol=0, atol=tolerance)
    np.testing.assert_allclose(history.loss_curve, np.reshape(expected, (N_EPOCHS, 5)).mean(1), rtol=0, atol=tolerance)
    assert np.mean(expected[-5:]) < 0.75 * np.mean(expected[:5])  # the fit learns something
    if dtype == torch.float64:
        for name, parameter in named_parameters(theirs).items():
            torch.testing.assert_close(ours.get_parameter(name), parameter, rtol=0, atol=1e-10, msg=name)


def test_masked_lm_steps_follow_the_reference():
    """The same for masked language modelling, with the weight of the head tied to the embeddings."""
    theirs = make_reference("mlm", STILL).double()
    ours = make_ours("mlm", STILL, theirs)
    encoded = make_task(20).encoded
    task = Watched(MaskedLMTask(encoded, None, TOKENIZER, np.ones(20, np.float32), mask_probability=0.3))
    batches = []
    collate = task.collate
    task.collate = lambda rows, rng: batches.append(collate(rows, rng)) or batches[-1]
    optimizer = optimizer_for(ours, LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    fit_loop(ours, task, optimizer, replace(LINEAR, batch_size=10), np.random.default_rng(0))

    plain, expected = PlainLoop(theirs, 20), []
    for batch in batches:
        ids, mask = padded(batch.ids.split(batch.layout.lengths))
        token_labels = torch.full(batch.ids.shape, -100)
        token_labels[batch.targets["positions"]] = batch.targets["labels"]
        labels = torch.full(ids.shape, -100)
        labels[mask.bool()] = token_labels
        expected.append(plain.step(ids, mask, labels))
    assert len(expected) == 20
    np.testing.assert_allclose(task.step_losses, expected, rtol=0, atol=1e-12)
