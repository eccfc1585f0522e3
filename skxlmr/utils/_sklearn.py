"""The only file that uses scikit-learn's private API, and the types of its classes for type checkers.

scikit-learn ships no types, so type checkers see the classes below instead; at run time they are scikit-learn's own.
"""

from copy import copy
from functools import lru_cache, wraps
from inspect import signature
from typing import TYPE_CHECKING, Any

from sklearn.utils import _safe_indexing as safe_indexing
from sklearn.utils._metadata_requests import SIMPLE_METHODS
from sklearn.utils._param_validation import Interval, StrOptions, validate_parameter_constraints
from sklearn.utils._set_output import _get_output_config as output_config
from sklearn.utils._sparse import _align_api_if_sparse as as_sparse
from sklearn.utils.validation import _check_feature_names
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

from skxlmr.utils._tables import check_distinct_names

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self, TypeVar

    from skxlmr.utils import _sklearn_bases as bases

    Method = TypeVar("Method", bound=Callable[..., Any])

    def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[Method], Method]:
        """Validate the parameters before a fit."""

    class BaseEstimator(bases.BaseEstimator):
        """Parameters, clone, representation, metadata routing."""

        def get_params(self, deep: bool = True) -> dict[str, Any]:
            """Parameters by name."""

        def set_params(self, **params: Any) -> Self:
            """Set parameters by name."""

        def get_metadata_routing(self) -> Any:
            """Which metadata the methods ask for."""

        def set_fit_request(self, **requests: bool | str | None) -> Self:
            """Ask for metadata in ``fit``."""

        def set_partial_fit_request(self, **requests: bool | str | None) -> Self:
            """Ask for metadata in ``partial_fit``."""

        def set_score_request(self, **requests: bool | str | None) -> Self:
            """Ask for metadata in ``score``."""

        def _validate_params(self) -> None: ...

        def __getstate__(self) -> dict[str, Any]: ...

        def __setstate__(self, state: dict[str, Any]) -> None: ...

        def __sklearn_clone__(self) -> Self: ...

        def __sklearn_tags__(self) -> Any: ...

    class CallbackSupportMixin:
        """Callbacks of a fit."""

        def set_callbacks(self, *callbacks: Any) -> Self:
            """Watch the fits with these callbacks."""

        def _init_callback_context(self, **settings: Any) -> Any: ...

    class ClassifierMixin(bases.ClassifierMixin):
        """Tags and the score of classifiers."""

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
            """Accuracy on the rows of X."""

        def __sklearn_tags__(self) -> Any: ...

    class RegressorMixin(bases.RegressorMixin):
        """Tags and the score of regressors."""

        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
            """R2 on the rows of X."""

        def __sklearn_tags__(self) -> Any: ...

    class TransformerMixin(bases.TransformerMixin):
        """``fit_transform`` and ``set_output``."""

        def fit_transform(self, X: Any, y: Any = None, **fit_params: Any) -> Any:
            """Fit, then transform the same rows."""

        def set_output(self, *, transform: str | None = None) -> Self:
            """Choose what ``transform`` returns: ``'default'``, ``'pandas'`` or ``'polars'``."""

        def __sklearn_tags__(self) -> Any: ...

else:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin, _fit_context
    from sklearn.callback import CallbackSupportMixin

    def fit_context(*, prefer_skip_nested_validation):
        """scikit-learn's decorator; an unknown argument is refused in the name of the estimator's own class."""

        def decorate(method):
            decorated = _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)(method)
            known = list(signature(method).parameters)

            @wraps(decorated)
            def fit(self, *args, **kwargs):
                unknown = [name for name in kwargs if name not in known]
                if unknown:
                    name, takes = f"{type(self).__name__}.{method.__name__}()", ", ".join(known[1:])
                    raise TypeError(f"{name} has no argument {unknown[0]!r}: it takes {takes}")
                return decorated(self, *args, **kwargs)

            return fit

        return decorate


# Attributes that scikit-learn sets on an estimator with callbacks; the first one stays after a fit.
CALLBACK_ATTRIBUTES = frozenset(
    {"_skl_callbacks", "_skl_callbacks_to_teardown", "_callback_fit_ctx", "_parent_callback_ctx"}
)


def metadata_requests(estimator: Any) -> dict[str, dict[str, Any]]:
    """What was asked for with ``set_fit_request`` and its like: by method, then by parameter; only what was set."""
    found = vars(estimator).get("_metadata_request")
    if found is None:
        return {}
    return {
        method: dict(getattr(found, method).requests) for method in SIMPLE_METHODS if getattr(found, method).requests
    }


def set_metadata_requests(estimator: Any, requests: Any) -> None:
    """Ask for the same, also while metadata routing is off.

    Raises
    ------
    ValueError, TypeError, AttributeError
        If it is not what :func:`metadata_requests` returns.
    """
    if not requests:
        return
    asked = estimator._get_metadata_request()
    for method, wanted in requests.items():
        known = getattr(asked, method).requests if method in SIMPLE_METHODS else {}
        for name, alias in wanted.items():
            if name not in known:
                raise ValueError(f"{method} takes no {name!r:.80}, which is requested")
            getattr(asked, method).add_request(param=name, alias=alias)
    estimator._metadata_request = asked


def check_feature_names(estimator: Any, X: Any, *, reset: bool, name: str = "X") -> None:
    """Set the names of the columns of X, or compare them with those of the fit.

    Raises
    ------
    ValueError
        If they differ, or two of them are the same.
    """
    check_distinct_names(X, name)
    _check_feature_names(estimator, X, reset=reset)


_PLAIN = (str, int, float, bool, type(None))  # values whose content can't change


def check_parameters(estimator: Any) -> None:
    """Validate the parameters as ``_validate_params`` of scikit-learn does; plain values that passed once pass at once.

    Raises
    ------
    ValueError
        If a parameter is not what its constraints say.
    """
    kind: Any = type(estimator)
    names = _constrained(kind)
    values = [getattr(estimator, name) for name in names]
    if not all(type(value) in _PLAIN for value in values):
        others = {name: value for name, value in zip(names, values, strict=True) if type(value) not in _PLAIN}
        validate_parameter_constraints(kind._parameter_constraints, others, caller_name=kind.__name__)
        names = tuple(name for name in names if name not in others)
        values = [getattr(estimator, name) for name in names]
    _check_plain(kind, names, *values)


@lru_cache(maxsize=64)
def _constrained(kind: Any) -> tuple[str, ...]:
    """Names of the parameters that have constraints."""
    return tuple(name for name in kind._get_param_names() if name in kind._parameter_constraints)


@lru_cache(maxsize=64, typed=True)  # 1, 1.0 and True are different values
def _check_plain(kind: Any, names: tuple[str, ...], *values: Any) -> None:
    parameters = dict(zip(names, values, strict=True))
    validate_parameter_constraints(kind._parameter_constraints, parameters, caller_name=kind.__name__)


def takes_sample_weight(scorer: Any) -> bool:
    """Whether a scorer takes ``sample_weight``, as a search asks it where metadata routing is off."""
    if hasattr(scorer, "_accept_sample_weight"):
        return bool(scorer._accept_sample_weight())
    return "sample_weight" in signature(scorer).parameters


def scores_outputs(scorer: Any, function: Any = None) -> bool:
    """Whether a scorer is one that ``make_scorer`` makes: of y and what one method returns for X; of this function alone."""
    from sklearn.metrics._scorer import _BaseScorer

    return isinstance(scorer, _BaseScorer) and (
        function is None or (scorer._score_func is function and not scorer._kwargs and scorer._sign == 1)
    )


def own_function(scorer: Any) -> Any:
    """The user's function that ``make_scorer`` made a scorer of, which its ``repr`` says without the module; None otherwise."""
    function = scorer._score_func if scores_outputs(scorer) else None
    return None if str(getattr(function, "__module__", "")).startswith("sklearn.") else function


def with_labels(scorer: Any, classes: Any) -> Any:
    """A scorer of probabilities that knows all classes, also those that the rows lack; any other scorer as it is."""
    if not scores_outputs(scorer) or getattr(classes, "ndim", 0) != 1 or scorer._response_method == "predict":
        return scorer
    if "labels" in scorer._kwargs or "labels" not in signature(scorer._score_func).parameters:
        return scorer
    made = copy(scorer)
    made._kwargs = {**scorer._kwargs, "labels": classes}
    return made


__all__ = [
    "CALLBACK_ATTRIBUTES",
    "BaseEstimator",
    "CallbackSupportMixin",
    "ClassifierMixin",
    "Interval",
    "RegressorMixin",
    "StrOptions",
    "TransformerMixin",
    "as_sparse",
    "check_feature_names",
    "check_parameters",
    "check_sample_weight",
    "fit_context",
    "metadata_requests",
    "output_config",
    "own_function",
    "safe_indexing",
    "scores_outputs",
    "set_metadata_requests",
    "takes_sample_weight",
    "validate_parameter_constraints",
    "with_labels",
]
