"""Meta-estimators around one of ours: calibrated, frozen, with another threshold or target, and inspected from outside."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import VotingClassifier
from sklearn.frozen import FrozenEstimator
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, recall_score
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.pipeline import make_pipeline

from skxlmr import XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaVectorizer
from tests.estimators.conftest import LEARNS, differing, weights_of
from tests.tiny import sentences

ENOUGH = {"max_epochs": 6, "batch_size": 16, "learning_rate": 6e-3}
MORE = LEARNS | {"max_epochs": 6}  # twice as many steps


@pytest.fixture(scope="module")
def classifier(make, still_checkpoint):
    return make(XLMRobertaClassifier, still_checkpoint, **ENOUGH)


@pytest.fixture(scope="module")
def fitted(classifier, many):
    return clone(classifier).fit(*many)


# Calibration ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def noisy():
    """Three parts of 128 rows; three labels of ten are redrawn, so that no prediction can be certain."""
    rng, parts = np.random.default_rng(0), []
    for seed in range(3):
        y = np.arange(128) % 4
        parts.append((sentences(128, seed), np.where(rng.random(128) < 0.3, rng.integers(4, size=128), y)))
    return parts


def cross_entropy(y, proba):
    """``log_loss`` without its warning about float64 arrays of values rounded to float32."""
    return -np.log(proba[np.arange(len(y)), y]).mean()


def test_temperature_corrects_overconfidence(classifier, noisy):
    train, held_out, test = noisy
    sure = clone(classifier).set_params(max_epochs=16).fit(*train)
    mild = CalibratedClassifierCV(FrozenEstimator(sure), method="temperature").fit(*held_out)
    before, after = (cross_entropy(test[1], model.predict_proba(test[0])) for model in (sure, mild))
    assert after < before - 0.2 and after < np.log(4)
    np.testing.assert_array_equal(mild.predict(test[0]), sure.predict(test[0]))
    assert not differing(weights_of(mild.calibrated_classifiers_[0].estimator), weights_of(sure))


@pytest.mark.parametrize(("method", "ensemble"), [("sigmoid", True), ("isotonic", False)])
def test_calibrated_in_folds(classifier, many, unseen, method, ensemble):
    X, y = many
    wrong, weights = np.r_[y[:64], np.roll(y[64:], 1)], np.repeat([1.0, 0.0], 64)
    calibrated = CalibratedClassifierCV(clone(classifier).set_params(**MORE), method=method, ensemble=ensemble, cv=4)
    calibrated.fit(X, wrong, sample_weight=weights)
    assert len(calibrated.calibrated_classifiers_) == (4 if ensemble else 1)
    assert calibrated.score(*unseen) > 0.75
    proba = calibrated.predict_proba(unseen[0])
    np.testing.assert_allclose(proba.sum(1), 1, rtol=1e-6)
    brier = ((proba - (calibrated.classes_ == unseen[1][:, None])) ** 2).sum(1).mean()
    assert brier < 0.55  # 0.75 is what equal probabilities have


# Frozen ---------------------------------------------------------------------------------------------------------------


def test_frozen_is_not_fitted_again(fitted, many, unseen):
    before, expected = weights_of(fitted), fitted.predict_proba(unseen[0])
    frozen = FrozenEstimator(fitted)
    clone(frozen).fit(many[0], np.roll(many[1], 1))
    vote = VotingClassifier([("frozen", frozen)], voting="soft").fit(many[0], np.roll(many[1], 1))
    np.testing.assert_array_equal(vote.predict_proba(unseen[0]), expected)
    assert vote.estimators_[0].estimator is fitted and not differing(weights_of(fitted), before)


def test_frozen_features(make, many, unseen):
    vectorizer = make(XLMRobertaVectorizer).fit(many[0])
    pipeline = make_pipeline(FrozenEstimator(vectorizer), LogisticRegression(max_iter=1000)).fit(*many)
    plain = make_pipeline(clone(vectorizer), LogisticRegression(max_iter=1000)).fit(*many)
    np.testing.assert_array_equal(pipeline.predict(unseen[0]), plain.predict(unseen[0]))
    assert pipeline.score(*unseen) > 0.6
    assert clone(pipeline)[0].estimator.module_ is vectorizer.module_


# Thresholds -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def unreported(many, unseen):
    """Two languages of four are the positive class; six of ten of their training rows are labelled negative."""
    y, expected = (np.isin(y, ["el", "ru"]).astype(int) for _, y in (many, unseen))
    return (many[0], np.where(np.random.default_rng(0).random(128) < 0.4, y, 0)), (unseen[0], expected)


@pytest.mark.filterwarnings("ignore:the model predicts 0 for all:skxlmr.FitQualityWarning")  # at 0.5 it does
def test_threshold_is_tuned(classifier, unreported):
    (X, y), (X_new, y_new) = unreported
    modest = clone(classifier).set_params(**MORE | {"max_epochs": 5})
    tuned = TunedThresholdClassifierCV(modest, scoring="balanced_accuracy", cv=2, random_state=0).fit(X, y)
    plain = clone(modest).fit(X, y)
    before, after = (balanced_accuracy_score(y_new, model.predict(X_new)) for model in (plain, tuned))
    assert before < 0.65 and after > 0.75
    np.testing.assert_array_equal(plain.predict_proba(X_new), tuned.estimator_.predict_proba(X_new))
    np.testing.assert_array_equal(tuned.predict(X_new), plain.predict_proba(X_new)[:, 1] >= tuned.best_threshold_)


@pytest.mark.filterwarnings("ignore:the model predicts 0 for all:skxlmr.FitQualityWarning")  # at 0.5 it does
def test_threshold_is_fixed(classifier, unreported):
    (X, y), (X_new, y_new) = unreported
    fitted = clone(classifier).set_params(max_epochs=5).fit(X, y)
    proba, recalls = fitted.predict_proba(X_new)[:, 1], []
    for threshold in (0.9, 0.5, 0.05):
        fixed = FixedThresholdClassifier(FrozenEstimator(fitted), threshold=threshold).fit(X, y)
        np.testing.assert_array_equal(fixed.predict(X_new), proba >= threshold)
        recalls.append(recall_score(y_new, fixed.predict(X_new)))
    assert recalls == sorted(recalls) and recalls[0] < 0.5 and recalls[-1] > 0.9


# Targets --------------------------------------------------------------------------------------------------------------


def test_regressor_of_another_target(make, still_checkpoint, many, unseen):
    """Learnt as logarithms, predicted in the original units."""
    grade, expected = (np.unique(y, return_inverse=True)[1] for _, y in (many, unseen))
    y = 10.0**grade
    wrong, weights = np.r_[y[:96], np.roll(y[96:], 1)], np.repeat([1.0, 0.0], [96, 32])
    regressor = make(XLMRobertaRegressor, still_checkpoint, **ENOUGH)
    transformed = TransformedTargetRegressor(regressor, func=np.log10, inverse_func=lambda values: 10.0**values)
    transformed.fit(many[0], wrong, sample_weight=weights)
    predicted = transformed.predict(unseen[0])
    np.testing.assert_allclose(predicted, 10.0 ** transformed.regressor_.predict(unseen[0]), rtol=1e-5)
    assert np.abs(np.log10(predicted) - expected).mean() < 0.4
    plain = clone(regressor).fit(many[0], y).predict(unseen[0])
    assert np.abs(np.log10(np.maximum(plain, 1)) - expected).mean() > np.abs(np.log10(predicted) - expected).mean()


# Inspection -----------------------------------------------------------------------------------------------------------


def test_importance_of_the_texts_of_a_pair(classifier, many, unseen):
    def pairs(texts):
        return pd.DataFrame({"note": texts[::-1], "review": texts})

    fitted = clone(classifier).fit(pairs(many[0]), many[1])
    found = permutation_importance(fitted, pairs(unseen[0]), unseen[1], n_repeats=5, random_state=0)
    assert fitted.score(pairs(unseen[0]), unseen[1]) > 0.7
    assert found.importances_mean[1] > 0.3


# Conformal prediction -------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # MAPIE's own
def test_mapie_conforms_a_fitted_estimator(make, fitted, many, unseen):
    classification = pytest.importorskip("mapie.classification", reason="needs mapie, which no extra installs")
    regression = pytest.importorskip("mapie.regression")
    X, y = (np.array(part, dtype=object) for part in unseen)
    classes = classification.SplitConformalClassifier(fitted, confidence_level=0.9, prefit=True).conformalize(X, y)
    assert classes.predict_set(X[:5])[1].shape == (5, 4, 1)
    regressor = make(XLMRobertaRegressor).fit(many[0], np.arange(128.0))
    numbers = regression.SplitConformalRegressor(regressor, confidence_level=0.9, prefit=True)
    assert numbers.conformalize(X, np.arange(64.0)).predict_interval(X[:5])[1].shape == (5, 2, 1)
