"""What a method of an estimator adds to a table: names and types of the columns, and how rows fill them.

They follow from the estimator alone, not from rows, so that batches without rows have them too.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import is_classifier, is_regressor

METHODS = ("auto", "predict", "predict_proba", "predict_entities", "transform")
USUAL_NAMES = {
    "predict": "prediction",
    "predict_proba": "probability",
    "predict_entities": "entities",
    "transform": "features",
}


@dataclass(frozen=True)
class Column:
    """A column that is added.

    Attributes
    ----------
    name : str
    kind : {"string", "int64", "bool", "float32", "float64", "vector", "entities"}
        Of its values; vectors are of float32.
    size : int
        Numbers of a vector.
    """

    name: str
    kind: str
    size: int = 0


@dataclass(frozen=True)
class Results:
    """What is added to each row.

    Attributes
    ----------
    columns : list of Column
    compute : callable
        Values of each of these columns, from what the estimator's method takes; at least one row.
    """

    columns: list[Column]
    compute: Callable[[Any], list[Any]]


def results_of(estimator: Any, method: str, output: str | None, wide: bool) -> Results:
    """What a method of an estimator adds to a table.

    Raises
    ------
    ValueError, TypeError
        If the estimator does not have the method, or its results don't fit into columns.
    """
    if method == "auto":
        known = [name for name in ("predict_entities", "predict", "transform") if hasattr(estimator, name)]
        if not known:
            raise ValueError(f"{type(estimator).__name__} has neither predict nor transform")
        method = known[0]
    elif not hasattr(estimator, method):
        has = ", ".join(name for name in METHODS[1:] if hasattr(estimator, name)) or "none of these methods"
        raise ValueError(f"{type(estimator).__name__} has no {method}: it has {has}")
    name = output or USUAL_NAMES[method]
    make = {"predict": _predictions, "predict_proba": _probabilities, "predict_entities": _entities}
    return _features(estimator, name, wide) if method == "transform" else make[method](estimator, name)


def _predictions(estimator: Any, name: str) -> Results:
    kind, classes = type(estimator).__name__, getattr(estimator, "classes_", None)
    if hasattr(estimator, "predict_entities"):
        raise ValueError(f"{kind} predicts a list of tags per row: use the method predict_entities")
    if kind == "XLMRobertaQuestionAnswerer":
        return Results([Column(name, "string")], lambda X: [estimator.predict(X)])
    if isinstance(classes, list):  # several columns of classes
        columns = [Column(f"{name}_{k}", _kind_of(each)) for k, each in enumerate(classes)]
        return Results(columns, lambda X: list(estimator.predict(X).T))
    if classes is not None and _has_many_labels(estimator):
        columns = [Column(f"{name}_{label}", "int64") for label in classes]
        return Results(columns, lambda X: list(estimator.predict(X).T))
    if classes is not None:
        column = Column(name, _kind_of(classes))
        if not _is_own(estimator):
            return Results([column], lambda X: [estimator.predict(X)])

        def predict(X: Any) -> list[Any]:  # in one go: predict is the argmax of predict_proba
            proba = estimator.predict_proba(X)
            codes = proba.argmax(1)
            return [classes[codes], proba[np.arange(len(codes)), codes]]

        return Results([column, Column(f"{name}_probability", "float32")], predict)
    if not is_regressor(estimator):
        raise ValueError(f"the type of what {kind} predicts is not known: use another method")
    number = "float32" if _is_own(estimator) else "float64"
    n_outputs = getattr(estimator, "n_outputs_", 1) if _is_own(estimator) else 1
    names = [name] if n_outputs == 1 else [f"{name}_{k}" for k in range(n_outputs)]
    return Results([Column(each, number) for each in names], lambda X: _as_columns(estimator.predict(X), len(names)))


def _probabilities(estimator: Any, name: str) -> Results:
    classes, number = estimator.classes_, "float32" if _is_own(estimator) else "float64"
    if hasattr(estimator, "predict_entities"):
        raise ValueError("a tagger has probabilities of each word: use the method predict_entities")
    if isinstance(classes, list):
        columns = [Column(f"{name}_{k}_{label}", number) for k, each in enumerate(classes) for label in each]
        return Results(columns, lambda X: [column for each in estimator.predict_proba(X) for column in each.T])
    columns = [Column(f"{name}_{label}", number) for label in classes]
    return Results(columns, lambda X: _as_columns(estimator.predict_proba(X), len(columns)))


def _entities(estimator: Any, name: str) -> Results:
    return Results([Column(name, "entities")], lambda X: [estimator.predict_entities(X)])


def _features(estimator: Any, name: str, wide: bool) -> Results:
    if getattr(estimator, "output", "dense") == "sparse":
        raise ValueError(
            "features with output='sparse' are too many for a table: they need transform and a sparse matrix"
        )
    n_features = len(estimator.get_feature_names_out())

    def transform(X: Any) -> np.ndarray:
        values = np.asarray(estimator.transform(X), np.float32)
        if values.shape[1:] != (n_features,):
            raise ValueError(f"transform gave an array of shape {values.shape}, expected {n_features} features")
        return values

    if wide:
        columns = [Column(f"{name}_{k}", "float32") for k in range(n_features)]
        return Results(columns, lambda X: list(transform(X).T))
    return Results([Column(name, "vector", n_features)], lambda X: [transform(X)])


def _as_columns(values: Any, n: int) -> list[Any]:
    values = np.asarray(values)
    if values.size != len(values) * n:
        raise ValueError(f"the estimator gave an array of shape {values.shape}, expected {n} columns")
    return list(values.reshape(len(values), n).T)


def _is_own(estimator: Any) -> bool:
    return type(estimator).__module__.partition(".")[0] == "skxlmr"


def _has_many_labels(estimator: Any) -> bool:
    """Whether a row may have several of the classes."""
    if _is_own(estimator):
        is_many = getattr(estimator, "target_type_", "") == "multilabel-indicator"
        return is_many or bool(getattr(estimator, "multi_label", False))
    return is_classifier(estimator) and bool(getattr(estimator, "multilabel_", False))


def _kind_of(classes: Any) -> str:
    kinds = {type(label) for label in np.asarray(classes).tolist()}
    known = {str: "string", int: "int64", bool: "bool", float: "float64"}
    if len(kinds) != 1 or not kinds <= known.keys():
        found = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise TypeError(f"classes that are {found} can't be a column of a table")
    return known[kinds.pop()]
