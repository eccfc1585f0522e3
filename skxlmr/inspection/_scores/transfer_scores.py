"""Scores from each group of rows to each other: trained on one language, scored on another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.utils.parallel import Parallel, delayed

from skxlmr.inspection._scores.groups import ALL_OTHERS, n_rows_of, read_groups
from skxlmr.utils._sklearn import safe_indexing, with_labels

if TYPE_CHECKING:
    from pandas import DataFrame

TRAIN, TEST = "train", "test"  # names of the rows and of the columns, by which a display knows the table


def transfer_scores(
    estimator: Any,
    X: Any,
    y: Any,
    groups: Any,
    *,
    scoring: Any = None,
    cv: Any = None,
    all_others: bool = False,
    n_jobs: int | None = None,
) -> DataFrame:
    """Scores from each group to each other: the transfer matrix of train language x test language.

    Parameters
    ----------
    estimator : estimator
        Clones of it are fitted.
    X : list, array, Series or DataFrame of n_rows rows
        What the estimator reads.
    y : array-like or list of n_rows targets, or None
        What it learns.
    groups : str or array-like of shape (n_rows,)
        The group of each row, or the name of the column of X that has it.
    scoring : str, callable or None
        One scorer, as in :func:`sklearn.model_selection.cross_val_score`. None is the ``score`` of the estimator.
    cv : int, splitter or None
        How a group is divided where it is scored on itself, as in :func:`sklearn.model_selection.cross_val_score`: None is 5
        folds, stratified for classifiers.
    all_others : bool, default=False
        Add a row ``all others``: for each test group, the score of a fit on the rows of all other groups.
    n_jobs : int or None
        Fits at the same time, as everywhere in scikit-learn. Processes don't share the features that ``memory="auto"`` keeps:
        set ``memory`` to a folder.

    Returns
    -------
    DataFrame of shape (n_groups, n_groups)
        The row is the group that the estimator was fitted on, the column the one that it was scored on. Off the diagonal each
        cell is the score of all rows of the test group, by the fit on all rows of the train group. On the diagonal it is the
        mean score over the folds, whose fits have fewer rows: with ``cv=5`` four fifths.

    Raises
    ------
    ValueError
        If a row has no group (names it), there is only one group, or a group can't be fitted or divided (names it).

    See Also
    --------
    group_scores : Scores of one fitted estimator per group, with intervals.
    GroupScoresDisplay : A picture of the matrix.
    sklearn.model_selection.LeaveOneGroupOut : The folds of ``all others``.

    Notes
    -----
    There are ``n_groups * (1 + n_folds)`` fits, and ``n_groups`` more with ``all_others``. Features of frozen encoders are
    computed once per text for all of them, if the estimator that makes them keeps them (``memory``).

    Groups of different size give fits on different numbers of rows: compare rows of the matrix with that in mind. The scores of
    a column have one test set in common, but for the folds on the diagonal.

    Examples
    --------
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skxlmr import XLMRobertaVectorizer
    >>> from skxlmr.inspection import transfer_scores
    >>> texts = ["Guter Film", "Schlechter Film", "Gut", "Schlecht", "Great film", "Bad film", "Great", "Bad"]
    >>> labels, languages = ["good", "bad"] * 4, ["de"] * 4 + ["en"] * 4
    >>> model = make_pipeline(XLMRobertaVectorizer("skxlmr-mini"), LogisticRegression())
    >>> transfer_scores(model, texts, labels, languages, cv=2).shape
    (2, 2)
    """
    from pandas import DataFrame, Index
    from sklearn.metrics import check_scoring
    from sklearn.model_selection import check_cv

    if isinstance(scoring, list | tuple | set | dict):
        raise ValueError("scoring must be one scorer, whose scores make one matrix: call transfer_scores for each")
    n_rows = n_rows_of(X)
    if y is not None and n_rows_of(y, "y") != n_rows:
        raise ValueError(f"y has {n_rows_of(y, 'y')} rows, and X has {n_rows}: pass one target per row")
    rows = read_groups(groups, X, n_rows)
    if len(rows) < 2:
        raise ValueError(f"groups has one group, {next(iter(rows))!r}: transfer needs two or more")
    scorer = check_scoring(estimator, scoring)

    def fits() -> Iterator[tuple[Any, np.ndarray, dict[tuple[Any, Any], np.ndarray]]]:
        """For each fit: the group it is for, its rows, and the rows to score by the cell they count for."""
        for group, own in rows.items():
            yield group, own, {(group, other): each for other, each in rows.items() if other != group}
            own_y = None if y is None else safe_indexing(y, own)
            try:
                folds = list(check_cv(cv, own_y, classifier=is_classifier(estimator)).split(own, own_y))
            except ValueError as error:
                raise ValueError(f"group {group!r} of {len(own)} rows can't be divided by cv: {error}") from error
            for train, test in folds:
                yield group, own[train], {(group, group): own[test]}
        if all_others:
            for group, own in rows.items():
                others = np.setdiff1d(np.arange(n_rows), own)
                yield ALL_OTHERS, others, {(ALL_OTHERS, group): own}

    found: dict[tuple[Any, Any], list[float]] = {}
    planned = list(fits())  # what can't be divided is said before the first fit
    for scores in Parallel(n_jobs=n_jobs)(delayed(_fit_and_score)(estimator, scorer, X, y, *each) for each in planned):
        for cell, score in scores.items():
            found.setdefault(cell, []).append(score)
    trained = [*rows, ALL_OTHERS] if all_others else [*rows]
    values = [[float(np.mean(found[train, test])) for test in rows] for train in trained]
    index, columns = (  # groups may be tuples
        Index(groups, name=name, dtype=object, tupleize_cols=False)
        for groups, name in ((trained, TRAIN), (list(rows), TEST))
    )
    frame = DataFrame(values, index=index, columns=columns)
    frame.attrs = {"scoring": scoring if isinstance(scoring, str) else getattr(scoring, "__name__", "score")}
    return frame


def _fit_and_score(
    estimator: Any, scorer: Any, X: Any, y: Any, group: Any, train: np.ndarray, tests: dict[Any, np.ndarray]
) -> dict[Any, float]:
    """Scores of the rows of each cell, by a clone that is fitted on other rows."""
    try:
        fitted = clone(estimator).fit(safe_indexing(X, train), None if y is None else safe_indexing(y, train))
    except ValueError as error:
        raise ValueError(f"the fit on {len(train)} rows of group {group!r} failed: {error}") from error
    scorer = with_labels(scorer, getattr(fitted, "classes_", None))
    found = {}
    for cell, rows in tests.items():
        try:
            score = scorer(fitted, safe_indexing(X, rows), None if y is None else safe_indexing(y, rows))
        except ValueError as error:
            raise ValueError(f"the score of {len(rows)} rows of group {cell[1]!r} failed: {error}") from error
        if isinstance(score, dict) or np.ndim(score) != 0:
            raise TypeError(f"scoring must return one number, got {score!r:.80}")
        found[cell] = float(score)
    return found
