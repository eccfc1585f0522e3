"""The estimator of this package inside what people pass: a pipeline, a search, or the estimator itself."""

from typing import Any

from sklearn.pipeline import Pipeline

from skxlmr.estimators._core.estimator import Estimator


def last_step(estimator: Any, X: Any, what: str) -> tuple[Any, Any]:
    """The estimator at the end of a fitted pipeline or search, and X as it reads it.

    Parameters
    ----------
    estimator : estimator of this package, Pipeline, or a search over either
    X : rows
        As ``estimator`` takes them; the steps before the last one transform them.
    what : str
        What needs the estimator, for errors.

    Raises
    ------
    TypeError
        If the last estimator is not one of this package; names it.
    """
    estimator, X = unwrapped(estimator, X)
    if not isinstance(estimator, Estimator):
        name = repr(estimator) if isinstance(estimator, str) else type(estimator).__name__
        raise TypeError(
            f"{what} looks at an estimator of skxlmr, alone, as the last step of a pipeline or in a fitted search, got "
            f"{name}: pass the step that reads the texts, such as pipeline[0]"
        )
    return estimator, X


def step_with(method: str, estimator: Any, X: Any, what: str) -> tuple[Any, Any]:
    """The fitted estimator inside searches and pipelines, and X as it gets it.

    Raises
    ------
    TypeError
        If it lacks the method; names it.
    """
    estimator, X = unwrapped(estimator, X)
    if not hasattr(estimator, method):
        raise TypeError(
            f"{what} needs an estimator with {method}, or a fitted pipeline or search whose last step has it; "
            f"got {type(estimator).__name__}"
        )
    return estimator, X


def unwrapped(estimator: Any, X: Any) -> tuple[Any, Any]:
    """The estimator inside fitted searches and pipelines, and X as it reads it."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif isinstance(estimator, Pipeline):
            if len(estimator.steps) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator.steps[-1][1]
        else:
            return estimator, X
