"""Fitted attributes that say how a fit went; ``parameters.py`` describes them for docstrings."""

from typing import Any

import numpy as np


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
    if not getattr(estimator, "early_stopping", False) or scores is None or not np.isfinite(scores).any():
        return None
    kept = int(np.nanargmax(scores))
    return kept if getattr(estimator, "final_loss_", losses[kept]) == losses[kept] else None
