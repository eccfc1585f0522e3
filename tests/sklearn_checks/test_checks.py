"""scikit-learn's own checks, which leave text estimators out, on every estimator of ours."""

import inspect

import numpy as np
import pytest
from sklearn.utils import estimator_checks

import skxlmr.estimators
from tests.sklearn_checks.adapter import ADAPTED, make, words_of, write_checkpoints
from tests.sklearn_checks.expected_failures import EXPECTED_FAILURES, RUN_ON_NONE
from tests.sklearn_checks.run import checks_of, run_checks
from tests.sklearn_checks.table import PAGE, left_out, row

# How many checks each estimator passed when this was last looked at; it may only rise.
N_PASSED = {
    "XLMClassifier": 74,
    "XLMMaskedLM": 64,
    "XLMRobertaCausalLM": 52,
    "XLMRobertaClassifier": 74,
    "XLMRobertaDialogueLM": 64,
    "XLMRobertaMaskedLM": 64,
    "XLMRobertaMultipleChoiceClassifier": 61,
    "XLMRobertaQuestionAnswerer": 53,
    "XLMRobertaRegressor": 63,
    "XLMRobertaTokenClassifier": 53,
    "XLMRobertaVectorizer": 58,
    "XLMRobertaZeroShotClassifier": 59,
    "XLMVectorizer": 58,
}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    return write_checkpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.mark.parametrize("name", skxlmr.estimators.__all__)
def test_checks_of_scikit_learn(checkpoints, name):
    if "Roberta" not in name:
        pytest.importorskip("sacremoses", reason="the older XLM needs the extra xlm")
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
        "docs/sklearn_contract.md tells of other counts: python -m tests.sklearn_checks.table"
    )


def test_every_check_is_run_or_left_out_for_a_reason(tmp_path):
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
