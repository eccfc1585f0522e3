"""A fit on a CPU computes its linear layers with oneDNN, and its next step has the memory of the last gradients."""

from unittest.mock import patch

import numpy as np
import pytest
import torch

from skxlmr.nn import TokenLayout
from skxlmr.nn.kernels import linear as kernels
from skxlmr.nn.kernels import onednn, packed
from skxlmr.training import freeze
from skxlmr.training._optimizer import train_mode
from skxlmr.training._step_batches import StepBatches
from skxlmr.training.step import TrainStep
from tests.processors import BFLOAT16, ONEDNN

from .fits import fit, make_module, make_task, optimizer_for


@ONEDNN
@pytest.mark.parametrize(
    ("precision", "tolerance"),
    [(None, 1e-5), pytest.param(torch.bfloat16, 0.02, marks=BFLOAT16)],
)
def test_every_linear_layer_of_a_fit_is_onednn_s(monkeypatch, precision, tolerance):
    monkeypatch.setattr(onednn, "blas_trains_faster", lambda: False)
    curves = []
    for is_trained in (kernels.is_trained, lambda *_: False):
        module = make_module(torch.float32)
        n_layers = sum(isinstance(part, torch.nn.Linear) for part in module.modules())
        with (
            patch.object(kernels, "is_trained", is_trained),
            patch.object(kernels, "trained_linear", wraps=kernels.trained_linear) as calls,
        ):
            history = fit(module, make_task(), autocast=precision)
        curves.append((sum(len(call.args) // 2 for call in calls.call_args_list), history.loss_curve))
    (n_calls, ours), (none, torch_s) = curves
    assert n_calls == 6 * n_layers and none == 0
    np.testing.assert_allclose(ours, torch_s, rtol=0, atol=tolerance)


def test_one_gradient_is_kept_from_step_to_step_and_none_after_the_fit():
    module, task, rng = make_module(torch.float32), make_task(), np.random.default_rng(0)
    step = TrainStep(module, optimizer_for(module), None, None)
    batches = StepBatches(4, 1, step.device, rng)
    batches.begin_epoch(task, [[np.arange(4)], [np.arange(4, 8)]])
    for _ in range(2):
        step.run(batches, 1.0)
        assert all(parameter.grad is None for parameter in module.parameters())
        assert step._last is not None
    step.clear_gradients()
    assert step._last is None


@ONEDNN
def test_what_predictions_keep_of_weights_that_learn_is_given_back():
    module = make_module(torch.float32).eval()
    ids, layout = torch.arange(5, 15).repeat(200), TokenLayout([10] * 200)
    with kernels.fast_inference():
        module(ids, layout)
    layers = [
        [part for part in block.modules() if isinstance(part, torch.nn.Linear)] for block in module.backbone.blocks[1:]
    ]
    assert all(any(part in packed._kept for part in parts) for parts in layers)
    freeze(module, 1)
    train_mode(module)
    frozen, *learning = layers
    assert any(part in packed._kept for part in frozen)
    assert not any(part in packed._kept for parts in learning for part in parts)
