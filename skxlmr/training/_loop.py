"""The fit loop: one optimiser step fits on one screen."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from skxlmr.batching import Batch, shuffled_batches
from skxlmr.nn import TaskModule
from skxlmr.training._gradient_cache import JointTask, cached_losses
from skxlmr.training._optim import learning_rate_factor, train_mode
from skxlmr.training._progress import Progress


class Task(Protocol):
    """What the loop needs to know of a task; see ``skxlmr.batching``."""

    n_rows: int

    def collate(self, rows: np.ndarray, rng: np.random.Generator) -> Batch: ...

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


@dataclass
class History:
    """What happened.

    Attributes
    ----------
    loss_curve : mean training loss of each epoch
    validation_scores : score after each epoch, empty without validation
    interrupted : the KeyboardInterrupt that ended the fit after at least one epoch, or None
    """

    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    interrupted: KeyboardInterrupt | None = None


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
) -> History:
    """Train the module in place.

    ``renew`` gives the task of each epoch, for rows that change from one to the next. ``validate`` gives a score
    (higher is better) after each epoch; with ``early_stopping`` the fit ends when it has not risen by ``tol`` for
    ``n_iter_no_change`` epochs, and the weights of the best epoch are put back. An interrupt after the first epoch puts
    back the weights of the last finished epoch and is handed to the caller in the history.

    Raises
    ------
    FloatingPointError
        If the loss or the gradient is not finite; names the rows of the step.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    n_steps = _n_steps(task, settings)  # in an epoch
    progress = Progress(settings.verbose, settings.max_epochs)
    history = History()
    finished: list[Tensor] | None = None  # weights after the last finished epoch
    best, best_score, stale = None, -np.inf, 0
    try:
        for epoch in range(settings.max_epochs):
            train_mode(module)
            if renew is not None:
                task = renew(rng)
            batches = shuffled_batches(task.n_rows, settings.batch_size, rng)
            n_now = _n_steps(task, settings)  # other segmentations may give more windows, or fewer
            epoch_loss, epoch_weight = 0.0, 0.0
            for step in range(n_now):
                group = batches[step * settings.accumulate : (step + 1) * settings.accumulate]
                place = epoch * n_steps + step * n_steps // n_now
                factor = learning_rate_factor(
                    place, settings.max_epochs * n_steps, settings.schedule, settings.warmup_ratio
                )
                loss, weight = train_step(module, task, optimizer, parameters, group, factor, settings, rng)
                epoch_loss, epoch_weight = epoch_loss + loss * weight, epoch_weight + weight
                progress.step(epoch + 1, step + 1, n_now, loss)
            history.loss_curve.append(epoch_loss / epoch_weight if epoch_weight else float("nan"))
            finished = [p.detach().cpu().clone() for p in parameters]
            module.eval()
            score = None if validate is None else validate()
            progress.epoch(epoch + 1, history.loss_curve[-1], score)
            if score is not None:
                history.validation_scores.append(score)
                stale = 0 if score > best_score + settings.tol else stale + 1
                if score > best_score:
                    best, best_score = finished, score
                if settings.early_stopping and stale >= settings.n_iter_no_change:
                    break
    except KeyboardInterrupt as interrupt:
        if finished is None:
            raise
        history.interrupted = interrupt
    finally:
        optimizer.zero_grad(set_to_none=True)
        module.eval()
    if settings.early_stopping and best is not None:
        restore(parameters, best)
    elif history.interrupted and finished is not None:
        restore(parameters, finished)
    return history


def _n_steps(task: Task, settings: LoopSettings) -> int:
    return -(-task.n_rows // (settings.batch_size * settings.accumulate))


def train_step(module, task, optimizer, parameters, group, factor, settings, rng) -> tuple[float, float]:
    """One optimiser step over a group of accumulated batches; returns its mean loss and the weight of that mean."""
    device = parameters[0].device
    batches = [task.collate(rows, rng) for rows in group]
    totals: dict[str, float] = {}
    for batch in batches:
        for name, total in batch.totals.items():
            totals[name] = totals.get(name, 0.0) + total
    loss = 0.0
    for batch, terms in batch_losses(module, task, batches, device, settings.autocast):
        # A step whose rows all weigh nothing has nothing to learn from.
        part = sum(values.sum() / totals[name] for name, values in terms.items() if totals[name])
        if isinstance(part, Tensor):
            loss += part.item()
            if not np.isfinite(loss):
                raise FloatingPointError(_diverged("loss", terms, batch))
            part.backward()
    limit = float("inf") if settings.max_grad_norm is None else settings.max_grad_norm
    norm = nn.utils.clip_grad_norm_(parameters, limit)
    if not torch.isfinite(norm):
        raise FloatingPointError(_diverged("gradient", {}, *batches))
    for parameter_group in optimizer.param_groups:
        parameter_group["lr"] = parameter_group["initial_lr"] * factor
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss, next(iter(totals.values()), 0.0)


def batch_losses(module, task, batches, device, dtype) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
    """Each batch on the device with its losses, to be back-propagated before the next is asked for."""
    if len(batches) > 1 and isinstance(task, JointTask) and task.compares_rows:
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
    sums: dict[str, float] = {}
    totals: dict[str, float] = {}
    with torch.inference_mode():
        for start in range(0, task.n_rows, batch_size):
            batch = task.collate(np.arange(start, min(start + batch_size, task.n_rows)), rng).to(device)
            for name, values in task.losses(module, batch).items():
                sums[name] = sums.get(name, 0.0) + float(values.double().sum())
                totals[name] = totals.get(name, 0.0) + batch.totals[name]
    return {name: sums[name] / total for name, total in totals.items() if total}


def restore(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    """Put saved values back."""
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)


def _diverged(what: str, terms: dict[str, Tensor], *batches: Batch) -> str:
    rows = [
        batch.rows[name][~torch.isfinite(terms[name].detach()).cpu().numpy()] if name in terms else batch.rows[name]
        for batch in batches
        for name in batch.rows
    ]
    named = np.unique(np.concatenate(rows))
    shown = ", ".join(map(str, named[:10])) + (f" and {len(named) - 10} more" if len(named) > 10 else "")
    return (
        f"the {what} is not finite at rows {shown} of the training data: lower learning_rate or raise warmup_ratio, set "
        "max_grad_norm or dtype='float32', and look at those rows and their targets"
    )
