"""States of frozen layers: what they are kept for, and when not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skxlmr.estimators.parameters import MaskingParameters
from skxlmr.inference import FrozenPrefix, cache_of
from skxlmr.utils._warnings import warn_once_per_call

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule


def frozen_prefix(estimator: Any, module: TaskModule, n_training_tokens: int | None = None) -> FrozenPrefix | None:
    """What computes the states after the frozen layers, or finds them; None if no layer is frozen.

    Parameters
    ----------
    estimator : FineTuned
    module : TaskModule
    n_training_tokens : int, optional
        In a fit, how many tokens its rows have. None for predictions.
    """
    memory = estimator.memory
    if not estimator.n_frozen_layers:
        return None
    is_asked_for, cache = not (isinstance(memory, str) and memory == "auto"), cache_of(memory)
    reason = None if n_training_tokens is None else _changes(estimator)
    if reason is not None and cache is not None:
        if is_asked_for:
            warn_once_per_call(
                f"memory has no effect on this fit, which computes the states of frozen layers in every epoch: {reason}. "
                "Leave memory at 'auto', or set it to None",
                about=("frozen layers", reason),
            )
        cache = None
    beside_the_rows = estimator._family.beside_the_rows(module)
    prefix = FrozenPrefix(module, estimator.n_frozen_layers, cache, beside_the_rows, is_asked_for)
    if n_training_tokens is not None:
        prefix.expect(n_training_tokens)
    return prefix


def _changes(estimator: Any) -> str | None:
    """Why the rows of a fit are others in every epoch; None if they are the same."""
    if getattr(estimator, "subword_sampling", None) is not None:
        return "subword_sampling draws other tokens each time"
    return "the masks are drawn anew each time" if isinstance(estimator, MaskingParameters) else None
