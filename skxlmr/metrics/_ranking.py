"""How often the right candidate is near the top of a ranking."""

from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike


@overload
def recall_at_k(y_true: ArrayLike, ranking: ArrayLike | Sequence[ArrayLike], k: int = 1) -> float: ...
@overload
def recall_at_k(y_true: ArrayLike, ranking: ArrayLike | Sequence[ArrayLike], k: Sequence[int]) -> dict[int, float]: ...


def recall_at_k(y_true: ArrayLike, ranking: Any, k: Any = 1) -> float | dict[int, float]:
    """Share of rankings with the right candidate among the first k.

    Read more in :doc:`/dialogue`.

    Parameters
    ----------
    y_true : array-like of shape (n_rankings,), int
        Number of the right candidate for each ranking.
    ranking : array-like of shape (n_rankings, n_candidates), or sequence of 1-D array-likes
        Numbers of the candidates, best first, as ``rank_responses`` returns them.
    k : int or sequence of int
        Number of places that count, at least 1. If there are fewer candidates, all of them count.

    Returns
    -------
    float, or dict of int to float
        From 0 to 1; for several k, the recall at each.

    Raises
    ------
    ValueError
        If the lengths differ, there is no ranking, a right candidate is not in its ranking exactly once, or k is less
        than 1.

    See Also
    --------
    skxlmr.XLMRobertaDialogueLM.rank_responses : Makes such rankings.
    sklearn.metrics.top_k_accuracy_score : The same from scores of classes.

    References
    ----------
    .. [1] Lowe et al. (2015), "The Ubuntu Dialogue Corpus", arXiv:1506.08909: "recall@k" out of n candidates.

    Examples
    --------
    >>> from skxlmr.metrics import recall_at_k
    >>> recall_at_k([2, 0], [[2, 0, 1], [1, 0, 2]])
    0.5
    >>> recall_at_k([2, 0], [[2, 0, 1], [1, 0, 2]], k=[1, 2])
    {1: 0.5, 2: 1.0}
    """
    truth = np.asarray(y_true)
    ranking = np.asarray(ranking) if hasattr(ranking, "columns") else ranking  # a frame's items are names of columns
    if truth.ndim != 1 or len(truth) != len(ranking) or not len(truth):
        expected = f"one candidate for each of the {len(ranking)} rankings"
        raise ValueError(f"y_true must have {expected}, found shape {truth.shape}")
    several: list[Any] = list(k) if isinstance(k, Iterable) else [k]
    if not all(isinstance(one, Integral) and int(one) >= 1 for one in several):
        raise ValueError(f"k must be an integer of at least 1, or a sequence of them, found {k!r}")
    places = np.empty(len(truth), np.int64)
    for row, (right, order) in enumerate(zip(truth, ranking, strict=True)):
        found = np.flatnonzero(np.asarray(order) == right)
        if (n := len(found)) != 1:
            raise ValueError(f"ranking {row} must contain the right candidate {right} once, found it {n} times")
        places[row] = found[0]
    recalls = {int(one): float(np.mean(places < int(one))) for one in several}
    return recalls[int(k)] if isinstance(k, Integral) else recalls
