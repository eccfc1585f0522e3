"""The state of AdamW and of the loss scale, kept from one call of ``partial_fit`` to the next."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from skxlmr.training._loss_scale import LossScale
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule

BY_ROW = ("exp_avg", "exp_avg_sq")


class AdamState:
    """Both moments and the number of steps of each parameter, by its name.

    Each call trains only those word embeddings that its texts use (see ``compact_vocabulary``), so their moments are kept
    together with their row numbers.

    ``loss_scale`` is that of the calls so far, None if none was in float16.

    The state is not part of what was learnt: pickles, copies and saved folders are without it, and start from none.
    """

    def __init__(self) -> None:
        self._states: dict[str, dict[str, Tensor]] = {}
        self._rows = np.empty(0, np.int64)
        self.loss_scale: LossScale | None = None

    def __reduce__(self) -> tuple[type[AdamState], tuple[()]]:
        return AdamState, ()

    def restore(self, optimizer: torch.optim.Optimizer, module: TaskModule, rows: np.ndarray | None) -> None:
        """Give the optimiser the kept state; ``rows`` are the rows of the vocabulary that it trains, None for all."""
        for name, parameter in _trained(optimizer, module).items():
            state = self._state(name, parameter.device)
            if rows is not None and parameter is module.backbone.get_input_embeddings().weight:
                state = self._of_rows(state, rows)
            # other layers may have been frozen, or the whole vocabulary trained
            if state and state["exp_avg"].shape == parameter.shape:
                optimizer.state[parameter] = state

    def keep(self, optimizer: torch.optim.Optimizer, module: TaskModule, rows: np.ndarray | None) -> None:
        """Take over the optimiser's state after the call."""
        for name, parameter in _trained(optimizer, module).items():
            state = dict(optimizer.state.get(parameter, {}))
            if not state:  # every step was skipped
                continue
            if rows is not None and parameter is module.backbone.get_input_embeddings().weight:
                every = np.union1d(self._rows, rows)
                kept = self._of_rows(self._state(name, parameter.device), every)
                for key in BY_ROW:
                    merged = kept.get(key, state[key].new_zeros(len(every), *state[key].shape[1:]))
                    merged[np.searchsorted(every, rows)] = state[key]
                    state[key] = merged
                self._rows = every
            self._states[name] = state

    def forget(self, part: str) -> None:
        """Leave out parameters with this part in their names, which start again from other values."""
        self._states = {name: state for name, state in self._states.items() if part not in name}

    def _state(self, name: str, device: torch.device) -> dict[str, Tensor]:
        return {key: value.to(device) for key, value in self._states.get(name, {}).items()}

    def _of_rows(self, state: dict[str, Tensor], rows: np.ndarray) -> dict[str, Tensor]:
        """The state of these rows of the vocabulary, zeros for new ones."""
        if not state or len(state["exp_avg"]) != len(self._rows):
            return {}
        known = np.isin(rows, self._rows)
        places = np.searchsorted(self._rows, rows[known])
        found = dict(state)
        for key in BY_ROW:
            found[key] = state[key].new_zeros(len(rows), *state[key].shape[1:])
            found[key][np.flatnonzero(known)] = state[key][places]
        return found


def _trained(optimizer: torch.optim.Optimizer, module: TaskModule) -> dict[str, Tensor]:
    """The parameters that the optimiser trains, by name."""
    trained = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    return {name: parameter for name, parameter in module.named_parameters() if parameter in trained}
