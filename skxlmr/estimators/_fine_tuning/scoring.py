"""What scores the validation data after each epoch."""

from __future__ import annotations

import copy
import inspect
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from numbers import Real
from typing import TYPE_CHECKING, Any

from skxlmr.utils._sklearn import scores_outputs, takes_sample_weight
from skxlmr.utils._warnings import FitQualityWarning, warn_once_per_call

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule

LOSS = "loss"


def scorer_of(scoring: str | Callable[..., float] | None) -> Callable[..., float] | None:
    """The scorer that ``scoring`` names or is; None for those that an estimator has itself.

    Raises
    ------
    ValueError
        If there is none of this name; names the nearest ones.
    """
    if not isinstance(scoring, str):
        return scoring
    from sklearn.metrics import get_scorer, get_scorer_names

    names = get_scorer_names()
    if scoring not in [LOSS, *names]:
        nearest = get_close_matches(scoring, [LOSS, *names], n=3)
        hint = f"did you mean {' or '.join(map(repr, nearest))}?" if nearest else "it is one of"
        raise ValueError(
            f"scoring={scoring!r} is neither {LOSS!r} nor a scorer of scikit-learn: {hint}"
            + ("" if nearest else f" {', '.join(names)}")
        )
    scorer: Callable[..., float] | None = None if scoring == LOSS else get_scorer(scoring)
    return scorer


@dataclass(frozen=True)
class ScoredRows:
    """Validation rows as they were passed, for a scorer.

    Attributes
    ----------
    scorer : callable
        With the arguments estimator, X and y, and ``sample_weight`` where it takes one.
    X, y, sample_weight
    """

    scorer: Callable[..., float]
    X: Any
    y: Any
    sample_weight: Any = None

    def score(self, estimator: Any, module: TaskModule) -> float:
        """Score of a copy of the estimator with this module."""
        fitted = copy.copy(estimator)
        fitted.module_ = module
        weights = {}
        if self.sample_weight is not None and _takes_weights(self.scorer):
            weights = {"sample_weight": self.sample_weight}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitQualityWarning)  # of predictions: the fit is not over yet
            try:
                score = self.scorer(fitted, self.X, self.y, **weights)
            except (AttributeError, TypeError, ValueError) as error:
                if not isinstance(estimator.scoring, str):
                    raise  # the caller's own function
                raise ValueError(
                    f"scoring={estimator.scoring!r} cannot score the validation data of {type(estimator).__name__} ({error}): "
                    "choose a scorer for what it predicts, 'loss' or None"
                ) from error
        if not isinstance(score, Real):
            raise TypeError(f"scoring must return one number, got {score!r:.80}")
        if math.isnan(score):
            warn_once_per_call(
                f"scoring={estimator.scoring!r} is not defined on the validation data (it is nan): such an epoch is never the "
                "best, and counts as one without improvement",
                FitQualityWarning,
                about="scoring",
            )
        return float(score)


def _takes_weights(scorer: Callable[..., float]) -> bool:
    if scores_outputs(scorer):  # has the argument in any case, its function perhaps not
        return takes_sample_weight(scorer)
    parameters = inspect.signature(scorer).parameters
    return "sample_weight" in parameters or any(each.kind is each.VAR_KEYWORD for each in parameters.values())
