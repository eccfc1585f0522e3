"""Small batches that share their negatives: values, gradients and whole fits equal those of one large batch."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from skxlmr.training import fit_loop
from skxlmr.training._gradient_cache import batch_losses, cached_losses
from skxlmr.training._task import JointTask
from tests.estimators.dialogues.dialogues import make_task
from tests.nn.reference import TINY, make_pair
from tests.training.fits import SETTINGS, STILL, Watched, assert_same_weights, optimizer_for, weights_of
from tests.training.fits import make_task as make_sequence_task

N_TURNS = [5, 2, 7, 3, 4, 6, 1, 8, 3, 5, 2, 4, 6, 3, 5, 7]
CPU = torch.device("cpu")
# fp64 agrees to 1e-12, fp32 to 1e-5 of the gradient's largest entry
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}
LIVELY = replace(TINY, num_hidden_layers=2, hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2)


def module(dtype=torch.float64, config=STILL):
    return make_pair("mlm", config, dtype)[0].train()


def gradients(model, task, batch_size):
    """Mean losses and gradients of one step, divided by the totals as in the fit loop."""
    model.zero_grad()
    rng = np.random.default_rng(0)
    batches = [
        task.collate(np.arange(start, min(start + batch_size, task.n_rows)), rng)
        for start in range(0, task.n_rows, batch_size)
    ]
    totals = {name: sum(batch.totals[name] for batch in batches) for name in batches[0].totals}
    values = dict.fromkeys(totals, 0.0)
    for _, terms in batch_losses(model, task, batches, CPU, None):
        sum(terms[name].sum() / totals[name] for name in terms).backward()
        values = {name: values[name] + terms[name].sum().item() / totals[name] for name in terms}
    return values, {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("batch_size", [2, 3, 8])
def test_small_batches_give_the_gradient_of_a_large_one(dtype, batch_size):
    model = module(dtype)
    task = make_task(N_TURNS, weights=np.linspace(0.5, 2, 16), contrastive_weight=0.7)
    values, expected = gradients(model, task, 16)
    found_values, found = gradients(model, task, batch_size)
    for name in values:
        assert found_values[name] == pytest.approx(values[name], rel=TOLERANCE[dtype], abs=TOLERANCE[dtype])
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    for name, gradient in expected.items():
        torch.testing.assert_close(
            found[name], gradient, rtol=0, atol=TOLERANCE[dtype] * scale, msg=lambda m, n=name: f"{n} of {scale}: {m}"
        )


def test_without_the_cache_they_would_not():
    """The gradients that agree to 1e-12 above differ if each batch sees only its own negatives."""
    model, task = module(), make_task(N_TURNS)
    _, expected = gradients(model, task, 16)
    model.zero_grad()
    rng = np.random.default_rng(0)
    batches = [task.collate(np.arange(start, start + 2), rng) for start in range(0, 16, 2)]
    totals = {name: sum(batch.totals[name] for batch in batches) for name in batches[0].totals}
    for batch in batches:
        terms = task.losses(model, batch)
        sum(terms[name].sum() / totals[name] for name in terms).backward()
    largest = max((p.grad - expected[name]).abs().max().item() for name, p in model.named_parameters())
    assert largest > 1e-3


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 5e-6)], ids=["fp64", "fp32"])
def test_a_fit_of_2_times_8_equals_one_of_16(dtype, tolerance):
    """In fp32 some gradients are only rounding (a key's bias changes no attention), and Adam scales them up to full steps."""
    fitted = []
    for batch_size, accumulate in ((16, 1), (2, 8)):
        model = module(dtype)
        settings = replace(SETTINGS, batch_size=batch_size, accumulate=accumulate, max_epochs=2, max_grad_norm=1.0)
        task = make_task(N_TURNS * 2)
        history = fit_loop(model, task, optimizer_for(model, 1e-4), settings, np.random.default_rng(0))
        fitted.append((model, history.loss_curve))
    assert fitted[1][1] == pytest.approx(fitted[0][1], rel=1e-6)
    assert_same_weights(fitted[1][0], weights_of(fitted[0][0]), tolerance)


def test_both_passes_draw_the_same_dropout():
    model, task = module(config=LIVELY), make_task(N_TURNS)
    rng = np.random.default_rng(0)
    batches = [task.collate(np.arange(start, start + 4), rng) for start in range(0, 16, 4)]
    passes = {"first": [], "second": []}

    class Spy:
        compares_rows = True

        def vectors(self, model, batch):
            passes["first"].append(task.vectors(model, batch))
            return passes["first"][-1]

        def joint_losses(self, vectors, batches):
            return task.joint_losses(vectors, batches)

        def losses(self, model, batch, joint=None):
            def watched(vectors):
                passes["second"].append(vectors.detach())
                return joint(vectors)

            return task.losses(model, batch, watched)

    assert isinstance(Spy(), JointTask)
    torch.manual_seed(0)
    terms = [part["contrastive"] for _, part in cached_losses(model, Spy(), batches, CPU, None)]
    assert all(map(torch.equal, passes["first"], passes["second"])) and len(passes["second"]) == 4
    again = task.vectors(model, batches[0])
    assert not torch.equal(again, passes["first"][0])  # dropout is on
    # and the values are those of the vectors of all batches together
    torch.testing.assert_close(torch.cat(terms), task.joint_losses(torch.cat(passes["first"]), batches))


@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradients_with_dropout_are_those_of_the_drawn_network(checkpointing):
    """A cached step equals one graph over all batches that draws the same dropout."""
    model, task = module(config=LIVELY), make_task(N_TURNS)
    model.roberta.gradient_checkpointing = checkpointing
    torch.manual_seed(3)
    _, found = gradients(model, task, 4)
    model.zero_grad()
    rng = np.random.default_rng(0)
    batches = [task.collate(np.arange(start, start + 4), rng) for start in range(0, 16, 4)]
    totals = {name: sum(batch.totals[name] for batch in batches) for name in batches[0].totals}
    torch.manual_seed(3)
    vectors, masked = [], 0.0
    for batch in batches:
        terms = task.losses(model, batch, lambda x: vectors.append(x) or x)
        masked = masked + terms["masked_lm"].sum()
    joint = task.joint_losses(torch.cat(vectors), batches).sum()
    (masked / totals["masked_lm"] + joint / totals["contrastive"]).backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=0, atol=1e-12, msg=lambda m, n=name: n + m)


def test_tasks_that_compare_no_rows_are_encoded_once():
    model, task = module(), make_task(N_TURNS, contrastive_weight=0.0)
    calls = []
    model.roberta.register_forward_hook(lambda *_: calls.append(1))
    gradients(model, task, 4)
    assert len(calls) == 4
    calls.clear()
    gradients(model, make_task(N_TURNS), 4)
    assert len(calls) == 8
    calls.clear()
    gradients(model, make_task(N_TURNS), 16)  # a single batch has all negatives
    assert len(calls) == 1
    assert not isinstance(make_sequence_task(), JointTask) and not isinstance(Watched(task), JointTask)


def test_rows_that_diverge_are_named():
    model, task = module(), make_task(N_TURNS)
    with torch.no_grad():
        model.roberta.encoder.layer[0].output.dense.bias[0] = torch.inf
    settings = replace(SETTINGS, batch_size=2, accumulate=8)
    with pytest.raises(FloatingPointError, match="the loss is not finite at rows"):
        fit_loop(model, task, optimizer_for(model), settings, np.random.default_rng(0))
