"""Constructor parameters of classifiers."""

from collections.abc import Sequence
from numbers import Real
from typing import Any

import numpy as np

from skxlmr.estimators.parameters import LabelSmoothingParameters, changed, parameter, parameters
from skxlmr.utils._sklearn import Interval, StrOptions


@parameters
class ClassificationParameters(LabelSmoothingParameters):
    """Parameters of classifiers of either family."""

    label_smoothing: float = changed(
        LabelSmoothingParameters,
        "label_smoothing",
        0.0,
        "Share of the target that is spread evenly over all classes (Szegedy et al. 2016), or over yes and no of "
        "each label.",
    )
    class_weight: dict[Any, float] | list[dict[Any, float]] | str | None = parameter(
        None,
        [dict, list, StrOptions({"balanced"}), None],
        "Weight of each class in the loss; ``'balanced'`` weighs classes inversely to their frequency. With "
        "several labels per row ``'balanced'`` weighs yes and no of each label, a dict holds weights of labels "
        "where they are 1, and a list of dicts holds the weights of 0 and 1 of each label. With several columns "
        "of classes it is a list of dicts, one per column; the weights of a row's classes are multiplied, as in "
        "scikit-learn's forests.",
    )
    threshold: float | Sequence[float] | np.ndarray = parameter(
        0.5,
        [Interval(Real, 0, 1, closed="both"), "array-like"],
        "With several labels per row, the least probability at which a label is predicted, one for all labels or "
        "one per label. It is read when predictions are made, so that ``set_params(threshold=...)`` needs no new "
        "fit.",
    )
