"""Scores of each group of rows, with intervals by bootstrap."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

from skxlmr.inspection._scores.groups import ALL_ROWS, MEAN_OF_GROUPS, n_rows_of, read_groups
from skxlmr.inspection._scores.kept_outputs import RowScorer
from skxlmr.utils._sklearn import check_sample_weight
from skxlmr.utils._warnings import outside_stacklevel, warn_once_per_call

if TYPE_CHECKING:
    from pandas import DataFrame


def group_scores(
    estimator: Any,
    X: Any,
    y: Any,
    groups: Any,
    *,
    scoring: Any = None,
    sample_weight: Any = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: Any = None,
) -> DataFrame:
    """Scores of a fitted estimator per language, or any other group of rows, with bootstrap intervals.

    Parameters
    ----------
    estimator : fitted estimator
        Of this library or of scikit-learn: a pipeline or a search, too.
    X : list, array, Series or DataFrame of n_rows rows
        As ``estimator.predict`` takes it. Rows that the estimator was not trained on.
    y : array-like or list of n_rows targets, or None
        As ``estimator.score`` takes it: also lists of tags or answers.
    groups : str or array-like of shape (n_rows,)
        The group of each row, or the name of the column of X that has it.
    scoring : str, callable, list, tuple, dict or None
        As in :func:`sklearn.model_selection.cross_validate`: a scorer's name, a callable with the arguments estimator, X and
        y, or several of them as a list of names or a dict. None is the ``score`` of the estimator.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows in the scores. The resamples draw all rows alike, and take their weights along.
    n_resamples : int, default=1000
        How often each group is resampled. 0 gives no intervals.
    confidence_level : float, default=0.95
        Of the intervals.
    random_state : int, RandomState or None
        Of the resamples.

    Returns
    -------
    DataFrame
        A row for each group, in the order of their names or categories; then ``all rows``, the score of all rows together, and
        ``mean of groups``, the plain mean of the groups' scores (macro average). The columns are ``n_rows``, ``score``, ``low``
        and ``high``, the last two the ends of the interval. With several scorers they are named after each: ``f1_macro``,
        ``f1_macro_low``, ``f1_macro_high``.

    Raises
    ------
    ValueError
        If a row has no group (names it), lengths differ, a group has the name of one of the last two rows, or a scorer would
        run the model for each resample.

    Warns
    -----
    UserWarning
        If a score is not defined in a group, which is then NaN and left out of the mean of the groups, or in some of its
        resamples, which are then left out of the interval: ``"roc_auc"`` needs rows of two classes.

    See Also
    --------
    transfer_scores : Trained on one group, scored on each.
    GroupScoresDisplay : A picture of the table.
    sklearn.model_selection.cross_validate : Scores over folds, not groups.

    Notes
    -----
    Each row is predicted once per method that the scorers ask for (``predict``, ``predict_proba``, ...); resamples take these
    predictions. The interval is the percentile interval of Efron [1]_: the rows of the group are drawn with replacement,
    ``n_resamples`` times. For ``all rows`` they are drawn from all rows, for ``mean of groups`` from each group. It says how
    far the score may be off because the group has no more rows than these, for this very estimator: not how much another fit
    would differ. It is too narrow in small groups, where it covers the true score less often than stated, and it is not given
    (NaN) for a group of a single row. A perfect score has an interval without width: there is no error that could be drawn.

    Scorers of probabilities, such as ``"neg_log_loss"``, are told all classes of the estimator, so that a group may lack some.
    A scorer that calls a method of the estimator on other rows than its X, or a ``score`` that reads none of the methods above
    (of language models), runs the model each time. That is refused, unless ``n_resamples`` is 0.

    References
    ----------
    .. [1] Efron and Tibshirani (1993), "An Introduction to the Bootstrap", chapter 13.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skxlmr import XLMRobertaVectorizer
    >>> from skxlmr.inspection import group_scores
    >>> texts = ["Guter Film", "Schlechter Film", "Great film", "Bad film"]
    >>> labels, languages = ["good", "bad", "good", "bad"], ["de", "de", "en", "en"]
    >>> model = make_pipeline(XLMRobertaVectorizer("skxlmr-mini"), LogisticRegression()).fit(texts, labels)
    >>> group_scores(model, texts, labels, languages, scoring="accuracy", random_state=0)
                    n_rows  score  low  high
    group
    de                   2    1.0  1.0   1.0
    en                   2    1.0  1.0   1.0
    all rows             4    1.0  1.0   1.0
    mean of groups       4    1.0  1.0   1.0
    """
    from pandas import DataFrame, Index

    if not 0 < confidence_level < 1:
        raise ValueError(f"confidence_level must be between 0 and 1, got {confidence_level!r}")
    if not isinstance(n_resamples, int | np.integer) or n_resamples < 0:
        raise ValueError(f"n_resamples must be 0 or a positive integer, got {n_resamples!r}")
    n_rows = n_rows_of(X)
    if y is not None and n_rows_of(y, "y") != n_rows:
        raise ValueError(f"y has {n_rows_of(y, 'y')} rows, and X has {n_rows}: pass one target per row")
    rows = read_groups(groups, X, n_rows)
    weights = None if sample_weight is None else check_sample_weight(sample_weight, np.empty(n_rows))
    scorer = RowScorer(estimator, X, y, weights, scoring, n_rows)
    columns = ["n_rows", *(column for name in scorer.names for column in _columns_of(name))]
    if len(set(columns)) < len(columns):
        twice = next(column for column in columns if columns.count(column) > 1)
        raise ValueError(f"scoring would make two columns {twice!r} of the table: rename a scorer")
    everything = np.arange(n_rows)
    total = {name: scorer(name, everything) for name in scorer.names}  # an error of the scorer itself comes from here
    if n_resamples and scorer.runs_the_model:
        raise ValueError(
            "scoring would run the model for each resample, because it does not score what predict, predict_proba or the "
            "like return for its X: pass n_resamples=0 for scores without intervals, or another scorer"
        )
    sampler = _Resamples(scorer, weights, int(n_resamples), check_random_state(random_state))
    names = [*rows, ALL_ROWS, MEAN_OF_GROUPS]
    table: dict[str, list[Any]] = {"n_rows": [*map(len, rows.values()), n_rows, n_rows]}
    for name in scorer.names:
        scores = [_score_of(scorer, name, group, each) for group, each in rows.items()]
        resampled = sampler.of_groups(name, rows, scores)
        whole = sampler.of(name, everything, total[name])
        of_mean = np.nanmean(scores) if np.isfinite(scores).any() else np.nan
        defined = resampled[np.isfinite(scores)]
        mean = defined.mean(0) if len(defined) else np.full(n_resamples, np.nan)
        ends = [_interval(each, confidence_level) for each in (*resampled, whole, mean)]
        for k, each in enumerate([*rows.values(), everything]):
            if len(each) == 1:
                ends[k] = np.nan, np.nan
        _, low, high = _columns_of(name)
        table |= {name: [*scores, total[name], of_mean], low: [a for a, _ in ends], high: [b for _, b in ends]}
    frame = DataFrame(table, index=Index(names, name="group", dtype=object))
    frame.attrs = {"scoring": scorer.said, "confidence_level": float(confidence_level)}
    return frame


def _columns_of(name: str) -> tuple[str, str, str]:
    """Columns of a scorer: its score, and the ends of the interval."""
    return (name, "low", "high") if name == "score" else (name, f"{name}_low", f"{name}_high")


def _score_of(scorer: RowScorer, name: str, group: Any, rows: np.ndarray) -> float:
    """The score of a group; NaN, with a warning that names it, where it is not defined."""
    why = ""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            score = scorer(name, rows)
        except ValueError as error:  # all rows together have a score
            score, why = np.nan, str(error)
    if np.isfinite(score):
        for each in caught:
            warnings.warn(f"group {group!r}: {each.message}", each.category, stacklevel=outside_stacklevel())
        return score
    why = why or (str(caught[0].message) if caught else "it is not a finite number")
    warn_once_per_call(
        f"{name} is not defined in group {group!r} of {len(rows)} rows, and left out of the mean of the groups ({why})",
        about=("group", name, group),
    )
    return np.nan


class _Resamples:
    """Scores of resamples of rows."""

    def __init__(self, scorer: RowScorer, weights: np.ndarray | None, n_resamples: int, random: np.random.RandomState):
        self._scorer, self._weights = scorer, weights
        self._n, self._random = n_resamples, random

    def of_groups(self, name: str, rows: dict[Any, np.ndarray], scores: list[float]) -> np.ndarray:
        """Scores of the resamples of each group, (n_groups, n_resamples)."""
        found = np.array([self.of(name, *each) for each in zip(rows.values(), scores, strict=True)])
        n_undefined = np.isnan(found).sum(1) * np.isfinite(scores)
        if n_undefined.any():
            said = ", ".join(f"{n} of group {group!r}" for group, n in zip(rows, n_undefined, strict=True) if n)
            warn_once_per_call(
                f"{name} is not defined in some of the {self._n} resamples ({said}): the intervals leave them out",
                about=("resamples", name),
            )
        return found

    def of(self, name: str, rows: np.ndarray, score: float) -> np.ndarray:
        """Scores of the resamples of some rows, (n_resamples,); NaN where they are not defined."""
        if not np.isfinite(score) or not self._n:
            return np.full(self._n, np.nan)
        if len(rows) == 1:
            return np.full(self._n, score)
        of_rows, weights = self._scorer.of_each_row(name), self._weights
        found = np.empty(self._n)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the scores of the rows themselves have given them
            for k in range(self._n):
                drawn = rows[self._random.randint(len(rows), size=len(rows))]
                if of_rows is None:
                    try:
                        found[k] = self._scorer(name, drawn)
                    except ValueError:
                        found[k] = np.nan
                elif weights is None:
                    found[k] = of_rows[drawn].mean()
                else:
                    found[k] = of_rows[drawn] @ weights[drawn] / weights[drawn].sum()
        return np.where(np.isfinite(found), found, np.nan)


def _interval(scores: np.ndarray, confidence_level: float) -> tuple[float, float]:
    defined = scores[np.isfinite(scores)]
    if not len(defined):
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - confidence_level) / 2, (1 + confidence_level) / 2])
    return float(low), float(high)
