"""Meta-estimators that fit several of ours: stacking, voting, bagging, boosting, one per class or target."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.feature_selection import RFE
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor
from sklearn.pipeline import make_pipeline
from sklearn.semi_supervised import SelfTrainingClassifier

from skxlmr import XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaVectorizer
from tests.estimators.conftest import LEARNS

ENOUGH = {"max_epochs": 6, "batch_size": 16, "learning_rate": 6e-3}
MORE = LEARNS | {"max_epochs": 6}  # twice as many steps
NOTHING = {"learning_rate": 1e-9}


@pytest.fixture
def classifier(make, still_checkpoint):
    return make(XLMRobertaClassifier, still_checkpoint, **ENOUGH)


@pytest.fixture
def regressor(make, still_checkpoint):
    return make(XLMRobertaRegressor, still_checkpoint, **ENOUGH)


@pytest.fixture
def idle(classifier):
    """A classifier that learns nothing."""
    return clone(classifier).set_params(**NOTHING)


@pytest.fixture
def numbers(many, unseen):
    """A number for each language, of the rows to learn from and of the others."""
    return [np.unique(y, return_inverse=True)[1].astype(float) for _, y in (many, unseen)]


@pytest.fixture
def labels(many, unseen):
    """Two labels per row, of the rows to learn from and of the others."""
    return [np.stack([np.isin(y, ["de", "en"]), y != "ru"], axis=1).astype(int) for _, y in (many, unseen)]


def columns(X):
    """Texts as a table of one column."""
    return pd.DataFrame({"text": X})


@pytest.fixture
def half_wrong(many):
    """Texts with wrong labels in their last half, which weighs nothing."""
    X, y = many
    return X, np.r_[y[:64], np.roll(y[64:], 1)], np.repeat([1.0, 0.0], 64)


# Several models of the same rows --------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")  # a rate at which nothing is learnt
def test_stacking_weighs_the_models_by_what_they_know(make, classifier, idle, many, unseen):
    features = make_pipeline(make(XLMRobertaVectorizer), LogisticRegression(max_iter=1000))
    stack = StackingClassifier([("idle", idle), ("tuned", classifier), ("features", features)], cv=2).fit(*many)
    assert stack.score(*unseen) > 0.85
    weight = np.abs(stack.final_estimator_.coef_).sum(0).reshape(3, 4).sum(1)
    assert weight[0] < 0.2 * weight[1] and weight[0] < 0.2 * weight[2]
    # each model has a column per class, of rows it was not fitted on
    assert stack.transform(unseen[0]).shape == (64, 12)
    np.testing.assert_allclose(
        stack.transform(unseen[0])[:, 4:8], stack.named_estimators_["tuned"].predict_proba(unseen[0])
    )


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")  # a rate at which nothing is learnt
def test_stacking_of_regressors(regressor, many, unseen, numbers):
    base = [("idle", clone(regressor).set_params(**NOTHING)), ("tuned", regressor)]
    stack = StackingRegressor(base, LinearRegression(), cv=2).fit(many[0], numbers[0])
    assert stack.score(unseen[0], numbers[1]) > 0.5


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")  # a rate at which nothing is learnt
def test_voting_is_the_mean_of_the_votes(classifier, idle, half_wrong, unseen):
    X, y, weights = half_wrong
    members = [("idle", idle), ("tuned", classifier)]
    vote = VotingClassifier(members, voting="soft", weights=[1, 3]).fit(X, y, sample_weight=weights)
    each = [member.predict_proba(unseen[0]) for member in vote.estimators_]
    np.testing.assert_allclose(vote.predict_proba(unseen[0]), (each[0] + 3 * each[1]) / 4, rtol=1e-6)
    assert vote.score(*unseen) > 0.75
    assert clone(vote).fit(X, y).score(*unseen) < 0.75  # the wrong labels count


def test_voting_of_regressors(regressor, many, unseen, numbers):
    vote = VotingRegressor([("one", regressor), ("other", clone(regressor).set_params(random_state=1))])
    vote.fit(many[0], numbers[0])
    np.testing.assert_allclose(vote.predict(unseen[0]), vote.transform(unseen[0]).mean(1), rtol=1e-6)
    assert vote.score(unseen[0], numbers[1]) > 0.7


@pytest.mark.parametrize("meta", [BaggingClassifier, AdaBoostClassifier])
def test_resampled_rows_keep_their_weights(meta, classifier, half_wrong, unseen):
    X, y, weights = half_wrong
    several = meta(classifier.set_params(**MORE), n_estimators=2, random_state=0)
    right = clone(several).fit(columns(X), y, sample_weight=weights)
    assert right.score(columns(unseen[0]), unseen[1]) > 0.8
    assert several.fit(columns(X), y).score(columns(unseen[0]), unseen[1]) < 0.8
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        several.fit(X, y)


def test_bagging_draws_rows(classifier, many, unseen):
    bag = BaggingClassifier(classifier, n_estimators=3, random_state=0).fit(columns(many[0]), many[1])
    assert bag.score(columns(unseen[0]), unseen[1]) > 0.85
    assert len({tuple(rows) for rows in bag.estimators_samples_}) == 3
    each = [member.predict_proba(unseen[0]) for member in bag.estimators_]
    np.testing.assert_allclose(bag.predict_proba(columns(unseen[0])), np.mean(each, axis=0), rtol=1e-5)


def test_bagging_of_regressors(regressor, many, unseen, numbers):
    bag = BaggingRegressor(regressor, n_estimators=2, random_state=0).fit(columns(many[0]), numbers[0])
    assert bag.score(columns(unseen[0]), numbers[1]) > 0.5


# One model for each class or target -----------------------------------------------------------------------------------


def test_one_versus_the_rest(classifier, many, unseen):
    each = OneVsRestClassifier(classifier).fit(*many)
    assert each.score(*unseen) > 0.8
    for code, member in enumerate(each.estimators_):
        assert member.classes_.tolist() == [0, 1]
        np.testing.assert_array_equal(each.decision_function(unseen[0])[:, code], member.decision_function(unseen[0]))
    np.testing.assert_allclose(each.predict_proba(unseen[0]).sum(1), 1, rtol=1e-6)


def test_one_versus_the_rest_of_labels(classifier, many, unseen, labels):
    each = OneVsRestClassifier(classifier.set_params(**MORE)).fit(many[0], labels[0])
    assert (each.predict(unseen[0]) == labels[1]).mean(0).min() > 0.85


def test_one_model_per_column(classifier, half_wrong, unseen):
    X, y, weights = half_wrong
    latin = np.where(np.isin(y, ["de", "en"]), "latin", "other")
    each = MultiOutputClassifier(classifier).fit(X, np.stack([y, latin], axis=1), sample_weight=weights)
    predicted, expected = each.predict(unseen[0]), np.where(np.isin(unseen[1], ["de", "en"]), "latin", "other")
    assert (predicted[:, 0] == unseen[1]).mean() > 0.75 and (predicted[:, 1] == expected).mean() > 0.9
    assert [proba.shape for proba in each.predict_proba(unseen[0])] == [(64, 4), (64, 2)]


def test_one_regressor_per_column(regressor, many, unseen, labels):
    each = MultiOutputRegressor(regressor).fit(many[0], 100 * labels[0])
    assert each.score(unseen[0], 100 * labels[1]) > 0.5
    assert each.estimators_[0].predict(unseen[0]).std() > 20  # in the units of y


@pytest.mark.parametrize("meta", [OneVsRestClassifier, MultiOutputClassifier])
def test_portions_reach_every_model(classifier, many, unseen, meta):
    X, y = many
    classes = np.unique(y)
    if meta is MultiOutputClassifier:
        y, classes = np.stack([y, y == "en"], axis=1), [classes, np.array(["False", "True"])]
    each = meta(classifier.set_params(learning_rate=1e-3))
    for portion in [slice(0, 64), slice(64, 128)] * 6:
        each.partial_fit(X[portion], y[portion], classes=classes)
    predicted = each.predict(unseen[0]).reshape(64, -1)[:, 0]
    assert (predicted == unseen[1]).mean() > 0.85


# Those that read X as numbers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("meta", [OneVsOneClassifier, ClassifierChain, SelfTrainingClassifier, partial(RFE, step=0.5)])
def test_where_X_must_be_numbers_the_vectorizer_comes_first(classifier, many, unseen, labels, meta):
    """If scikit-learn takes texts one day, this fails, and docs/meta_estimators.md can say so."""
    X, y = many
    expected = unseen[1]
    if meta is ClassifierChain:
        y, expected = labels
    if meta is SelfTrainingClassifier:  # a class for half of the rows
        y, expected = np.where(np.arange(128) % 8 < 4, y == "el", -1), expected == "el"
    with pytest.raises(ValueError, match="could not convert string to float"):
        meta(classifier).fit(columns(X), y)
    pipeline = make_pipeline(XLMRobertaVectorizer("skxlmr-mini"), meta(LogisticRegression(max_iter=1000))).fit(X, y)
    assert (pipeline.predict(unseen[0]) == expected).mean(0).min() > 0.85
