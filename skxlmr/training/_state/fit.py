"""Where a fit stands: its history, and what the steps to come depend on besides the weights and the optimiser.

Ctrl-C may come at any moment, also while weights are copied. So a finished epoch and its score each become a new state, made
in full before it takes the place of the old one: what an interrupt leaves is one or the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skxlmr.training._step_record import StepRecord
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class History:
    """What happened in a fit.

    Attributes
    ----------
    loss_curve : mean training loss of each epoch
    validation_scores : score after each epoch, empty without validation
    interrupted : the KeyboardInterrupt that ended the fit after at least one epoch, or None
    record : what its steps showed, once the fit has ended
    n_skipped : steps that were skipped, because their gradients overflow float16
    collapse : what speaks against what was learnt, if anything does
    doubt : what to warn of after the fit, if anything
    """

    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    interrupted: KeyboardInterrupt | None = None
    record: StepRecord | None = field(default=None, compare=False)
    n_skipped: int = field(default=0, compare=False)
    collapse: str | None = None
    doubt: str | None = None


@dataclass
class FitState:
    """Where a fit stands.

    Attributes
    ----------
    history : what happened
    record : what its steps showed so far
    epoch : number of finished epochs
    step : finished steps of the epoch after them
    loss_sum, weight_sum : weighted sum of the losses of those steps, and sum of the weights
    epoch_rng : the generator's state before that epoch drew its rows
    stale : epochs without progress, with early stopping
    stopped : whether the fit is over before the last epoch
    best_score : highest validation score, with early stopping
    best, finished : what learns, as it was after the epoch of that score and after the last finished epoch
    """

    history: History = field(default_factory=History)
    record: StepRecord = field(default_factory=StepRecord)
    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    weight_sum: float = 0.0
    epoch_rng: Any = None
    stale: int = 0
    stopped: bool = False
    best_score: float = -np.inf
    best: list[Tensor] | None = None
    finished: list[Tensor] | None = None

    def end_step(self, loss: float, weight: float, predicted: np.ndarray | None) -> None:
        """Count a step with this mean loss of rows whose weights add up to ``weight``, and the classes that it predicted."""
        self.step += 1
        self.loss_sum, self.weight_sum = self.loss_sum + loss * weight, self.weight_sum + weight
        self.record.end_step(loss, weight, predicted)

    def with_epoch(self, parameters: Sequence[Tensor]) -> Self:
        """The state after this epoch, with a copy of what was learnt."""
        loss = self.loss_sum / self.weight_sum if self.weight_sum else float("nan")
        history = replace(self.history, loss_curve=[*self.history.loss_curve, loss])
        state = replace(self, history=history, epoch=self.epoch + 1, finished=copies(parameters))
        return replace(state, step=0, loss_sum=0.0, weight_sum=0.0)

    def with_score(self, score: float, tol: float | None) -> Self:
        """The state after the epoch was scored; with early stopping (``tol``) compared with the best so far."""
        history = replace(self.history, validation_scores=[*self.history.validation_scores, score])
        if tol is None:
            return replace(self, history=history)
        state = replace(self, history=history, stale=0 if score > self.best_score + tol else self.stale + 1)
        is_first = self.best is None and not np.isnan(score)  # which may be minus infinity
        is_best = is_first or score > self.best_score
        return replace(state, best=self.finished, best_score=score) if is_best else state


class Watcher:
    """Is called as a fit proceeds, and may end the epoch or the fit by returning True; this one lets it run."""

    def epoch_begins(self, history: History, n_steps: int, n_done: int) -> None:
        """Before the first step of an epoch, or the first that is left of an interrupted one."""

    def step_begins(self) -> None:
        """Before a step."""

    def step_ends(self) -> bool:
        """Whether the epoch is to end with this step."""
        return False

    def epoch_ends(self, history: History) -> bool:
        """Whether the fit is to end with this epoch."""
        return False


@contextmanager
def undone_on_failure(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Put back what the optimiser trains, if the block fails."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    before = copies(parameters)
    try:
        yield
    except BaseException:
        to_the_end(lambda: restore(parameters, before))
        raise


def copies(parameters: Iterable[Tensor]) -> list[Tensor]:
    """Values of the parameters in host memory, copied once."""
    return [parameter.detach().to("cpu", copy=True) for parameter in parameters]


def restore(parameters: Iterable[Tensor], values: Sequence[Tensor]) -> None:
    """Put saved values back."""
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)


def to_the_end(action: Callable[[], object]) -> None:
    """Run an action that may run twice; if Ctrl-C cuts it short, once more, so that what it began is not left half done.

    Raises
    ------
    KeyboardInterrupt
        After the action is done.
    """
    try:
        action()
    except KeyboardInterrupt:
        action()
        raise
