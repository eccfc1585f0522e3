"""The fit loop: from rows and targets to trained weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from skxlmr.batching import shuffled_batches
from skxlmr.training._distributed import Processes
from skxlmr.training._loss_scale import LossScale
from skxlmr.training._optimizer import learning_rate_factor, train_mode
from skxlmr.training._progress import Progress
from skxlmr.training._state.fit import FitState, History, Watcher, restore, to_the_end
from skxlmr.training._state.resumable import StateKeeper
from skxlmr.training._step_batches import StepBatches
from skxlmr.training._task import Task, TaskOfSteps
from skxlmr.training.step import TrainStep

if TYPE_CHECKING:
    import torch

    from skxlmr.nn import TaskModule


@dataclass(frozen=True)
class LoopSettings:
    """How to run the loop; the names are those of the estimators' parameters."""

    max_epochs: int
    batch_size: int
    accumulate: int
    schedule: str
    warmup_ratio: float
    max_grad_norm: float | None
    early_stopping: bool
    n_iter_no_change: int
    tol: float
    verbose: int
    autocast: torch.dtype | None


def fit_loop(
    module: TaskModule,
    task: Task,
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
    rng: np.random.Generator,
    validate: Callable[[], float] | None = None,
    renew: Callable[[np.random.Generator], Task] | None = None,
    keeper: StateKeeper | None = None,
    watcher: Watcher | None = None,
    loss_scale: LossScale | None = None,
    processes: Processes | None = None,
) -> History:
    """Train the module in place.

    Parameters
    ----------
    module : TaskModule
    task : Task
        The rows and their losses.
    optimizer : Optimizer
        As ``make_optimizer`` returns it.
    settings : LoopSettings
    rng : Generator
        Draws the order of the rows, and what the batches need.
    validate : callable, optional
        Returns a score after each epoch, higher is better. With ``early_stopping`` the fit ends when the score has not risen
        by ``tol`` for ``n_iter_no_change`` epochs, and the weights of the best epoch are put back.
    renew : callable, optional
        Returns the task of each epoch, for rows that change from epoch to epoch.
    keeper : StateKeeper, optional
        Puts back the state of an interrupted fit, and writes that of this one.
    watcher : Watcher, optional
        Is called at each epoch and step.
    loss_scale : LossScale, optional
        Needed for float16. As in ``transformers``, a skipped step counts as a step of the fit, and its rows as seen, but the
        schedule of the learning rate does not move on.
    processes : Processes, optional
        Those that share the steps; every one of them runs this loop.

    Returns
    -------
    History
        After an interrupt in the second epoch or later it holds the ``KeyboardInterrupt``, and the weights are those of
        the last finished epoch.

    Raises
    ------
    FloatingPointError
        If the loss or the gradient is not finite; names the rows of the step.
    CheckpointError
        If the state cannot be written or does not fit.
    """
    if processes is not None:
        watcher = None if watcher is None else processes.watching(watcher)
        validate = None if validate is None else processes.deciding(validate)
    watcher = watcher or Watcher()
    step = TrainStep(module, optimizer, settings.autocast, settings.max_grad_norm, loss_scale, processes)
    batches = StepBatches(settings.batch_size, settings.accumulate, step.device, rng, processes)
    n_steps = -(-task.n_rows // (settings.batch_size * settings.accumulate))  # in an epoch, as the schedule has it
    n_skipped_before = 0 if loss_scale is None else loss_scale.n_skipped  # by earlier calls of partial_fit
    state = FitState() if keeper is None else keeper.start(settings.max_epochs)
    if not settings.early_stopping:
        state.best = None  # earlier versions kept it all the same
    progress = Progress(settings.verbose, settings.max_epochs, state.epoch)
    try:
        while state.epoch < settings.max_epochs and not state.stopped:
            train_mode(module)
            state.epoch_rng = rng.bit_generator.state
            if renew is not None:
                task = renew(rng)
            steps = _rows_of_steps(task, settings, rng)
            if keeper is not None:
                keeper.catch_up()
            n_now = len(steps)  # other segmentations, or other steps, may be more or fewer
            batches.begin_epoch(task, steps[state.step :])
            watcher.epoch_begins(state.history, n_now, state.step)
            while state.step < n_now:
                n_skipped = 0 if loss_scale is None else loss_scale.n_skipped
                place = max(state.epoch * n_steps + state.step * n_steps // n_now - n_skipped, 0)
                factor = learning_rate_factor(
                    place, settings.max_epochs * n_steps, settings.schedule, settings.warmup_ratio
                )
                watcher.step_begins()
                loss, weight = step.run(batches, factor)
                state.end_step(loss, weight, step.predicted)
                progress.step(state.epoch + 1, state.step, n_now, loss)
                if watcher.step_ends():
                    break
                if keeper is not None and state.step < n_now:
                    keeper.step_ends(state)
            state = state.with_epoch(step.parameters)
            module.eval()
            score = None if validate is None else validate()
            n_skipped = 0 if loss_scale is None else loss_scale.n_skipped
            progress.epoch(state.epoch, state.history.loss_curve[-1], score, n_skipped)
            if score is not None:
                state = state.with_score(score, settings.tol if settings.early_stopping else None)
                state.stopped = settings.early_stopping and state.stale >= settings.n_iter_no_change
            state.record.end_epoch(state.epoch - 1, is_kept=state.best is None or state.best is state.finished)
            state.stopped |= watcher.epoch_ends(state.history)
            if keeper is not None:
                keeper.step_ends(state, is_last=state.stopped or state.epoch == settings.max_epochs)
    except KeyboardInterrupt as interrupt:
        if state.finished is None:
            raise
        state.history.interrupted = interrupt
    finally:
        step.clear_gradients()
        module.eval()
    kept = state.best if settings.early_stopping and state.best is not None else None
    if kept is None and state.history.interrupted:
        kept = state.finished
    if kept is not None:
        try:
            to_the_end(partial(restore, step.parameters, kept))
        except KeyboardInterrupt as interrupt:
            state.history.interrupted = interrupt
    state.history.record = state.record
    if loss_scale is not None:
        state.history.n_skipped = loss_scale.n_skipped - n_skipped_before
    return state.history


def _rows_of_steps(task: Task, settings: LoopSettings, rng: np.random.Generator) -> list[list[np.ndarray]]:
    """Rows of each batch of each step of an epoch, in random order, or as the task draws them."""
    if isinstance(task, TaskOfSteps):
        n = settings.batch_size
        of_steps = task.rows_of_steps(n * settings.accumulate, rng)
        return [[rows[first : first + n] for first in range(0, len(rows), n)] for rows in of_steps]
    batches = shuffled_batches(task.n_rows, settings.batch_size, rng)
    return [batches[first : first + settings.accumulate] for first in range(0, len(batches), settings.accumulate)]
