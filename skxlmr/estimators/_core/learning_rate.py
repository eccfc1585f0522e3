"""``learning_rate="auto"``: the rate that fits the size of the checkpoint."""

from typing import Any

from skxlmr.estimators.parameters import LanguageModelParameters

# Widest encoder, and the rate for a task with a new head and for a language model. docs/user_guide.md says where they are from.
_TABLE = ((320, 3e-4, 5e-4), (512, 1e-4, 2e-4), (768, 3e-5, 5e-5), (1024, 1e-5, 2e-5))
_WIDER = (5e-6, 1e-5)


def auto_learning_rate(estimator: Any) -> float:
    """The learning rate of ``"auto"`` for the estimator's checkpoint."""
    width = estimator.config_.hidden_size
    rates = next((rates for widest, *rates in _TABLE if width <= widest), _WIDER)
    return rates[isinstance(estimator, LanguageModelParameters)]
