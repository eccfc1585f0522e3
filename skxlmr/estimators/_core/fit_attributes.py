"""Fitted attributes that say how a fit went; ``parameters.py`` describes them for docstrings."""

import math
from collections.abc import Sequence
from typing import Any


def of_a_fit(losses: list[float], scores: list[float] | None, final: float, collapse: str | None) -> dict[str, Any]:
    """The attributes of a fit with these losses and scores of its epochs.

    Parameters
    ----------
    losses : list of float
    scores : list of float or None
    final : float
        Loss of the epoch whose weights were kept.
    collapse : str or None
        What speaks against what was learnt.
    """
    return {
        "loss_curve_": losses,
        "validation_scores_": scores,
        "n_iter_": len(losses),
        "final_loss_": final,
        "collapsed_": collapse is not None,
        "collapse_reason_": collapse,
    }


def kept_epoch(estimator: Any) -> int | None:
    """Number of the epoch, from 0, whose weights early stopping kept; None if there is none, or they were trained since."""
    losses, scores = estimator.loss_curve_, getattr(estimator, "validation_scores_", None)
    kept = best_epoch([] if scores is None else scores) if getattr(estimator, "early_stopping", False) else None
    return kept if kept is None or getattr(estimator, "final_loss_", losses[kept]) == losses[kept] else None


def best_epoch(scores: Sequence[float]) -> int | None:
    """Number, from 0, of the first epoch with the highest score; None if all are NaN."""
    defined = [epoch for epoch, score in enumerate(scores) if not math.isnan(score)]  # nanargmax takes NaN for -inf
    return max(defined, key=scores.__getitem__, default=None)
