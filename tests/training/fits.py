"""Small fits: a task over random rows, its settings, and wrappers that watch or disturb it."""

from dataclasses import replace

import numpy as np
import torch

from skxlmr.estimators._sequence.task import SequenceTask
from skxlmr.nn import losses
from skxlmr.training import LoopSettings, fit_loop, make_optimizer
from tests.batching.rows import random_rows
from tests.nn.reference import TINY, make_pair

STILL = replace(TINY, num_hidden_layers=2, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
SETTINGS = LoopSettings(
    max_epochs=2,
    batch_size=4,
    accumulate=1,
    schedule="constant",
    warmup_ratio=0.0,
    max_grad_norm=None,
    early_stopping=False,
    n_iter_no_change=2,
    tol=0.0,
    verbose=0,
    autocast=None,
)


def make_task(n_rows=12, seed=0, weights=None, n_ids=95):
    """Rows of 3 to 14 tokens, whose first word decides which of three classes the row has."""
    rng = np.random.default_rng(seed)
    encoded = random_rows(rng.integers(3, 15, n_rows), seed, n_ids)
    weights = np.ones(n_rows, np.float32) if weights is None else np.asarray(weights, np.float32)
    targets = encoded.ids[encoded.starts[:-1] + 1].astype(np.int64) % 3
    return SequenceTask(encoded, targets, weights, losses.cross_entropy)


def make_module(dtype=torch.float64, config=STILL):
    return make_pair("seqcls", config, dtype)[0]


def optimizer_for(module, learning_rate=1e-3, head_learning_rate=None, layer_decay=1.0, weight_decay=0.0):
    return make_optimizer(
        module,
        learning_rate=learning_rate,
        head_learning_rate=head_learning_rate,
        layer_decay=layer_decay,
        weight_decay=weight_decay,
    )


def fit(module, task, validate=None, seed=0, learning_rate=1e-3, weight_decay=0.0, **changes):
    optimizer = optimizer_for(module, learning_rate, weight_decay=weight_decay)
    return fit_loop(module, task, optimizer, replace(SETTINGS, **changes), np.random.default_rng(seed), validate)


def weights_of(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def assert_same_weights(module, expected, tolerance=0.0):
    found = weights_of(module)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=0, atol=tolerance, msg=lambda text, name=name: f"{name}: {text}"
        )


def moved(module, before):
    """Names of the parameters that are no longer what they were."""
    return {name for name, value in weights_of(module).items() if not torch.equal(value, before[name])}


class Watched:
    """A task that records the rows and the mean loss of every batch and calls ``before_batch(number)`` before each.

    ``rows`` are those of every batch that was made, also ahead; ``step_losses`` those of the batches that were computed.
    """

    def __init__(self, task, before_batch=lambda number: None):
        self.task, self.before_batch, self.n_rows = task, before_batch, task.n_rows
        self.rows, self.step_losses = [], []

    def collate(self, rows, rng):
        self.rows.append(rows)
        return self.task.collate(rows, rng)

    def losses(self, module, batch):
        self.before_batch(len(self.step_losses))
        terms = self.task.losses(module, batch)
        self.step_losses.append(sum((values.sum() / batch.totals[name]).item() for name, values in terms.items()))
        return terms
