"""Run scikit-learn's checks on an estimator: all that it yields, and those that it never yields."""

import inspect
import os
import unittest
import warnings
from dataclasses import dataclass
from functools import partial
from unittest import mock

import numpy as np
import torch
from sklearn.base import clone, is_classifier
from sklearn.utils import estimator_checks

from tests.sklearn_checks.adapter import FromNumbers

# Checks of how well an estimator learns, for which the single step of the others is not enough
LEARNS = {"max_epochs": 10, "batch_size": 16, "learning_rate": 3e-3}
FASTER = {"max_epochs": 5, "batch_size": 16, "learning_rate": 6e-3}  # for checks with hundreds of rows
FASTEST = {"max_epochs": 10, "batch_size": 100, "learning_rate": 1.5e-2}  # which fits several of them
PARAMS_OF_CHECK = {
    "check_classifiers_train": FASTEST,
    "check_classifiers_one_label": LEARNS,
    "check_class_weight_classifiers": LEARNS,
    "check_class_weight_balanced_classifiers": LEARNS,
    "check_regressors_train": FASTER,
}
# Weights and repeated rows change the order of sums, and AdamW amplifies the rounding of float32 beyond the required 1e-7.
IN_FLOAT64 = {"check_sample_weight_equivalence_on_dense_data"}


@dataclass(frozen=True)
class Outcome:
    """Result of a check; ``error`` is None if it passed."""

    check: str
    yielded: bool  # yielded by scikit-learn, or one of the further checks
    error: BaseException | None

    @property
    def skipped(self):
        return isinstance(self.error, unittest.SkipTest)

    @property
    def function(self):
        """Name of the check without arguments."""
        return self.check.partition("(")[0]


def run_checks(estimator, strict=True, only=None):
    """Outcomes of all checks, or of the function ``only``; ``strict`` turns warnings into errors."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more do not help models this small, and are slow next to other programs
    try:
        return _outcomes(estimator, strict, only)
    finally:
        torch.set_num_threads(n_threads)


def _outcomes(estimator, strict, only):
    outcomes = []
    for check, yielded in checks_of(estimator):
        error = None
        name = check.func.__name__
        if only not in (None, name):
            continue
        given = {key: value for key, value in PARAMS_OF_CHECK.get(name, {}).items() if key in estimator.get_params()}
        with (
            warnings.catch_warnings(),
            mock.patch.dict(os.environ, SCIPY_ARRAY_API="1"),  # otherwise the checks of array API input are skipped
            mock.patch.object(FromNumbers, "_double", name in IN_FLOAT64),
        ):
            warnings.simplefilter("error" if strict else "ignore")
            warnings.filterwarnings(
                "ignore", "X (does not have valid|has) feature names"
            )  # the checks of set_output cause it
            try:
                check(clone(estimator).set_params(**given))
            except Exception as found:  # any exception is the outcome of the check
                error = found
        arguments = ", ".join(f"{key}={value!r}" for key, value in check.keywords.items() if np.isscalar(value))
        outcomes.append(Outcome(f"{name}({arguments})" if arguments else name, yielded, error))
    return outcomes


def checks_of(estimator):
    """Each check for the estimator, and whether scikit-learn yields it."""
    for _, check in estimator_checks.estimator_checks_generator(estimator):
        yield check, True
    for check in further_checks(estimator):
        yield partial(check, type(estimator).__name__), False


def further_checks(estimator):
    """The checks that exist but are never yielded: scikit-learn runs them only on its own estimators."""
    yield estimator_checks.check_param_validation
    yield estimator_checks.check_dataframe_column_names_consistency
    yield estimator_checks.check_inplace_ensure_writeable
    weighted = "sample_weight" in inspect.signature(estimator.fit).parameters
    yield partial(
        estimator_checks.check_array_api_input_and_values, array_namespace="numpy", check_sample_weight=weighted
    )
    if hasattr(estimator, "transform"):
        yield estimator_checks.check_get_feature_names_out_error
        yield estimator_checks.check_transformer_get_feature_names_out
        yield estimator_checks.check_transformer_get_feature_names_out_pandas
        yield estimator_checks.check_set_output_transform
        yield estimator_checks.check_set_output_transform_pandas
        yield estimator_checks.check_set_output_transform_polars
        yield estimator_checks.check_global_output_transform_pandas
        yield estimator_checks.check_global_set_output_transform_polars
    if is_classifier(estimator) and "class_weight" in estimator.get_params():
        yield estimator_checks.check_class_weight_balanced_linear_classifier
        yield partial(estimator_checks.check_class_weight_balanced_classifiers, **imbalanced())


def imbalanced():
    """Two overlapping classes, one of them ten times as frequent in training."""
    rng = np.random.RandomState(0)
    y_train, y_test = np.repeat([0, 1], [100, 10]), np.repeat([0, 1], [50, 50])
    X_train, X_test = (rng.normal(size=(len(y), 2)) + y[:, None] for y in (y_train, y_test))
    return {"X_train": X_train, "y_train": y_train, "X_test": X_test, "y_test": y_test, "weights": None}
