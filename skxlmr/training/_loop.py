"""The fit loop: one optimiser step fits on one screen."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from skxlmr.batching import Batch, shuffled_batches
from skxlmr.nn import TaskModule
from skxlmr.training._diverged import diverged
from skxlmr.training._gradient_cache import cached_losses, compare_rows
from skxlmr.training._memory import MicroBatches
from skxlmr.training._optim import learning_rate_factor, train_mode
from skxlmr.training._progress import Progress
from skxlmr.training._resume import Keeper
from skxlmr.training._state import FitState, History, Watcher


class Task(Protocol):
    """What the loop needs to know of a task; see ``skxlmr.batching``."""

    n_rows: int

    def collate(self, rows: np.ndarray, rng: np.random.Generator, part: slice = ...) -> Batch: ...

    def losses(self, module: TaskModule, batch: Batch) -> dict[str, Tensor]: ...


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


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Mixed precision on the device, or nothing."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


def fit_loop(
    module: TaskModule,
    task: Task,
    optimizer: torch.optim.Optimizer,
    settings: LoopSettings,
    rng: np.random.Generator,
    validate: Callable[[], float] | None = None,
    renew: Callable[[np.random.Generator], Task] | None = None,
    keeper: Keeper | None = None,
    watcher: Watcher | None = None,
) -> History:
    """Train the module in place.

    ``renew`` gives the task of each epoch, for rows that change from one to the next. ``validate`` gives a score
    (higher is better) after each epoch; with ``early_stopping`` the fit ends when it has not risen by ``tol`` for
    ``n_iter_no_change`` epochs, and the weights of the best epoch are put back. An interrupt after the first epoch puts
    back the weights of the last finished epoch and is handed to the caller in the history. ``keeper`` puts back the state
    of an interrupted fit and writes that of this one, ``watcher`` is told of each step and epoch.

    Raises
    ------
    FloatingPointError
        If the loss or the gradient is not finite; names the rows of the step.
    CheckpointError
        If the state cannot be written or does not fit.
    """
    watcher = watcher or Watcher()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    n_steps = _n_steps(task, settings)  # in an epoch
    state = FitState() if keeper is None else keeper.start(settings.max_epochs)
    progress = Progress(settings.verbose, settings.max_epochs, state.epoch)
    history = state.history
    micro_batches = MicroBatches(settings.batch_size, settings.accumulate, parameters[0].device)
    try:
        while state.epoch < settings.max_epochs and not state.stopped:
            train_mode(module)
            state.epoch_rng = rng.bit_generator.state
            if renew is not None:
                task = renew(rng)
            batches = shuffled_batches(task.n_rows, settings.batch_size, rng)
            if keeper is not None:
                keeper.catch_up()
            n_now = _n_steps(task, settings)  # other segmentations may give more windows, or fewer
            watcher.epoch_begins(history, n_now, state.step)
            while state.step < n_now:
                group = batches[state.step * settings.accumulate : (state.step + 1) * settings.accumulate]
                place = state.epoch * n_steps + state.step * n_steps // n_now
                factor = learning_rate_factor(
                    place, settings.max_epochs * n_steps, settings.schedule, settings.warmup_ratio
                )
                watcher.step_begins()
                loss, weight = train_step(
                    module, task, optimizer, parameters, group, factor, settings, rng, micro_batches
                )
                state.end_step(loss, weight)
                progress.step(state.epoch + 1, state.step, n_now, loss)
                if watcher.step_ends():
                    break
                if keeper is not None and state.step < n_now:
                    keeper.step_ends(state)
            state.end_epoch(parameters)
            module.eval()
            score = None if validate is None else validate()
            progress.epoch(state.epoch, history.loss_curve[-1], score)
            if score is not None:
                state.judge(score, settings.tol)
                state.stopped = settings.early_stopping and state.stale >= settings.n_iter_no_change
            state.stopped |= watcher.epoch_ends(history)
            if keeper is not None:
                keeper.epoch_ends(state, is_last=state.stopped or state.epoch == settings.max_epochs)
    except KeyboardInterrupt as interrupt:
        if state.finished is None:
            raise
        history.interrupted = interrupt
    finally:
        optimizer.zero_grad(set_to_none=True)
        module.eval()
    if settings.early_stopping and state.best is not None:
        restore(parameters, state.best)
    elif history.interrupted and state.finished is not None:
        restore(parameters, state.finished)
    return history


def _n_steps(task: Task, settings: LoopSettings) -> int:
    return -(-task.n_rows // (settings.batch_size * settings.accumulate))


def train_step(module, task, optimizer, parameters, group, factor, settings, rng, micro_batches) -> tuple[float, float]:
    """One optimiser step over a group of accumulated batches; returns its mean loss and the weight of that mean."""
    run = partial(add_gradients, module, task, parameters[0].device, settings.autocast)
    batches, (loss, weight) = micro_batches.run(run, partial(optimizer.zero_grad, set_to_none=True), task, group, rng)
    limit = float("inf") if settings.max_grad_norm is None else settings.max_grad_norm
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    if not torch.isfinite(norm):
        raise diverged("gradient", {}, *batches)
    for parameter_group in optimizer.param_groups:
        parameter_group["lr"] = parameter_group["initial_lr"] * factor
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, weight


def add_gradients(module, task, device, dtype, batches: list[Batch]) -> tuple[float, float]:
    """Add up the gradients of the mean losses over all the batches; returns the loss and the weight of that mean."""
    totals: dict[str, float] = {}
    for batch in batches:
        for name, total in batch.totals.items():
            totals[name] = totals.get(name, 0.0) + total
    loss = 0.0
    for batch, terms in batch_losses(module, task, batches, device, dtype):
        # A step whose rows all weigh nothing has nothing to learn from.
        part = sum(values.sum() / totals[name] for name, values in terms.items() if totals[name])
        if isinstance(part, Tensor):
            loss += part.item()
            if not np.isfinite(loss):
                raise diverged("loss", terms, batch)
            part.backward()
    return loss, next(iter(totals.values()), 0.0)


def batch_losses(module, task, batches, device, dtype) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
    """Each batch on the device with its losses, to be back-propagated before the next is asked for."""
    if len(batches) > 1 and compare_rows(task):
        yield from cached_losses(module, task, batches, device, lambda: autocast(device, dtype))
        return
    for batch in batches:
        batch = batch.to(device)
        with autocast(device, dtype):
            terms = task.losses(module, batch)
        yield batch, terms


def mean_losses(module: TaskModule, task: Task, batch_size: int, rng: np.random.Generator) -> dict[str, float]:
    """Weighted mean of each loss over all rows of the task, without training; losses of rows without weight are left out."""
    device = next(module.parameters()).device
    micro_batches = MicroBatches(batch_size, 1, device)
    sums: dict[str, float] = {}
    totals: dict[str, float] = {}
    with torch.inference_mode():
        for start in range(0, task.n_rows, batch_size):
            rows = np.arange(start, min(start + batch_size, task.n_rows))
            batches, parts = micro_batches.run(partial(_sums, module, task, device), lambda: None, task, [rows], rng)
            for batch, part in zip(batches, parts, strict=True):
                for name, value in part.items():
                    sums[name] = sums.get(name, 0.0) + value
                    totals[name] = totals.get(name, 0.0) + batch.totals[name]
    return {name: sums[name] / total for name, total in totals.items() if total}


def _sums(module: TaskModule, task: Task, device: torch.device, batches: list[Batch]) -> list[dict[str, float]]:
    """Sum of each loss over each of the batches, which compare their rows as one."""
    losses = partial(task.losses, module)
    if len(batches) > 1 and compare_rows(task):
        vectors = [task.vectors(module, batch.to(device)) for batch in batches]
        values = iter(task.joint_losses(torch.cat(vectors), batches).split([len(part) for part in vectors]))
        losses = partial(losses, joint=lambda vectors: next(values))
    # In float64, which not every GPU has.
    return [
        {name: float(values.cpu().double().sum()) for name, values in losses(batch.to(device)).items()}
        for batch in batches
    ]


@contextmanager
def undone_on_failure(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Put what the optimizer trains back as it was, if the block fails."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = [p.detach().cpu().clone() for p in parameters]
    try:
        yield
    except BaseException:
        restore(parameters, before)
        raise


def restore(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    """Put saved values back."""
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
