"""The scale of the loss in float16: torch's GradScaler is the oracle, on a CPU, where float16 is slow but the same."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from skxlmr.training import Diverged, LossScale, StateKeeper, fit_loop
from skxlmr.training import loop as loop_module
from skxlmr.training._optimizer import learning_rate_factor
from skxlmr.utils._errors import CheckpointError
from tests.estimators.dialogues.dialogues import make_task as make_dialogues
from tests.nn.reference import make_pair

from .fits import (
    SETTINGS,
    STILL,
    Watched,
    assert_same_weights,
    fit,
    make_module,
    make_task,
    optimizer_for,
    weights_of,
)
from .test_resumable_state import FILE, Stop, forbidden, rewritten, setting, stopping_at

HALF = {"autocast": torch.float16, "max_epochs": 1, "max_grad_norm": 1.0}


def scaled_fit(module, task, scale, seed=0, **changes):
    settings = replace(SETTINGS, **HALF | changes)
    optimizer = optimizer_for(module)
    history = fit_loop(module, task, optimizer, settings, np.random.default_rng(seed), loss_scale=scale)
    return history, optimizer


def at(scale, **options):
    """A loss scale that starts at this one."""
    made = LossScale(**options)
    made.scale = scale
    return made


# The rules ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_the_scale_is_that_of_torch(seed):
    parameter = torch.nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([parameter], lr=0.0)
    theirs = torch.amp.GradScaler("cpu", growth_interval=3)
    ours = LossScale(steps_to_grow=3)
    assert (
        ours.scale == theirs.get_scale()
        and LossScale().steps_to_grow == torch.amp.GradScaler("cpu").get_growth_interval()
    )
    for is_finite in np.random.default_rng(seed).random(60) < 0.8:
        parameter.grad = torch.tensor([1.0, 0.5 if is_finite else torch.inf, -2.0])
        theirs.scale(torch.ones(1))
        theirs.step(optimizer)
        theirs.update()
        (ours.end_step if is_finite else ours.skip_step)()
        assert ours.scale == theirs.get_scale()


def test_the_scale_stays_within_what_float32_divides_by():
    high, low = at(2.0**96, steps_to_grow=1), at(1.0)
    high.end_step()
    low.skip_step()
    assert (high.scale, low.scale, low.n_skipped) == (2.0**96, 1.0, 1)
    assert torch.tensor(1 / high.scale, dtype=torch.float32) * torch.tensor(high.scale) == 1


@pytest.mark.parametrize(("accumulate", "start"), [(1, 2.0**16), (3, 2.0**32)])  # the second overflows at first
def test_the_weights_are_those_of_a_loop_with_torch_s_scaler(accumulate, start):
    """To the last bit: loss, gradients, clipping, skipped steps."""
    ours, theirs, scale = make_module(torch.float32), make_module(torch.float32), at(start)
    rows, task = [], make_task(96)
    history, _ = scaled_fit(ours, Recorded(task, rows), scale, batch_size=2, accumulate=accumulate)
    assert (scale.n_skipped > 0) == (start > 2**16) and scale.n_skipped < 48 // accumulate

    scaler, reference = torch.amp.GradScaler("cpu", init_scale=start), optimizer_for(theirs)
    theirs.train()
    rng = np.random.default_rng(0)
    for first in range(0, 48, accumulate):
        batches = [task.collate(part, rng) for part in rows[first : first + accumulate]]
        total = sum(batch.totals["loss"] for batch in batches)
        for batch in batches:
            with torch.autocast("cpu", torch.float16):
                loss = task.losses(theirs, batch)["loss"].sum() / total
            scaler.scale(loss).backward()
        scaler.unscale_(reference)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        scaler.step(reference)
        scaler.update()
        reference.zero_grad()
    assert_same_weights(ours, weights_of(theirs))
    assert scale.scale == scaler.get_scale() and history.n_skipped == scale.n_skipped


class Recorded(Watched):
    """Records the rows of the batches alone."""

    def __init__(self, task, rows):
        super().__init__(task)
        self.rows = rows


# What a scale may not change ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_grad_norm", [None, 0.1])
def test_scaling_alone_changes_no_bit(max_grad_norm):
    """A power of two leaves the digits as they are, and gradients are clipped after it is divided out."""
    for accumulate in (1, 3):
        plain, scaled = make_module(), make_module()
        changes = {"batch_size": 2, "accumulate": accumulate, "max_grad_norm": max_grad_norm, "max_epochs": 1}
        expected = fit(plain, make_task(12), **changes).loss_curve
        history, _ = scaled_fit(scaled, make_task(12), LossScale(), autocast=None, **changes)
        assert history.loss_curve == expected
        assert_same_weights(scaled, weights_of(plain))


def test_nor_with_gradient_caching():
    """The dialogue model's joint loss over accumulated batches."""
    modules, curves = [make_pair("mlm", STILL, torch.float64)[0] for _ in range(2)], []
    for module, scale in zip(modules, (None, LossScale()), strict=True):
        task = make_dialogues([5, 2, 7, 3, 4, 6, 1, 8])
        changes = {"batch_size": 2, "accumulate": 4, "autocast": None}
        curves.append(scaled_fit(module, task, scale, **changes)[0].loss_curve)
    assert curves[0] == curves[1]
    assert_same_weights(modules[1], weights_of(modules[0]))


def test_gradient_caching_in_float16_is_near_float32():
    modules, curves = [make_pair("mlm", STILL)[0] for _ in range(2)], []
    for module, half in zip(modules, (False, True), strict=True):
        task = make_dialogues([5, 2, 7, 3, 4, 6, 1, 8])
        scale, autocast = (LossScale(), torch.float16) if half else (None, None)
        changes = {"batch_size": 2, "accumulate": 4, "max_epochs": 3, "autocast": autocast}
        curves.append(scaled_fit(module, task, scale, **changes)[0].loss_curve)
    assert curves[0] != curves[1]
    np.testing.assert_allclose(curves[1], curves[0], rtol=2e-3)


# Skipped steps --------------------------------------------------------------------------------------------------------


def test_a_skipped_step_changes_no_weight_and_not_the_schedule(monkeypatch):
    places, before = [], []

    def factor(place, *args):
        places.append((place, scale.n_skipped))
        return learning_rate_factor(place, *args)

    monkeypatch.setattr(loop_module, "learning_rate_factor", factor)
    module, scale = make_module(torch.float32), at(2.0**32)
    task = Watched(make_task(96), lambda number: before.append(weights_of(module)))
    history, optimizer = scaled_fit(module, task, scale, schedule="linear")
    n_skipped = history.n_skipped
    assert 3 < n_skipped < 20
    assert [place for place, _ in places] == [i - skipped for i, (_, skipped) in enumerate(places)]
    before.append(weights_of(module))
    was_skipped = np.diff([skipped for _, skipped in places] + [n_skipped]) > 0
    for i, skipped in enumerate(was_skipped):
        assert all(torch.equal(before[i][name], before[i + 1][name]) for name in before[i]) == skipped, i
    assert {int(state["step"]) for state in optimizer.state.values()} == {24 - n_skipped}
    assert history.loss_curve[0] == pytest.approx(np.mean(task.step_losses))  # the rows of skipped steps were seen


def test_the_epochs_tell_of_skipped_steps(capsys):
    scaled_fit(make_module(torch.float32), make_task(96), at(2.0**32), verbose=1)
    assert " steps skipped so far)" in capsys.readouterr().err
    scaled_fit(make_module(torch.float32), make_task(8), LossScale(), verbose=1)
    assert "skipped" not in capsys.readouterr().err


class Infinite(Watched):
    """The loss is finite, its gradient never is."""

    def losses(self, module, batch):
        terms = super().losses(module, batch)
        zero = (module.classifier.dense.weight.sum() * 0.0).abs().sqrt()  # slope of infinity at 0
        return {"loss": terms["loss"] + zero}


def test_gradients_that_overflow_at_every_scale_end_in_the_error():
    module, scale = make_module(torch.float32), LossScale()
    before, task = weights_of(module), Infinite(make_task(96))
    with pytest.raises(Diverged, match=r"the gradient is not finite at rows .* \(float16 ends at 65504\): lower"):
        scaled_fit(module, task, scale, max_epochs=9)
    assert len(task.step_losses) == 17  # from 2**16 down to 1
    assert_same_weights(module, before)


def test_a_loss_that_is_not_finite_ends_in_the_error_at_once():
    """No scale helps: it is computed before it is scaled."""
    module, task = make_module(torch.float32), Watched(make_task(12))
    with torch.no_grad():
        module.roberta.encoder.layer[0].intermediate.dense.weight.mul_(1e6)
    with pytest.raises(
        Diverged, match=r"the loss is not finite .* \(float16 ends at 65504\): lower .* dtype='float32'"
    ):
        scaled_fit(module, task, LossScale())
    assert len(task.step_losses) == 1


# The state on disk ----------------------------------------------------------------------------------------------------

ABOUT = {"the precision": "torch.float16"}


def kept_fit(folder, before_batch=lambda number: None, *, resume=False, scale=None, about=ABOUT):
    """Module and scale of a fit of three epochs of six steps; every step writes its state, unless the folder is None."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        module, rng = make_module(torch.float32), np.random.default_rng(5)
        optimizer, scale = optimizer_for(module), scale or at(2.0**34, steps_to_grow=4)
        keeper = None
        if folder is not None:
            keeper = StateKeeper(folder, 1, resume)
            keeper.seed(5)
            keeper.attach(module, optimizer, rng, about, scale)
        settings = replace(SETTINGS, **HALF | {"max_epochs": 3, "schedule": "linear"})
        task = Watched(make_task(24), before_batch)
        history = fit_loop(module, task, optimizer, settings, rng, None, None, keeper, None, scale)
    return module, scale, history


def test_a_resumed_fit_continues_with_its_scale(tmp_path):
    expected, told, history = kept_fit(None)
    assert told.n_skipped > 1 and told.scale != 2.0**34
    for step in (1, 8):
        with pytest.raises(Stop):
            kept_fit(tmp_path / str(step), stopping_at(step))
        module, scale, resumed = kept_fit(tmp_path / str(step), resume=True, scale=at(8.0, steps_to_grow=4))
        assert scale.state() == told.state()
        assert_same_weights(module, weights_of(expected))
        assert resumed.loss_curve == history.loss_curve
        assert resumed.n_skipped == told.n_skipped


BROKEN = {
    "missing": lambda saved: saved.pop("loss_scale"),
    "kind": setting("loss_scale", value=[1]),
    "no scale": lambda saved: saved["loss_scale"].pop("scale"),
    **{
        f"scale {value}": setting("loss_scale", "scale", value=value)
        for value in (0.0, -2.0, 3.0, 0.5, 2.0**97, float("nan"), float("inf"), 2, "2", None, True)
    },
    "good": setting("loss_scale", "n_good", value=-1),
    "skipped": setting("loss_scale", "n_skipped", value=1.0),
}


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The state of a fit that was stopped in the second epoch."""
    folder = tmp_path_factory.mktemp("state")
    with pytest.raises(Stop):
        kept_fit(folder, stopping_at(7))
    return (folder / FILE).read_bytes()


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN)
def test_a_broken_scale_is_refused(stopped, tmp_path, change):
    (tmp_path / FILE).write_bytes(stopped)
    rewritten(tmp_path / FILE, change)
    with pytest.raises(CheckpointError, match="is not a complete state of a fit"):
        kept_fit(tmp_path, forbidden, resume=True)


def test_a_state_without_scale_still_resumes(tmp_path):
    """As every fit in another precision writes it."""
    with pytest.raises(Stop):
        kept_fit_without(tmp_path, stopping_at(4))
    assert len(kept_fit_without(tmp_path, resume=True).loss_curve) == 3


def kept_fit_without(folder, before_batch=lambda number: None, resume=False):
    module, rng = make_module(torch.float32), np.random.default_rng(5)
    optimizer, keeper = optimizer_for(module), StateKeeper(folder, 1, resume)
    keeper.seed(5)
    keeper.attach(module, optimizer, rng, ABOUT)
    settings = replace(SETTINGS, max_epochs=3)
    return fit_loop(module, Watched(make_task(12), before_batch), optimizer, settings, rng, None, None, keeper)
