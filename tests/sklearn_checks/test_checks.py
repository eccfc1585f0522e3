"""scikit-learn's own checks, which skip text estimators, on every estimator of the package."""

import inspect

import numpy as np
import pytest
from sklearn.utils import estimator_checks

import skxlmr.estimators
from tests.sklearn_checks.adapter import (
    ADAPTED,
    NumberClassifier,
    NumberRegressor,
    NumberVectorizer,
    make,
    public,
    words_of,
    write_checkpoints,
)
from tests.sklearn_checks.expected_failures import EXPECTED_FAILURES, RUN_ON_NONE
from tests.sklearn_checks.run import checks_of, run_checks
from tests.sklearn_checks.table import PAGE, left_out, row

# Number of checks that each estimator passes; it may only rise. Vectorizers transform without fit, so that scikit-learn leaves
# out the check that an unfitted estimator raises, and checks instead that it transforms.
N_PASSED = {
    "XLMClassifier": 74,
    "XLMMaskedLM": 64,
    "XLMRobertaCausalLM": 52,
    "XLMRobertaClassifier": 74,
    "XLMRobertaDialogueLM": 64,
    "XLMRobertaEmbedder": 64,
    "XLMRobertaMaskedLM": 64,
    "XLMRobertaMultipleChoiceClassifier": 61,
    "XLMRobertaQuestionAnswerer": 53,
    "XLMRobertaRegressor": 63,
    "XLMRobertaTokenClassifier": 53,
    "XLMRobertaVectorizer": 57,
    "XLMRobertaZeroShotClassifier": 59,
    "XLMVectorizer": 57,
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return write_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.mark.parametrize("name", skxlmr.estimators.__all__)
def test_checks_of_scikit_learn(checkpoints, name):
    if "Roberta" not in name:
        pytest.importorskip("sacremoses", reason="the original XLM needs the extra xlm")
    outcomes = run_checks(make(name, checkpoints))
    expected = EXPECTED_FAILURES.get(name, {})
    assert not [outcome.check for outcome in outcomes if outcome.skipped]
    assert {
        outcome.check: outcome.error for outcome in outcomes if outcome.error and outcome.function not in expected
    } == {}
    assert [outcome.check for outcome in outcomes if outcome.error is None and outcome.function in expected] == []
    assert expected.keys() <= {outcome.function for outcome in outcomes}
    assert sum(outcome.error is None for outcome in outcomes) >= N_PASSED[name], "fewer checks pass than before"
    assert row(name, outcomes) in PAGE.read_text(encoding="utf-8").splitlines(), (
        "docs/sklearn_contract.md has other counts; run python -m tests.sklearn_checks.table"
    )


class ChangesParameter(NumberClassifier):
    def fit(self, X, y, sample_weight=None):
        self.max_epochs = 2
        return super().fit(X, y, sample_weight)


class Sorts(NumberClassifier):
    def predict_proba(self, X):
        return np.sort(super().predict_proba(X), axis=0)


class PeeksAtNeighbours(NumberVectorizer):
    def transform(self, X):
        features = super().transform(X)
        return features - features.mean(0)


class Remembers(NumberVectorizer):
    def transform(self, X):
        self.last_ = len(X)
        return super().transform(X)


class ForgetsWeights(NumberRegressor):
    def fit(self, X, y, sample_weight=None):
        return super().fit(X, y)


class ForgetsClassWeights(NumberClassifier):
    def _weigh_targets(self, weights, targets):
        return weights


class MiscountsFeatures(NumberVectorizer):
    _n_features_out = 3


class IgnoresRandomState(NumberRegressor):
    def fit(self, X, y, sample_weight=None):
        self.random_state, given = None, self.random_state
        fitted = super().fit(X, y, sample_weight)
        self.random_state = given
        return fitted


@pytest.mark.parametrize(
    ("check", "faulty"),
    [
        ("check_estimators_overwrite_params", ChangesParameter),
        ("check_methods_sample_order_invariance", Sorts),
        ("check_methods_subset_invariance", PeeksAtNeighbours),
        ("check_dict_unchanged", Remembers),
        ("check_sample_weight_equivalence_on_dense_data", ForgetsWeights),
        ("check_class_weight_classifiers", ForgetsClassWeights),
        ("check_class_weight_balanced_classifiers", ForgetsClassWeights),
        ("check_transformer_get_feature_names_out", MiscountsFeatures),
        ("check_set_output_transform_pandas", MiscountsFeatures),
        ("check_set_output_transform_polars", MiscountsFeatures),
        ("check_fit_idempotent", IgnoresRandomState),
    ],
)
def test_the_adapter_hides_no_fault(checkpoints, check, faulty):
    """The adapter does not mask faults: an estimator with a planted fault fails a check that the real one passes."""
    real = make(public(faulty).__name__, checkpoints)
    (passed, *_), (failed, *_) = (
        run_checks(estimator, only=check) for estimator in (real, faulty(**real.get_params()))
    )
    assert passed.error is None and failed.error is not None


def test_every_check_runs_or_is_listed_with_a_reason(tmp_path):
    known = {name for name, _ in inspect.getmembers(estimator_checks, inspect.isfunction) if name.startswith("check_")}
    known -= {name for name in known if getattr(estimator_checks, name).__module__ != estimator_checks.__name__}
    ran = {check.func.__name__ for name in ADAPTED for check, _ in checks_of(make(name, tmp_path))}
    assert ran | set(RUN_ON_NONE) == known and not ran & set(RUN_ON_NONE)
    assert left_out() in PAGE.read_text(encoding="utf-8")


def test_the_adapter_changes_nothing_but_the_input(checkpoints):
    X, y = np.random.RandomState(0).normal(size=(12, 3)), [0, 1, 2] * 4
    adapted = make("XLMRobertaClassifier", checkpoints)
    real = skxlmr.XLMRobertaClassifier(**adapted.get_params())
    texts = [" ".join(words_of(row)) for row in X]
    assert len(set(texts)) == 12
    np.testing.assert_array_equal(real.fit(texts, y).predict_proba(texts), adapted.fit(X, y).predict_proba(X))
