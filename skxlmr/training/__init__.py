"""The fit loop and its parts: optimiser, schedules, compact vocabulary, and the state of a fit on disk."""

from skxlmr.training._distributed import current_processes, in_all_processes, leads
from skxlmr.training._diverged import Diverged
from skxlmr.training._learning.adapters import LoraSettings, training_adapters
from skxlmr.training._learning.vocabulary import compact_vocabulary, spare_rows, whole_copy
from skxlmr.training._loss_scale import LossScale
from skxlmr.training._mean_losses import mean_losses
from skxlmr.training._optimizer import LORA_RATE, SCHEDULES, auto_learning_rate, freeze, make_optimizer
from skxlmr.training._state.adam import AdamState
from skxlmr.training._state.fingerprint import STILL_WEIGHTS, digest, digest_of_still_weights, in_words
from skxlmr.training._state.fit import History, Watcher, copies, restore, to_the_end, undone_on_failure
from skxlmr.training._state.own_folder import OwnFolderKeeper
from skxlmr.training._state.resumable import StateKeeper
from skxlmr.training._step_record import FEWEST_STEPS, EndedEpoch, StepRecord
from skxlmr.training.loop import LoopSettings, fit_loop

__all__ = [
    "FEWEST_STEPS",
    "LORA_RATE",
    "SCHEDULES",
    "STILL_WEIGHTS",
    "AdamState",
    "Diverged",
    "EndedEpoch",
    "History",
    "LoopSettings",
    "LoraSettings",
    "LossScale",
    "OwnFolderKeeper",
    "StateKeeper",
    "StepRecord",
    "Watcher",
    "auto_learning_rate",
    "compact_vocabulary",
    "copies",
    "current_processes",
    "digest",
    "digest_of_still_weights",
    "fit_loop",
    "freeze",
    "in_all_processes",
    "in_words",
    "leads",
    "make_optimizer",
    "mean_losses",
    "restore",
    "spare_rows",
    "to_the_end",
    "training_adapters",
    "undone_on_failure",
    "whole_copy",
]
