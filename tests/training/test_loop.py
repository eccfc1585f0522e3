"""The fit loop: accumulation, weights, early stopping, interrupts and losses that are not finite."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from skxlmr.estimators._sequence.task import SequenceTask
from skxlmr.nn import losses
from skxlmr.training import fit_loop, freeze
from skxlmr.training._state.fit import FitState

from .fits import (
    SETTINGS,
    STILL,
    Watched,
    assert_same_weights,
    fit,
    make_module,
    make_task,
    moved,
    optimizer_for,
    weights_of,
)

# Batches and weights --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_grad_norm", [None, 0.05])
def test_accumulated_batches_equal_one_large_batch(max_grad_norm):
    """22 rows make a last step of 4, 4 and 2 rows; the weights differ, so that a mean of means would show."""
    weights = np.random.default_rng(1).uniform(0.1, 5, 22)
    large, small = make_module(), make_module()
    options = {"max_grad_norm": max_grad_norm, "schedule": "linear", "warmup_ratio": 0.3}
    expected = fit(large, make_task(22, weights=weights), batch_size=12, **options)
    found = fit(small, make_task(22, weights=weights), batch_size=4, accumulate=3, **options)
    assert_same_weights(small, weights_of(large), 1e-10)
    np.testing.assert_allclose(found.loss_curve, expected.loss_curve, rtol=0, atol=1e-10)


def test_the_loss_of_an_epoch_is_the_weighted_mean_of_its_rows():
    weights = np.array([1, 2, 3, 4, 5, 6], np.float32)
    task, module = make_task(6, weights=weights), make_module()
    batch = task.collate(np.arange(6), np.random.default_rng(0))
    with torch.no_grad():
        expected = (task.losses(module, batch)["loss"].sum() / weights.sum()).item()
    history = fit(module, task, batch_size=2, max_epochs=1, learning_rate=1e-12)
    assert history.loss_curve == [pytest.approx(expected, abs=1e-8)]


def test_steps_whose_rows_weigh_nothing_change_nothing():
    weights = np.zeros(6, np.float32)
    module = make_module()
    before = weights_of(module)
    history = fit(module, make_task(6, weights=weights), batch_size=2, weight_decay=0.1)
    assert_same_weights(module, before)
    assert np.isnan(history.loss_curve).all()


def test_rows_of_weight_zero_do_not_count():
    """One large batch per step, which holds the same rows but for those of weight zero."""
    task = make_task(8, weights=[1, 0, 1, 1, 0, 0, 1, 1])
    kept = np.flatnonzero(task.weights)
    alone = SequenceTask(task.encoded.take(kept), task.targets[kept], task.weights[kept], losses.cross_entropy)
    found, expected = make_module(), make_module()
    fit(found, task, batch_size=8, max_epochs=3)
    fit(expected, alone, batch_size=8, max_epochs=3)
    assert_same_weights(found, weights_of(expected), 1e-10)


def test_gradients_are_clipped_to_the_norm():
    norms = []

    def watch(number):
        norms.append([p.grad for p in module.parameters() if p.grad is not None])

    module = make_module()
    before = weights_of(module)
    fit(module, Watched(make_task(), watch), max_grad_norm=1e-300, max_epochs=1)
    # AdamW divides by the size of the gradient, but next to its epsilon this gradient vanishes.
    assert_same_weights(module, before, 1e-12)
    assert norms == [[]] * 3  # every step starts without a gradient


@pytest.mark.parametrize("seed", [0, 1])
def test_the_same_generator_gives_the_same_fit(seed):
    first, second, other = make_module(), make_module(), make_module()
    fit(first, make_task(), seed=seed)
    fit(second, make_task(), seed=seed)
    fit(other, make_task(), seed=seed + 5)
    assert_same_weights(second, weights_of(first))
    assert moved(other, weights_of(first))


def test_mixed_precision_trains_close_to_float32():
    exact, rounded = make_module(torch.float32), make_module(torch.float32)
    expected = fit(exact, make_task()).loss_curve
    found = fit(rounded, make_task(), autocast=torch.bfloat16).loss_curve
    assert found != expected
    np.testing.assert_allclose(found, expected, atol=0.05)
    assert all(parameter.dtype == torch.float32 for parameter in rounded.parameters())


def test_verbose_shows_the_epochs_and_zero_is_silent(capsys):
    fit(make_module(), make_task(), verbose=0)
    assert capsys.readouterr() == ("", "")
    fit(make_module(), make_task(), verbose=1, validate=lambda: 0.25)
    out, err = capsys.readouterr()
    assert out == "" and "epoch 1/2 loss" in err and "epoch 2/2 loss" in err and "validation score 0.2500" in err


# Train mode -----------------------------------------------------------------------------------------------------------


def test_dropout_is_on_during_the_steps_only():
    module, modes = make_module(), []
    fit(
        module,
        Watched(make_task(), lambda number: modes.append(module.training)),
        lambda: modes.append(module.training) or 0.0,
    )
    assert modes == [True, True, True, False] * 2
    assert not any(part.training for part in module.modules())


def test_frozen_parts_keep_their_dropout_off():
    module, modes = make_module(), []
    freeze(module, 1)

    def watch(number):
        encoder = module.roberta
        modes.append(
            [encoder.embeddings.dropout.training, *(layer.attention.self.training for layer in encoder.encoder.layer)]
        )
        assert module.classifier.dropout.training

    fit(module, Watched(make_task(), watch), max_epochs=1)
    assert modes == [[False, False, True]] * 3


# Early stopping -------------------------------------------------------------------------------------------------------


class Scores:
    """Returns scores in turn, and keeps the weights of each call."""

    def __init__(self, module, scores):
        self.module, self.scores, self.weights = module, iter(scores), []

    def __call__(self):
        self.weights.append(weights_of(self.module))
        return next(self.scores)


def fit_with_scores(scores, **options):
    module = make_module()
    validate = Scores(module, scores)
    history = fit(module, make_task(), validate, max_epochs=6, **options)
    return module, validate, history


def test_early_stopping_restores_the_best_epoch():
    module, validate, history = fit_with_scores([0.1, 0.5, 0.4, 0.3, 0.9, 0.9], early_stopping=True)
    assert history.validation_scores == [0.1, 0.5, 0.4, 0.3] and len(history.loss_curve) == 4
    assert_same_weights(module, validate.weights[1])
    assert moved(module, validate.weights[3])
    assert history.interrupted is None


def test_gains_below_tol_do_not_count_as_progress_but_the_best_is_still_kept():
    module, validate, history = fit_with_scores([0.5, 0.505, 0.509, 0.9], early_stopping=True, tol=0.01)
    assert history.validation_scores == [0.5, 0.505, 0.509]
    assert_same_weights(module, validate.weights[2])


def test_patience():
    for patience, n_epochs in ((1, 2), (3, 4), (9, 6)):
        history = fit_with_scores([0.5] + [0.1] * 5, early_stopping=True, n_iter_no_change=patience)[2]
        assert len(history.loss_curve) == n_epochs
    same = fit_with_scores([0.5] * 6, early_stopping=True, n_iter_no_change=1, tol=0.0)[2]
    assert len(same.loss_curve) == 2  # an equal score is no progress


def test_the_best_epoch_is_restored_even_if_the_fit_ran_to_its_end():
    module, validate, history = fit_with_scores([0.1, 0.2, 0.3, 0.9, 0.4, 0.95], early_stopping=True)
    assert len(history.loss_curve) == 6
    assert_same_weights(module, validate.weights[5])
    module, validate, history = fit_with_scores([0.1, 0.2, 0.3, 0.5, 0.9, 0.4], early_stopping=True)
    assert_same_weights(module, validate.weights[4])


def test_scores_without_early_stopping_are_only_recorded():
    module, validate, history = fit_with_scores([0.9, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert len(history.validation_scores) == 6
    assert_same_weights(module, validate.weights[5])


@pytest.mark.parametrize("early_stopping", [False, True])
def test_best_weights_are_kept_only_for_early_stopping(monkeypatch, early_stopping):
    states = []
    with_score = FitState.with_score
    monkeypatch.setattr(FitState, "with_score", lambda *args: states.append(with_score(*args)) or states[-1])
    fit_with_scores([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], early_stopping=early_stopping)
    assert [state.best is not None for state in states] == [early_stopping] * 6


def test_without_validation_there_are_no_scores():
    assert fit(make_module(), make_task()).validation_scores == []


# Interrupts -----------------------------------------------------------------------------------------------------------


def interrupted_at(number):
    def interrupt(batch):
        if batch == number:
            raise KeyboardInterrupt

    return interrupt


def test_an_interrupt_puts_back_the_last_finished_epoch():
    """Three batches per epoch: the fifth is in the middle of the second epoch."""
    module, expected = make_module(), make_module()
    history = fit(module, Watched(make_task(), interrupted_at(4)), max_epochs=5)
    fit(expected, make_task(), max_epochs=1)
    assert isinstance(history.interrupted, KeyboardInterrupt)
    assert len(history.loss_curve) == 1
    assert_same_weights(module, weights_of(expected))
    assert not module.training


def test_an_interrupt_in_the_first_epoch_is_raised():
    module = make_module()
    with pytest.raises(KeyboardInterrupt):
        fit(module, Watched(make_task(), interrupted_at(2)))
    assert not module.training


def test_an_interrupt_with_early_stopping_puts_back_the_best_epoch():
    module = make_module()
    validate = Scores(module, [0.9, 0.1, 0.2])
    history = fit(module, Watched(make_task(), interrupted_at(7)), validate, max_epochs=5, early_stopping=True)
    assert history.interrupted and history.validation_scores == [0.9, 0.1]
    assert_same_weights(module, validate.weights[0])


# Losses and gradients that are not finite -----------------------------------------------------------------------------


def regression_task(targets):
    task = make_task(len(targets))
    targets = np.repeat(np.asarray(targets, np.float32)[:, None], 3, 1)
    return SequenceTask(task.encoded, targets, task.weights, losses.squared_error)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize(
    "options", [{"batch_size": 12}, {"batch_size": 4}, {"batch_size": 4, "accumulate": 3}], ids=str
)
def test_a_loss_that_is_not_finite_stops_within_its_step_and_names_the_rows(bad, options):
    targets = np.zeros(12)
    targets[[3, 8]] = bad
    module = make_module()
    snapshots = []
    task = Watched(regression_task(targets), lambda number: snapshots.append(weights_of(module)))
    with pytest.raises(
        FloatingPointError, match=r"the loss is not finite at rows [38, ]+ of the training data"
    ) as error:
        fit(module, task, **options)
    named = {int(row) for row in str(error.value).split("rows ")[1].split(" of")[0].split(", ")}
    rows_of_step = np.concatenate(task.rows[: len(snapshots)][-options.get("accumulate", 1) :])
    assert named == {3, 8} & set(rows_of_step.tolist())
    assert_same_weights(module, snapshots[-1])
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert not module.training and all(parameter.grad is None for parameter in module.parameters())


def test_many_bad_rows_are_counted():
    with pytest.raises(
        FloatingPointError, match="at rows 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more of the training data"
    ):
        fit(make_module(), regression_task([np.nan] * 12), batch_size=12)


def test_finite_losses_whose_sum_is_not_name_all_rows():
    task = make_task(4, weights=np.full(4, 1.5e38))
    with pytest.raises(FloatingPointError, match="the loss is not finite at rows 0, 1, 2, 3 of the training data"):
        fit(make_module(torch.float32), task, batch_size=4)


@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
def test_a_gradient_that_is_not_finite_stops_and_names_the_rows_of_the_step(max_grad_norm):
    """The root of zero: the loss is 0, its slope infinite."""

    def loss(logits, targets):
        x = logits[:, 0]
        zero = torch.where(targets == 1, x - x.detach(), 1.0)
        return torch.where(targets == 1, zero.sqrt(), x.square())

    task, targets = make_task(12), np.zeros(12, np.int64)
    targets[5] = 1
    module = make_module()
    snapshots = []
    watched = Watched(
        SequenceTask(task.encoded, targets, task.weights, loss), lambda number: snapshots.append(weights_of(module))
    )
    with pytest.raises(FloatingPointError, match="the gradient is not finite at rows") as error:
        fit(module, watched, batch_size=4, max_grad_norm=max_grad_norm)
    rows = sorted(watched.rows[len(snapshots) - 1].tolist())
    assert 5 in rows and f"rows {', '.join(map(str, rows))} of the training data" in str(error.value)
    assert_same_weights(module, snapshots[-1])
    assert not module.training and all(parameter.grad is None for parameter in module.parameters())


def test_a_gradient_whose_norm_overflows_stops():
    """Clipping to an infinite norm would turn it into zeros and NaN."""

    def loss(logits, targets):
        return (logits - logits.detach())[:, 0] * 1e200

    task, module = make_task(4), make_module()
    before = weights_of(module)
    with pytest.raises(FloatingPointError, match="the gradient is not finite at rows 0, 1, 2, 3"):
        fit(module, SequenceTask(task.encoded, task.targets, task.weights, loss), max_grad_norm=1.0)
    assert_same_weights(module, before)


def test_rows_of_each_batch_hold_every_row_once_an_epoch():
    task = Watched(make_task(10))
    fit(make_module(config=STILL), task, batch_size=4, max_epochs=3)
    epochs = np.split(np.concatenate(task.rows), 3)
    assert all(sorted(rows) == list(range(10)) for rows in epochs)
    assert epochs[0].tolist() != epochs[1].tolist()


@pytest.mark.parametrize("sizes", [(10, 4, 14), (4, 14, 10), (22, 2, 22)], ids=str)
def test_epochs_of_other_sizes_see_each_row_and_follow_the_schedule(sizes):
    """Other segmentations of a text may have more windows, or fewer; the schedule counts the steps of the first task."""
    tasks, rates = [Watched(make_task(n)) for n in sizes], []
    module, left = make_module(), iter(tasks)
    optimizer = optimizer_for(module, learning_rate=0.9)
    optimizer.register_step_pre_hook(lambda optimizer, *_: rates.append(optimizer.param_groups[0]["lr"]))
    settings = replace(SETTINGS, max_epochs=3, schedule="linear")
    fit_loop(module, make_task(12), optimizer, settings, np.random.default_rng(0), renew=lambda rng: next(left))
    for task, n_rows in zip(tasks, sizes, strict=True):
        assert sorted(np.concatenate(task.rows)) == list(range(n_rows))
    n_steps = [len(task.rows) for task in tasks]
    of_epochs = np.split(rates, np.cumsum(n_steps)[:-1])
    for epoch, (of_epoch, n) in enumerate(zip(of_epochs, n_steps, strict=True)):
        assert len(of_epoch) == n
        np.testing.assert_allclose(of_epoch, [0.9 - 0.1 * (3 * epoch + step * 3 // n) for step in range(n)])
