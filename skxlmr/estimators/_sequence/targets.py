"""What y may be for a classifier: one class per row, several labels per row, or several columns of classes.

Each kind says how y becomes targets, what the loss is, how logits become probabilities, and how these become predictions.
Shape suffixes: N rows, K outputs of the head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from scipy.special import log_expit
from sklearn.utils import column_or_1d
from sklearn.utils.class_weight import compute_class_weight
from sklearn.utils.multiclass import type_of_target

from skxlmr.nn.losses import binary_cross_entropy, cross_entropy
from skxlmr.utils._imports.later import torch
from skxlmr.utils._labels import (
    check_labels,
    check_target_names,
    columns_of,
    plain_array,
    target_names,
    warn_of_column,
    warn_of_texts,
)
from skxlmr.utils._tables import describe, plain

if TYPE_CHECKING:
    from torch import Tensor

Loss: TypeAlias = "Callable[[Tensor, Tensor], Tensor]"


class Kind:
    """A kind of y, with the classes of a fit."""

    def __init__(self, classes: np.ndarray):
        self.classes = classes
        self.n_outputs = len(classes)
        self.names = [str(label) for label in classes.tolist()]

    def log_proba(self, logits_NK: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def proba(self, logits_NK: np.ndarray) -> np.ndarray:
        return np.exp(self.log_proba(logits_NK))


class OneClass(Kind):
    """One class per row: softmax and cross-entropy. Targets are codes (N,) int64."""

    problem_type = "single_label_classification"

    def __init__(self, classes: np.ndarray):
        super().__init__(classes)
        self.target_type = "binary" if self.n_outputs == 2 else "multiclass"

    @classmethod
    def learn(cls, y: Any, name: str) -> tuple[OneClass, np.ndarray]:
        """Kind and targets of a first fit."""
        labels = one_label_per_row(y, name)
        classes, codes = np.unique(labels, return_inverse=True)
        warn_of_texts(labels, len(classes), name)
        if len(classes) < 2:
            found = f"only one class, {classes.tolist()[0]!r}" if len(classes) else "no class"
            raise ValueError(f"{name} has {found}: at least two are needed")
        return cls(classes), codes.astype(np.int64)

    def encode(self, y: Any, name: str) -> np.ndarray:
        """Targets of later rows, which may hold known classes only."""
        labels = self.read(y, name)
        code_of = {label: code for code, label in enumerate(self.classes.tolist())}
        found = [code_of.get(label) for label in _in_the_unit_of(self.classes, labels).tolist()]
        if None in found:
            row = found.index(None)
            raise ValueError(
                f"{name} row {row}: label {plain(labels[row])!r} is not among the classes of the fit, "
                f"{', '.join(repr(plain(label)) for label in self.classes[:10])}{', ...' if len(code_of) > 10 else ''}"
            )
        return np.array(found, np.int64)

    def weigh(self, weights: np.ndarray, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Weights of the rows times those of their classes."""
        if class_weight is None:
            return weights
        if isinstance(class_weight, list):
            raise ValueError(
                "class_weight as a list is for several labels or columns; y has one class per row: pass a dict"
            )
        return weights * weights_of_classes(class_weight, self.classes, targets, weights)[targets]

    def loss(self, targets: np.ndarray, weights: np.ndarray, class_weight: Any, label_smoothing: float) -> Loss:
        """Values (N,) from logits and targets."""
        return lambda logits_NK, target_N: cross_entropy(logits_NK, target_N, label_smoothing)

    def log_proba(self, logits_NK: np.ndarray) -> np.ndarray:
        # SciPy's log_softmax computes the same; to find out which array library it is given takes longer than one text should
        shifted_NK = logits_NK - logits_NK.max(1, keepdims=True)
        return shifted_NK - np.log(np.exp(shifted_NK).sum(1, keepdims=True))

    def scores(self, logits_NK: np.ndarray) -> np.ndarray:
        """What decision_function returns."""
        return logits_NK[:, 1] - logits_NK[:, 0] if self.n_outputs == 2 else logits_NK

    def decide(self, proba: np.ndarray, threshold: Any) -> np.ndarray:
        """Predicted targets."""
        return proba.argmax(1)

    def label(self, codes: np.ndarray) -> np.ndarray:
        """Predictions in the user's words."""
        return self.classes[codes]

    def read(self, y: Any, name: str) -> np.ndarray:
        """The labels of later rows in the same words; other classes than those of the fit are allowed, as in a score."""
        return one_label_per_row(y, name, "the fit had")


class ManyLabels(Kind):
    """Any number of K labels per row: sigmoid and binary cross-entropy. Targets are indicators (N, K) float32."""

    target_type = "multilabel-indicator"
    problem_type = "multi_label_classification"

    @classmethod
    def learn(cls, y: Any, columns: list[np.ndarray], name: str) -> tuple[ManyLabels, np.ndarray]:
        """Kind and targets of a first fit."""
        names = target_names(y, name)
        classes = np.arange(len(columns)) if names is None else np.array(names)
        return cls(classes), np.stack(columns, 1).astype("f4")

    def encode(self, y: Any, name: str) -> np.ndarray:
        """Targets of later rows, of the same labels."""
        columns = columns_of(y, name) or [column_or_1d(plain_array(y))]
        if len(columns) != self.n_outputs:
            raise ValueError(
                f"{name} must be an indicator matrix with one column for each of the {self.n_outputs} labels"
            )
        known = self.classes.tolist()
        check_target_names(y, name, None if known == list(range(self.n_outputs)) else known)
        for k, column in enumerate(columns):
            wrong = np.flatnonzero(~_is_indicator(column))
            if len(wrong):
                raise ValueError(
                    f"{name} column {k} row {wrong[0]}: expected 0 or 1, got {column.tolist()[wrong[0]]!r}"
                )
        return np.stack(columns, 1).astype(np.float32)

    def weigh(self, weights: np.ndarray, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """The weights as they are: labels have theirs in the loss."""
        return weights

    def loss(self, targets: np.ndarray, weights: np.ndarray, class_weight: Any, label_smoothing: float) -> Loss:
        """Values (N,) from logits and targets."""
        table = None if class_weight is None else torch.from_numpy(self._weights_2K(targets, weights, class_weight))
        return lambda logits_NK, target_NK: binary_cross_entropy(logits_NK, target_NK, label_smoothing, table)

    def _weights_2K(self, targets: np.ndarray, weights: np.ndarray, class_weight: Any) -> np.ndarray:
        """Weights of 0 and of 1 in the loss of each label, (2, K) float32."""
        class_weight = _with_plain_keys(class_weight)
        if isinstance(class_weight, str):  # "balanced": as in scikit-learn, for each label on its own
            ones_K, total = weights @ targets, weights.sum()
            counts_2K = np.stack([total - ones_K, ones_K])
            return np.where(counts_2K > 0, total / (2 * np.maximum(counts_2K, 1e-12)), 1.0).astype(np.float32)
        if isinstance(class_weight, dict):
            unknown = set(class_weight) - set(self.classes.tolist())
            if unknown:
                raise ValueError(f"class_weight names {sorted(map(str, unknown))}, which are not labels of y")
            ones = [class_weight.get(label, 1.0) for label in self.classes.tolist()]
            return _checked_weights(np.stack([np.ones(self.n_outputs), ones]), class_weight).astype(np.float32)
        if len(class_weight) != self.n_outputs:
            raise ValueError(f"class_weight has {len(class_weight)} dicts, but y has {self.n_outputs} labels")
        for label, weights_of_label in zip(self.names, class_weight, strict=True):
            if not isinstance(weights_of_label, dict) or not set(weights_of_label) <= {0, 1}:
                raise ValueError(
                    f"class_weight of the label {label!r} must be a dict with the weights of 0 and 1, got {weights_of_label!r}"
                )
        table = [[of_label.get(value, 1.0) for of_label in class_weight] for value in (0, 1)]
        return _checked_weights(np.array(table, np.float32), class_weight)

    def log_proba(self, logits_NK: np.ndarray) -> np.ndarray:
        return log_expit(logits_NK)

    def scores(self, logits_NK: np.ndarray) -> np.ndarray:
        """What decision_function returns."""
        return logits_NK

    def decide(self, proba: np.ndarray, threshold: Any) -> np.ndarray:
        """Predicted targets."""
        return (proba >= self.checked(threshold)).astype(int)

    def checked(self, threshold: Any) -> np.ndarray:
        """One threshold, or one per label."""
        of_label = np.asarray(threshold, np.float64)
        if of_label.shape not in [(), (self.n_outputs,)]:
            raise ValueError(f"threshold must be one number or {self.n_outputs}, one for each label, got {threshold!r}")
        if not ((of_label >= 0) & (of_label <= 1)).all():
            raise ValueError(f"threshold must be from 0 to 1, got {threshold!r}")
        return of_label

    def label(self, codes: np.ndarray) -> np.ndarray:
        """Predictions in the user's words."""
        return codes

    def read(self, y: Any, name: str) -> np.ndarray:
        """The indicators of later rows."""
        return self.encode(y, name).astype(int)


class ManyColumns:
    """One class per row in each of several columns: the logits stand side by side, the loss is the mean of the columns'.

    Targets are codes (N, n_columns) int64.
    """

    target_type = "multiclass-multioutput"
    problem_type = None  # the reference has no name for it

    def __init__(self, classes: Sequence[np.ndarray], columns: list[Any] | None = None):
        self.columns = columns  # their names, if they have some
        self.parts = [OneClass(of_column) for of_column in classes]
        self.classes = [part.classes for part in self.parts]
        self.n_outputs = sum(part.n_outputs for part in self.parts)
        self.names = [f"{k}: {name}" for k, part in enumerate(self.parts) for name in part.names]
        self._ends = np.cumsum([part.n_outputs for part in self.parts])[:-1].tolist()

    @classmethod
    def learn(cls, y: Any, columns: list[np.ndarray], name: str) -> tuple[ManyColumns, np.ndarray]:
        """Kind and targets of a first fit."""
        names = target_names(y, name)
        parts, codes = zip(*(OneClass.learn(y, f"{name} column {k}") for k, y in enumerate(columns)), strict=True)
        return cls([part.classes for part in parts], names), np.stack(codes, axis=1)

    def encode(self, y: Any, name: str) -> np.ndarray:
        """Targets of later rows, which may hold known classes only."""
        found = zip(self.parts, self._split(y, name), strict=True)
        return np.stack([part.encode(y, f"{name} column {k}") for k, (part, y) in enumerate(found)], axis=1)

    def read(self, y: Any, name: str) -> list[np.ndarray]:
        """The labels of later rows, a column each; other classes than those of the fit are allowed, as in a score."""
        found = zip(self.parts, self._split(y, name), strict=True)
        return [part.read(y, f"{name} column {k}") for k, (part, y) in enumerate(found)]

    def _split(self, y: Any, name: str) -> list[np.ndarray]:
        """The columns of later rows, as many as in the fit."""
        columns = columns_of(y, name) or []
        if len(columns) != len(self.parts):
            raise ValueError(f"{name} must have {len(self.parts)} columns of classes, as in the fit")
        check_target_names(y, name, self.columns)
        return columns

    def weigh(self, weights: np.ndarray, targets: np.ndarray, class_weight: Any) -> np.ndarray:
        """Weights of the rows times those of their classes in every column, as in scikit-learn's forests."""
        if isinstance(class_weight, dict) or (isinstance(class_weight, list) and len(class_weight) != len(self.parts)):
            raise ValueError(f"class_weight must be a list of {len(self.parts)} dicts, one for each column of y")
        each = class_weight if isinstance(class_weight, list) else [class_weight] * len(self.parts)
        factors = [np.ones_like(weights)]
        for part, codes, of_column in zip(self.parts, targets.T, each, strict=True):
            # the weights of a column's classes depend on the rows' own weights, not on the other columns
            factors.append(part.weigh(weights, codes, of_column) / np.where(weights > 0, weights, 1))
        return weights * np.prod(factors, axis=0)

    def loss(self, targets: np.ndarray, weights: np.ndarray, class_weight: Any, label_smoothing: float) -> Loss:
        """Values (N,) from logits and targets."""
        sizes = [part.n_outputs for part in self.parts]

        def mean_of_columns(logits_NK: Tensor, targets_NC: Tensor) -> Tensor:
            pairs = zip(logits_NK.split(sizes, dim=1), targets_NC.unbind(1), strict=True)
            return torch.stack([cross_entropy(logits, y, label_smoothing) for logits, y in pairs]).mean(0)

        return mean_of_columns

    def _each(self, logits_NK: np.ndarray) -> Iterator[tuple[OneClass, np.ndarray]]:
        return zip(self.parts, np.split(logits_NK, self._ends, axis=1), strict=True)

    def log_proba(self, logits_NK: np.ndarray) -> list[np.ndarray]:
        return [part.log_proba(logits) for part, logits in self._each(logits_NK)]

    def proba(self, logits_NK: np.ndarray) -> list[np.ndarray]:
        return [part.proba(logits) for part, logits in self._each(logits_NK)]

    def scores(self, logits_NK: np.ndarray) -> list[np.ndarray]:
        """What decision_function returns."""
        return [part.scores(logits) for part, logits in self._each(logits_NK)]

    def decide(self, proba: list[np.ndarray], threshold: Any) -> np.ndarray:
        """Predicted targets."""
        return np.stack([of_column.argmax(1) for of_column in proba], axis=1)

    def label(self, codes: np.ndarray) -> np.ndarray:
        """Predictions in the user's words; of dtype object where columns hold values of several kinds, as texts and numbers."""
        columns = [part.label(column) for part, column in zip(self.parts, codes.T, strict=True)]
        kinds = {column.dtype.kind for column in columns}
        if len(kinds) > 1:  # not astype(object), which makes whole numbers of dates in nanoseconds
            columns = [np.fromiter(map(plain, column), object, len(column)) for column in columns]
        return np.stack(columns, axis=1)


def weights_of_classes(class_weight: Any, classes: np.ndarray, codes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weight of each class, (n_classes,) float32, from the codes and weights of rows or words."""
    of_class, counts = np.ones(len(classes), np.float32), weights > 0
    class_weight = _with_plain_keys(class_weight)
    if class_weight is None or not counts.any():
        return of_class
    if isinstance(class_weight, dict):  # may name other classes too (in a warm start)
        of_class[:] = _named_weights(class_weight, list(map(plain, classes)))
    else:  # "balanced" knows only the classes of rows with a weight
        present = np.unique(codes[counts])
        of_class[present] = compute_class_weight(
            class_weight, classes=present, y=codes[counts], sample_weight=weights[counts]
        )
    return _checked_weights(of_class, class_weight)


def _named_weights(class_weight: dict[Any, float], labels: list[Any]) -> list[float]:
    """As scikit-learn's, which finds the weight of the text "1" only under the number 1; here it may have its own name."""
    keys = [
        label if label in class_weight or not str(label).removeprefix("-").isdecimal() else int(label)
        for label in labels
    ]
    missing = [label for label, key in zip(labels, keys, strict=True) if key not in class_weight]
    if missing and len(labels) - len(missing) != len(class_weight):
        raise ValueError(f"The classes, {missing}, are not in class_weight")
    return [class_weight.get(key, 1.0) for key in keys]


def _with_plain_keys(class_weight: Any) -> Any:
    """The weights with labels as they stand among the classes: a text without its own class, a number as Python's."""
    if isinstance(class_weight, dict):
        return {plain(label): weight for label, weight in class_weight.items()}
    return list(map(_with_plain_keys, class_weight)) if isinstance(class_weight, list) else class_weight


def _checked_weights(found: np.ndarray, class_weight: Any) -> np.ndarray:
    """The weights of classes, after a check that each is finite and not negative."""
    if not (np.isfinite(found) & (found >= 0)).all():
        raise ValueError(f"class_weight must hold finite weights of 0 or more, got {class_weight!r:.200}")
    return found


Targets = OneClass | ManyLabels | ManyColumns


def targets_of(target_type: str, classes: Any, columns: list[Any] | None = None) -> Targets:
    """The kind of that name, with the classes of a fit and the names of several columns of classes."""
    if target_type == ManyColumns.target_type:
        return ManyColumns(classes, columns)
    kinds: dict[str, Any] = {"binary": OneClass, "multiclass": OneClass, ManyLabels.target_type: ManyLabels}
    found: Targets = kinds[target_type](classes)
    return found


def learn_targets(y: Any, name: str) -> tuple[Targets, np.ndarray]:
    """Kind of y, and its targets."""
    columns = columns_of(y, name)
    if columns is None:
        return OneClass.learn(y, name)
    if all(_is_indicator(column).all() for column in columns):
        return ManyLabels.learn(y, columns, name)
    return ManyColumns.learn(y, columns, name)


def announced_targets(classes: Any, y: Any, name: str) -> Targets:
    """Kind of a y that may lack some of the ``classes``; the columns of an indicator matrix need none."""
    columns = columns_of(y, name)
    if columns is None:
        if classes is None:
            raise ValueError(
                f"classes must be passed on the first call to partial_fit: {name} need not hold all of them"
            )
        return OneClass.learn(classes, "classes")[0]
    nested = classes is not None and any(isinstance(each, list | tuple | np.ndarray) for each in classes)
    if not nested and all(_is_indicator(column).all() for column in columns):
        return ManyLabels.learn(y, columns, name)[0]
    if not isinstance(classes, list | tuple) or len(classes) != len(columns):
        raise ValueError(
            "classes must be passed on the first call to partial_fit: for several columns of classes a list with those of "
            f"each of the {len(columns)} columns"
        )
    parts = [OneClass.learn(each, f"classes[{k}]")[0] for k, each in enumerate(classes)]
    return ManyColumns([part.classes for part in parts], target_names(y, name))


def _is_indicator(column: np.ndarray) -> np.ndarray:
    """Which values are 0 or 1."""
    return np.isin(column, (0, 1)) if column.dtype.kind in "biuf" else np.zeros(len(column), bool)


def _in_the_unit_of(classes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Dates and durations in the unit of the classes, those that it cannot express as NaT; other labels as they are."""
    if labels.dtype.kind not in "mM" or labels.dtype.kind != classes.dtype.kind:
        return labels
    converted = labels.astype(classes.dtype)
    converted[converted.astype(labels.dtype) != labels] = "NaT"
    return converted


def one_label_per_row(y: Any, name: str, which: str = "y has") -> np.ndarray:
    """The labels of a y with one class per row, in one dimension; ``which`` has one, for an error about several columns."""
    labels = plain_array(y)
    if not labels.ndim:
        raise ValueError(f"{name} must be an array or a list of labels, got {describe(y)}")
    if labels.ndim > 1 and labels.shape[1:] != (1,):
        raise ValueError(f"{name} has the shape {labels.shape}, but {which} one class per row")
    check_labels(labels, name)
    kind = type_of_target(labels, input_name=name)
    if kind == "unknown":
        raise ValueError(
            f"Unknown label type: {name} row 0 is {describe(labels.ravel()[0])}. Labels are texts, whole numbers or bools: "
            f"convert others first, such as with pd.{'DataFrame' if ' ' in name else 'Series'}({name.split()[0]}).astype(str)"
        )
    if kind not in ("binary", "multiclass"):
        raise ValueError(
            f"Unknown label type: {kind}. A classifier needs one class label per row, an indicator matrix or "
            "columns of classes; use XLMRobertaRegressor for numbers"
        )
    warn_of_column(labels, name)
    return column_or_1d(labels)
