"""Where a fit stands: what happened, and what the steps to come depend on beside the weights and the optimiser."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn


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


@dataclass
class FitState:
    """Where a fit stands.

    Attributes
    ----------
    history : what happened
    epoch : number of finished epochs
    step : finished steps of the epoch after them
    loss_sum, weight_sum : weighted sum of the losses of those steps, and of their weights
    epoch_rng : the generator's state before that epoch drew its rows
    stale : epochs without progress
    stopped : whether the fit is over before the last epoch
    best_score : highest validation score
    best, finished : what learns, as it was after the epoch of the best score and after the last finished one
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
        """Count a step with this mean loss of rows that weigh so much together."""
        self.step += 1
        self.loss_sum, self.weight_sum = self.loss_sum + loss * weight, self.weight_sum + weight

    def end_epoch(self, parameters: Sequence[nn.Parameter]) -> None:
        """Count an epoch, and keep what was learnt."""
        self.history.loss_curve.append(self.loss_sum / self.weight_sum if self.weight_sum else float("nan"))
        self.finished = [p.detach().cpu().clone() for p in parameters]
        self.epoch, self.step, self.loss_sum, self.weight_sum = self.epoch + 1, 0, 0.0, 0.0

    def judge(self, score: float, tol: float) -> None:
        """Compare the validation score of the epoch with the best so far."""
        self.history.validation_scores.append(score)
        self.stale = 0 if score > self.best_score + tol else self.stale + 1
        if score > self.best_score:
            self.best, self.best_score = self.finished, score


class Watcher:
    """Is told how a fit goes on, and may end the epoch or the fit by answering True; this one lets it run."""

    def epoch_begins(self, history: History, n_steps: int, n_done: int) -> None:
        """Before the first step of an epoch, or the first that is left of one that was interrupted."""

    def step_begins(self) -> None:
        """Before a step."""

    def step_ends(self) -> bool:
        """Whether the epoch shall end with this step."""
        return False

    def epoch_ends(self, history: History) -> bool:
        """Whether the fit shall end with this epoch."""
        return False
