"""Training on a CPU, whatever torch's default device and type are."""

import copy
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from skxlmr.estimators._language.task import MaskedLMTask
from skxlmr.training import AdamState, StateKeeper, compact_vocabulary, fit_loop, mean_losses
from tests.batching.rows import TOKENIZER
from tests.defaults import other_defaults

from .fits import SETTINGS, STILL, make_task, optimizer_for

WORDS = np.arange(STILL.vocab_size)


class Bag(nn.Module):
    """Classifies rows by the mean of their word vectors: a module that makes no tensors in ``forward``."""

    n_frozen_blocks = 0

    def __init__(self):
        super().__init__()
        self.words, self.head = nn.Embedding(STILL.vocab_size, 8), nn.Linear(8, 3)

    @property
    def backbone(self):
        return self

    @property
    def blocks(self):
        return [self.words]

    def get_input_embeddings(self):
        return self.words

    def set_input_embeddings(self, words):
        self.words = words

    def forward(self, ids, layout):
        means = [x.mean(0) for x in self.words(ids).split(layout.lengths)]
        return self.head(torch.stack(means))


def everything(folder, module):
    """Numbers of fits that are stopped, resumed and continued, and of the losses afterwards."""
    task, state, curves = make_task(), AdamState(), []
    settings = replace(SETTINGS, max_grad_norm=1.0, early_stopping=True, schedule="constant")
    for n_epochs in (1, 3):
        optimizer, rng = optimizer_for(module), np.random.default_rng(0)
        keeper = StateKeeper(folder, 1, resume=True)
        keeper.seed(0)
        keeper.attach(module, optimizer, rng, {})
        scores = iter([0.1, 0.2, 0.3])
        settings = replace(settings, max_epochs=n_epochs)
        curves.append(fit_loop(module, task, optimizer, settings, rng, scores.__next__, keeper=keeper).loss_curve)
    with compact_vocabulary(module, WORDS):
        optimizer = optimizer_for(module)
        state.restore(optimizer, module, WORDS)
        curves.append(fit_loop(module, task, optimizer, SETTINGS, np.random.default_rng(1)).loss_curve)
        state.keep(optimizer, module, WORDS)
        state.restore(optimizer_for(module), module, WORDS)
    weightless = make_task(weights=np.zeros(12))
    fit_loop(module, weightless, optimizer_for(module), SETTINGS, np.random.default_rng(1))
    return curves, mean_losses(module, task, 4, rng), [p.detach().clone() for p in module.parameters()]


@other_defaults
def test_a_fit_does_not_use_the_defaults(tmp_path, other):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = Bag()
    expected = everything(tmp_path / "expected", copy.deepcopy(module))
    with other():
        found = everything(tmp_path / "found", module)
    assert found[:2] == expected[:2]
    assert all(map(torch.equal, found[2], expected[2]))


def test_masked_batches_lie_on_the_host():
    encoded = make_task().encoded
    with torch.device("meta"):
        batch = MaskedLMTask(encoded, encoded, TOKENIZER, np.ones(12, np.float32), 0.3, alignment_weight=0.5).collate(
            np.arange(12), np.random.default_rng(0)
        )
    assert {part.device.type for part in (batch.ids, *batch.targets.values())} == {"cpu"}
