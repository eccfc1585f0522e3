"""A score that brings along how the fit went, for the tables of searches."""

from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from numbers import Real
from statistics import mean
from typing import Any

from sklearn import get_config
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing

from skxlmr.utils._sklearn import takes_sample_weight

SCORE = "score"
_OF_A_FIT: dict[str, tuple[str, Callable[[Sequence[float]], float]]] = {  # the attribute, and what is said of several
    "n_epochs": ("n_iter_", max),
    "final_loss": ("final_loss_", mean),
    "collapsed": ("collapsed_", max),
}


def search_scoring(scoring: Any = None) -> "SearchScoring":
    """The ``scoring`` of a search or of ``cross_validate`` that puts epochs, loss and collapse beside the score.

    Read more in :doc:`/training`.

    Parameters
    ----------
    scoring : str, callable, list, tuple, dict or None
        What a search takes as its ``scoring``. None is the ``score`` of the estimator.

    Returns
    -------
    callable with the arguments estimator, X and y, which can be pickled if the scorer can
        It returns a dict, for whose keys ``cv_results_`` has columns such as ``mean_test_n_epochs``:

        - ``score``: the score; with a list or dict of scorers one entry for each, under its name;
        - ``n_epochs``: epochs that were run (``n_iter_``);
        - ``final_loss``: training loss of the epoch that was kept (``final_loss_``);
        - ``collapsed``: 1 if the fit hardly learnt (``collapsed_``), else 0.

        The last three are of the trained estimator of this library inside ``estimator``, wherever it is: in a ``Pipeline``, a
        ``TransformedTargetRegressor``, an ensemble. Where there are several, ``n_epochs`` is the most epochs, ``final_loss``
        the mean, and ``collapsed`` 1 if one of them is. Where there is none, they are NaN.

    Raises
    ------
    ValueError
        If ``scoring`` is none, or a scorer in a dict has the name of another column.

    See Also
    --------
    skxlmr.FitQualityWarning : The warning of a single fit that hardly learnt.
    sklearn.model_selection.GridSearchCV : A search with a ``scoring``.

    Notes
    -----
    A search with several columns has to be told which of them decides: pass ``refit="score"``, also to
    ``HalvingGridSearchCV`` and ``HalvingRandomSearchCV``. These two need the column ``score``, so no list or dict of scorers.
    ``cross_val_score`` and ``learning_curve`` take one number only.

    The ``sample_weight`` that a search passes on reaches the score as it would without this function. With metadata routing,
    ask for it on the scorer that is passed as ``scoring``; with None nothing is asked for.

    Examples
    --------
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skxlmr import XLMRobertaClassifier
    >>> from skxlmr.metrics import search_scoring
    >>> texts = ["Guter Film", "Great film", "Schlechter Film", "Bad film"] * 3
    >>> labels = ["good", "good", "bad", "bad"] * 3
    >>> classifier = XLMRobertaClassifier("skxlmr-mini", learning_rate=1e-3, random_state=0)
    >>> search = GridSearchCV(classifier, {"max_epochs": [1, 2]}, scoring=search_scoring(), refit="score", cv=2)
    >>> search.fit(texts, labels).cv_results_["mean_test_n_epochs"]
    array([1., 2.])
    """
    return SearchScoring(scoring)


class SearchScoring:
    """What ``search_scoring`` returns.

    Parameters
    ----------
    scoring : str, callable, list, tuple, dict or None
    """

    def __init__(self, scoring: Any):
        from sklearn.metrics import check_scoring, get_scorer_names

        if isinstance(scoring, str) and scoring not in get_scorer_names():
            near = get_close_matches(scoring, get_scorer_names()) or sorted(get_scorer_names())
            raise ValueError(
                f"scoring={scoring!r} is no scorer of scikit-learn: did you mean {' or '.join(map(repr, near))}?"
            )
        self.scoring = scoring
        self._scorer = None if scoring is None else check_scoring(scoring=scoring)
        if isinstance(scoring, dict) and (taken := scoring.keys() & _OF_A_FIT.keys()):
            raise ValueError(
                f"scoring names a scorer {min(taken)!r}, which is what search_scoring itself adds: rename it"
            )

    def __call__(self, estimator: Any, X: Any, y: Any = None, **params: Any) -> dict[str, float]:
        from sklearn.metrics import check_scoring

        scorer: Any = check_scoring(estimator) if self._scorer is None else self._scorer
        if get_config()["enable_metadata_routing"]:
            params = process_routing(self, "score", **params)["scorer"]["score"] if params else {}
        elif not takes_sample_weight(scorer):
            params.pop("sample_weight", None)
        scores = scorer(estimator, X, y, **params)
        return {**(scores if isinstance(scores, dict) else {SCORE: scores}), **_of_the_fit(estimator)}

    def __repr__(self) -> str:
        return f"search_scoring({'' if self.scoring is None else repr(self.scoring)})"

    def get_metadata_routing(self) -> Any:
        """What the scorer asks for."""
        router = MetadataRouter(owner=self)
        if self._scorer is None:
            return router
        return router.add(scorer=self._scorer, method_mapping=MethodMapping().add(caller="score", callee="score"))

    def _accept_sample_weight(self) -> bool:  # a search asks for it, where metadata routing is off
        return self._scorer is None or takes_sample_weight(self._scorer)


def _of_the_fit(estimator: Any) -> dict[str, float]:
    """What the trained estimators in this one say of their fits."""
    found = list(_trained(estimator, set()))
    values = {name: [float(getattr(each, of)) for each in found] for name, (of, _) in _OF_A_FIT.items()}
    return {name: together(values[name]) if found else float("nan") for name, (_, together) in _OF_A_FIT.items()}


def _trained(value: Any, seen: set[int]) -> Iterator[Any]:
    """The estimators that were trained, wherever they are in this one: they have ``collapsed_``."""
    from sklearn.frozen import FrozenEstimator

    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, list | tuple):
        if value and not isinstance(value[0], Real):  # a curve
            for each in value:
                yield from _trained(each, seen)
    elif "collapsed_" in getattr(value, "__dict__", {}):
        yield value
    elif isinstance(value, BaseEstimator) or type(value).__module__.startswith("sklearn."):
        frozen = isinstance(value, FrozenEstimator) or not isinstance(value, BaseEstimator)
        for name, part in list(getattr(value, "__dict__", {}).items()):
            if name.endswith("_") or name in ("steps", "transformer_list") or (frozen and name == "estimator"):
                yield from _trained(part, seen)
