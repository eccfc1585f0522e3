"""Schedules, parameter groups and frozen layers."""

import math

import numpy as np
import pytest
import torch
import transformers

from skxlmr.nn import XLMRobertaForMaskedLM
from skxlmr.training import SCHEDULES, freeze
from skxlmr.training._optimizer import learning_rate_factor

from .fits import STILL, fit, make_module, make_task, moved, optimizer_for, weights_of


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.1, 0.33, 1.0])
@pytest.mark.parametrize("n_steps", [2, 7, 50])
def test_schedules_equal_the_reference(schedule, warmup_ratio, n_steps):
    n_warmup = math.ceil(n_steps * warmup_ratio)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = {
        "linear": lambda: transformers.get_linear_schedule_with_warmup(optimizer, n_warmup, n_steps),
        "cosine": lambda: transformers.get_cosine_schedule_with_warmup(optimizer, n_warmup, n_steps),
        "constant": lambda: transformers.get_constant_schedule_with_warmup(optimizer, n_warmup),
    }[schedule]()
    for step in range(n_steps):
        assert learning_rate_factor(step, n_steps, schedule, warmup_ratio) == pytest.approx(
            reference.get_last_lr()[0], abs=1e-12
        )
        optimizer.step()
        reference.step()


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.1, 1.0])
def test_every_schedule_learns_however_short(schedule, warmup_ratio):
    """The reference's first step of a warm-up has rate zero: as the only step it would learn nothing."""
    assert learning_rate_factor(0, 1, schedule, warmup_ratio) == 1
    for n_steps in range(2, 12):
        assert all(learning_rate_factor(step, n_steps, schedule, warmup_ratio) > 0 for step in range(1, n_steps))


def test_the_loop_uses_the_schedule(monkeypatch):
    rates = []
    step = torch.optim.AdamW.step

    def record(optimizer, *args, **kwargs):
        rates.append([group["lr"] for group in optimizer.param_groups])
        return step(optimizer, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", record)
    fit(make_module(), make_task(8), schedule="linear", warmup_ratio=0.5, learning_rate=0.01, batch_size=4)
    assert [rate[0] for rate in rates] == pytest.approx([0, 0.005, 0.01, 0.005])
    assert all(len(set(rate)) == 1 for rate in rates)


def test_a_fit_of_one_step_learns():
    module = make_module()
    before = weights_of(module)
    fit(module, make_task(8), max_epochs=1, batch_size=4, accumulate=2, warmup_ratio=0.1, schedule="linear")
    assert moved(module, before)


def settings_by_name(module, **options):
    """(rate, decay) of each parameter of the optimiser."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    groups = optimizer_for(module, **options).param_groups
    found = {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(found)
    assert len({(group["lr"], group["weight_decay"]) for group in groups}) == len(groups)
    return found


def test_biases_and_layer_norms_do_not_decay():
    found = settings_by_name(make_module(), weight_decay=0.1)
    assert found.keys() == dict(make_module().named_parameters()).keys()
    undecayed = {name for name, (_, decay) in found.items() if decay == 0}
    assert undecayed == {name for name in found if name.endswith("bias") or "LayerNorm" in name}
    assert {decay for _, decay in found.values()} == {0, 0.1}
    assert {rate for rate, _ in found.values()} == {1e-3}


def test_the_language_modelling_head_does_not_decay_its_bias_and_norm():
    found = settings_by_name(XLMRobertaForMaskedLM(STILL), weight_decay=0.1)
    head = {name: decay for name, (_, decay) in found.items() if name.startswith("lm_head")}
    assert head == {
        "lm_head.bias": 0,
        "lm_head.dense.weight": 0.1,
        "lm_head.dense.bias": 0,
        "lm_head.layer_norm.weight": 0,
        "lm_head.layer_norm.bias": 0,
    }


def test_rates_fall_towards_the_embeddings_and_the_head_has_its_own_rate():
    found = settings_by_name(make_module(), learning_rate=0.01, head_learning_rate=0.5, layer_decay=0.5)
    for name, (rate, _) in found.items():
        part = name.split(".")
        if part[0] == "classifier":
            assert rate == 0.5
        elif part[1] == "embeddings":
            assert rate == pytest.approx(0.01 * 0.5**2), name
        else:
            assert rate == pytest.approx(0.01 * 0.5 ** (1 - int(part[3]))), name
    assert settings_by_name(make_module(), learning_rate=0.01)["classifier.dense.weight"][0] == 0.01


@pytest.mark.parametrize("n_frozen_layers", [0, 1, 2, np.int64(1)])
def test_frozen_layers_do_not_move(n_frozen_layers):
    module = make_module()
    freeze(module, n_frozen_layers)
    before = weights_of(module)
    fit(module, make_task(), max_epochs=1, weight_decay=0.1)
    frozen = ("roberta.embeddings", *(f"roberta.encoder.layer.{i}." for i in range(n_frozen_layers)))
    still = {name for name in before if n_frozen_layers and name.startswith(frozen)}
    # A key's bias shifts all scores of a query by the same amount: its gradient is zero up to rounding.
    assert moved(module, before) >= {name for name in before.keys() - still if "key.bias" not in name}
    assert not moved(module, before) & still
    assert settings_by_name(module).keys() == before.keys() - still


def test_freezing_fewer_layers_thaws_the_others():
    module = make_module()
    freeze(module, 2)
    freeze(module, 0)
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_nothing_to_learn():
    module = make_module().requires_grad_(False)
    with pytest.raises(ValueError, match="every parameter is frozen: lower n_frozen_layers"):
        optimizer_for(module)
