"""Correlations as scores, for similarity and other graded judgements."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import pearsonr, spearmanr
from sklearn.utils.validation import check_array, check_consistent_length


def pearson_score(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Pearson correlation of targets and predictions.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_rows,) or (n_rows, n_outputs)
        At least two rows. With several outputs, their mean correlation is returned.

    Returns
    -------
    float
        From -1 to 1; 0 if one side is constant, so that the correlation is not defined.

    Raises
    ------
    ValueError
        If the shapes differ, or there are fewer than two rows.

    See Also
    --------
    spearman_score : Compares the order alone.
    skxlmr.XLMRobertaRegressor : Predicts numbers from texts.

    Examples
    --------
    >>> from skxlmr.metrics import pearson_score
    >>> pearson_score([0, 1, 2, 3], [1, 2, 3, 4])
    1.0
    """
    return _mean_correlation(pearsonr, y_true, y_pred)


def spearman_score(y_true: ArrayLike, y_pred: ArrayLike) -> float:
    """Spearman rank correlation of targets and predictions.

    Parameters
    ----------
    y_true, y_pred : array-like of shape (n_rows,) or (n_rows, n_outputs)
        At least two rows. With several outputs, their mean correlation is returned.

    Returns
    -------
    float
        From -1 to 1; 0 if one side is constant, so that the correlation is not defined.

    Raises
    ------
    ValueError
        If the shapes differ, or there are fewer than two rows.

    See Also
    --------
    pearson_score : Compares the numbers themselves, up to scale and shift.
    skxlmr.XLMRobertaEmbedder : Learns vectors whose cosines have the order of the targets.
    skxlmr.XLMRobertaRegressor : Predicts numbers from texts.

    Examples
    --------
    >>> from skxlmr.metrics import spearman_score
    >>> spearman_score([0, 1, 2, 3], [1, 10, 100, 1000])
    1.0
    """
    return _mean_correlation(spearmanr, y_true, y_pred)


def _mean_correlation(correlation: Callable[[Any, Any], Any], y_true: Any, y_pred: Any) -> float:
    y_true, y_pred = (check_array(y, ensure_2d=False, dtype=np.float64, ensure_min_samples=2) for y in (y_true, y_pred))
    check_consistent_length(y_true, y_pred)
    if y_true.size != y_pred.size:
        raise ValueError(f"y_true and y_pred must have the same shape, got {y_true.shape} and {y_pred.shape}")
    pairs = list(zip(*(y.reshape(len(y), -1).T for y in (y_true, y_pred)), strict=True))
    return float(np.mean([correlation(a, b)[0] if np.ptp(a) > 0 and np.ptp(b) > 0 else 0.0 for a, b in pairs]))
