"""The fit loop and what it needs: parameter groups, schedules, the compact vocabulary."""

from skxlmr.training._compact_vocabulary import compact_vocabulary
from skxlmr.training._loop import History, LoopSettings, autocast, fit_loop, mean_losses
from skxlmr.training._optim import SCHEDULES, freeze, make_optimizer

__all__ = [
    "SCHEDULES",
    "History",
    "LoopSettings",
    "autocast",
    "compact_vocabulary",
    "fit_loop",
    "freeze",
    "make_optimizer",
    "mean_losses",
]
