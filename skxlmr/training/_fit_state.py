"""Where a fit stands: its history, and what the steps to come depend on besides the weights and the optimiser."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor


@dataclass
class History:
    """What happened in a fit.

    Attributes
    ----------
    loss_curve : mean training loss of each epoch
    validation_scores : score after each epoch, empty without validation
    interrupted : the KeyboardInterrupt that ended the fit after at least one epoch, or None
    """

    loss_curve: list[float] = field(default_factory=list)
    validation_scores: list[float] = field(default_factory=list)
    interrupted: KeyboardInterrupt | None = None


@dataclass
class FitState:
    """Where a fit stands.

    Attributes
    ----------
    history : what happened
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

    def end_step(self, loss: float, weight: float) -> None:
        """Count a step with this mean loss of rows whose weights add up to ``weight``."""
        self.step += 1
        self.loss_sum, self.weight_sum = self.loss_sum + loss * weight, self.weight_sum + weight

    def end_epoch(self, parameters: Sequence[Tensor]) -> None:
        """Count an epoch, and keep what was learnt."""
        self.history.loss_curve.append(self.loss_sum / self.weight_sum if self.weight_sum else float("nan"))
        self.finished = copies(parameters)
        self.epoch, self.step, self.loss_sum, self.weight_sum = self.epoch + 1, 0, 0.0, 0.0

    def judge(self, score: float, tol: float) -> None:
        """Compare the validation score of the epoch with the best so far."""
        self.stale = 0 if score > self.best_score + tol else self.stale + 1
        if score > self.best_score:
            self.best, self.best_score = self.finished, score


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
        restore(parameters, before)
        raise


def copies(parameters: Sequence[Tensor]) -> list[Tensor]:
    """Values of the parameters in host memory, copied once."""
    return [parameter.detach().to("cpu", copy=True) for parameter in parameters]


def restore(parameters: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    """Put saved values back."""
    with torch.no_grad():
        for parameter, value in zip(parameters, values, strict=True):
            parameter.copy_(value)
