"""Any scorer on any choice of rows, while the model sees each row once per method."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin, RegressorMixin

from skxlmr.utils._sklearn import safe_indexing, scores_outputs, takes_sample_weight, with_labels
from skxlmr.utils._tables import as_list

# What an estimator says of rows, one answer for each
_METHODS = (
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "transform",
    "score_samples",
    "predict_spans",
    "no_answer_score",
    "predict_entities",
)


class RowScorer:
    """Scores of an estimator on some of the rows of X.

    A method of the estimator is called when a scorer first asks for it, with all rows of X, and what it returned is kept. A
    scorer gets a copy of the estimator whose methods look up the rows there.

    Parameters
    ----------
    estimator : fitted estimator
    X, y
        All rows, and their targets or None.
    sample_weight : ndarray of shape (n_rows,) or None
    scoring : str, callable, list, tuple, dict or None
        As in ``cross_validate``; None is the ``score`` of the estimator.
    n_rows : int

    Attributes
    ----------
    said : str
        What the score is, where there is one, for pictures.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, sample_weight: np.ndarray | None, scoring: Any, n_rows: int):
        self._estimator, scoring = _without_search(estimator, scoring)
        self._X, self._y, self._weights, self._n_rows = X, _plain_column(y), sample_weight, n_rows
        self._outputs: dict[str, Any] = {}
        self._rows, self._current = np.arange(n_rows), X
        self._n_kept = self._n_anew = 0
        self._last = _last_step(self._estimator)
        stands_in = self._stand_in(self._estimator)
        self._scorers: dict[str, tuple[Callable[..., Any], Any]] = {}
        self.said = scoring if isinstance(scoring, str) else getattr(scoring, "__name__", "score")
        if scoring is None:
            self._scorers["score"] = self._own_score()
        elif isinstance(scoring, list | tuple | set | dict):
            self._scorers = {
                str(name): (scorer, stands_in) for name, scorer in _several(self._estimator, scoring).items()
            }
        else:
            self._scorers["score"] = (_one(self._estimator, scoring), stands_in)
        classes = getattr(self._estimator, "classes_", None)
        self._scorers = {name: (with_labels(each, classes), on) for name, (each, on) in self._scorers.items()}
        if sample_weight is not None:
            for name, (scorer, _) in self._scorers.items():
                if not takes_sample_weight(scorer):
                    said = f"scoring={scoring!r}" if name == "score" else f"the scorer {name!r} in scoring"
                    raise ValueError(f"{said} takes no sample_weight: leave sample_weight out, or score without it")

    @property
    def names(self) -> list[str]:
        """Names of the scorers: ``score`` where there is one alone."""
        return list(self._scorers)

    @property
    def runs_the_model(self) -> bool:
        """Whether a scorer made the model predict anew, or asked for nothing that is kept."""
        return self._n_anew > 0 or self._n_kept == 0

    def __call__(self, name: str, rows: np.ndarray) -> float:
        """The score of these rows, which may repeat."""
        scorer, on = self._scorers[name]
        self._rows = rows
        # a scorer of scikit-learn only hands X to the estimator, so that it need not be cut
        self._current = rows if scores_outputs(scorer) else safe_indexing(self._X, rows)
        weights = {} if self._weights is None else {"sample_weight": self._weights[rows]}
        y = None if self._y is None else safe_indexing(self._y, rows)
        score = scorer(on, self._current, y, **weights)
        if isinstance(score, dict) or np.ndim(score) != 0:
            raise TypeError(f"scoring must return one number, got {score!r:.80}")
        return float(score)

    def of_each_row(self, name: str) -> np.ndarray | None:
        """Scores of the rows, where the score of any rows is their (weighted) mean; None where it is not, or unknown."""
        from sklearn.metrics import accuracy_score

        scorer, _ = self._scorers[name]
        if not scores_outputs(scorer, accuracy_score) or np.ndim(self._y) != 1:
            return None
        predicted = np.asarray(self._kept("predict"))
        return None if predicted.ndim != 1 else np.asarray(np.asarray(self._y) == predicted, np.float64)

    def _own_score(self) -> tuple[Callable[..., Any], Any]:
        """What ``estimator.score`` is: of a pipeline that of its last step, for what the whole pipeline predicts."""
        score = getattr(type(self._last), "score", None)
        if score is None:
            raise TypeError(f"{type(self._last).__name__} has no score of its own: pass scoring")
        for mixin, name in ((ClassifierMixin, "accuracy"), (RegressorMixin, "r2")):
            if score is getattr(mixin, "score", None):
                self.said = name
                return _one(self._estimator, name), self._stand_in(self._estimator)
        on = self._stand_in(self._last)

        def own(on: Any, X: Any, y: Any, **weights: Any) -> Any:
            return on.score(X, y, **weights)

        if "sample_weight" not in signature(score).parameters:
            return (lambda on, X, y: own(on, X, y)), on
        return (lambda on, X, y, sample_weight=None: own(on, X, y, sample_weight=sample_weight)), on

    def _stand_in(self, like: Any) -> Any:
        """A copy of an estimator whose methods return what is kept."""
        copy = object.__new__(type(like))
        vars(copy).update(vars(like))
        for name in _METHODS:
            if hasattr(self._estimator, name):
                vars(copy)[name] = self._looking_up(name)
        return copy

    def _looking_up(self, name: str) -> Callable[..., Any]:
        def method(X: Any, *args: Any, **params: Any) -> Any:
            if X is not self._current or args or params:
                self._n_anew += 1
                return getattr(self._estimator, name)(X, *args, **params)
            self._n_kept += 1
            return _take(self._kept(name), self._rows, self._n_rows)

        method.__name__ = name  # by which scikit-learn tells them apart
        return method

    def _kept(self, name: str) -> Any:
        if name not in self._outputs:
            self._outputs[name] = getattr(self._estimator, name)(self._X)
        return self._outputs[name]


def _without_search(estimator: Any, scoring: Any) -> tuple[Any, Any]:
    """A search is its best estimator, and its ``score`` is its scorer."""
    while hasattr(estimator, "best_estimator_"):
        if scoring is None and getattr(estimator, "scorer_", None) is not None:
            scorer = estimator.scorer_
            scoring = scorer[estimator.refit] if isinstance(scorer, dict) else scorer
            if type(scoring).__name__ == "_PassthroughScorer":
                scoring = None
        estimator = estimator.best_estimator_
    return estimator, scoring


def _last_step(estimator: Any) -> Any:
    while getattr(estimator, "steps", None):
        estimator = estimator.steps[-1][1]
    return estimator


def _one(estimator: Any, scoring: Any) -> Any:
    from sklearn.metrics import check_scoring

    return check_scoring(estimator, scoring)


def _several(estimator: Any, scoring: Any) -> dict[Any, Any]:
    named = scoring if isinstance(scoring, dict) else {name: name for name in scoring}
    if not named or not all(isinstance(name, str) for name in named):
        raise ValueError(f"scoring names no scorers: pass a list of their names or a dict, got {scoring!r:.80}")
    return {name: _one(estimator, scorer) for name, scorer in named.items()}


def _plain_column(y: Any) -> Any:
    """A column as an array, whose rows are fast to take; anything else as it is."""
    if not hasattr(y, "to_numpy") or len(getattr(y, "shape", (0,))) != 1:
        return y
    values = y.to_numpy()
    if values.dtype == object and not all(isinstance(value, str) for value in values):
        return y
    return values


def _take(outputs: Any, rows: np.ndarray, n_rows: int) -> Any:
    if isinstance(outputs, list) and _is_by_column(outputs, n_rows):
        return [column[rows] for column in outputs]
    if hasattr(outputs, "__len__") or hasattr(outputs, "shape"):
        return safe_indexing(outputs, rows)
    return safe_indexing(as_list(outputs), rows)


def _is_by_column(outputs: list[Any], n_rows: int) -> bool:
    """Whether these are arrays of all rows for each of several columns of y, not an answer for each row."""
    return all(isinstance(each, np.ndarray) and each.ndim == 2 for each in outputs) and (
        len(outputs) != n_rows or all(len(each) == n_rows for each in outputs)
    )
