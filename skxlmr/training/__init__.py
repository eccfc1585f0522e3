"""The fit loop and what it needs: parameter groups, schedules, the compact vocabulary, the state of a fit on disk."""

from skxlmr.training._compact_vocabulary import compact_vocabulary, whole_copy
from skxlmr.training._diverged import Diverged
from skxlmr.training._fingerprint import STILL_WEIGHTS, digest, digest_of_still_weights, in_words
from skxlmr.training._loop import LoopSettings, autocast, fit_loop, mean_losses, undone_on_failure
from skxlmr.training._moments import Moments
from skxlmr.training._optim import SCHEDULES, freeze, make_optimizer
from skxlmr.training._resume import Keeper
from skxlmr.training._state import History, Watcher

__all__ = [
    "SCHEDULES",
    "STILL_WEIGHTS",
    "Diverged",
    "History",
    "Keeper",
    "LoopSettings",
    "Moments",
    "Watcher",
    "autocast",
    "compact_vocabulary",
    "digest",
    "digest_of_still_weights",
    "fit_loop",
    "freeze",
    "in_words",
    "make_optimizer",
    "mean_losses",
    "undone_on_failure",
    "whole_copy",
]
