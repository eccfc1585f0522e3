"""Model selection around our estimators: curves, searches, folds inside folds in other processes, predictions out of fold."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.experimental import enable_halving_search_cv  # noqa: F401  makes the next import possible
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer

ENOUGH = {"max_epochs": 6, "batch_size": 16, "learning_rate": 6e-3}


@pytest.fixture(scope="module")
def classifier(make, still_checkpoint):
    return make(XLMRobertaClassifier, still_checkpoint, **ENOUGH)


def without_words(texts):
    """Only the punctuation of texts, which says nothing about the language."""
    return ["".join(c for c in text if not c.isalnum()) for text in texts]


# Curves ---------------------------------------------------------------------------------------------------------------


def test_learning_curve(classifier, many):
    sizes, train, test = learning_curve(
        classifier, *many, train_sizes=[12, 64], cv=2, shuffle=True, random_state=0, error_score="raise"
    )
    assert sizes.tolist() == [12, 64] and train.shape == test.shape == (2, 2)
    few, all_rows = test.mean(1)
    assert all_rows > 0.75 and all_rows > few + 0.2


def test_learning_curve_of_portions(classifier, many):
    """Each size continues from the model of the size before, with the rows that are new."""
    X, y = many
    folds = [(np.arange(64), np.arange(64, 128))]
    sizes, train, test = learning_curve(
        classifier, X, y, train_sizes=[24, 64], cv=folds, exploit_incremental_learning=True, error_score="raise"
    )
    alone, found = clone(classifier), []
    for start, stop in ((0, 24), (24, 64)):
        alone.partial_fit(X[start:stop], y[start:stop], classes=np.unique(y))
        found.append((alone.score(X[:stop], y[:stop]), alone.score(X[64:], y[64:])))
    assert sizes.tolist() == [24, 64] and np.c_[train, test].tolist() == [list(scores) for scores in found]


def test_validation_curve(classifier, many):
    train, test = validation_curve(classifier, *many, param_name="max_epochs", param_range=[1, 8], cv=2)
    assert (test.mean(1) == np.sort(test.mean(1))).all() and test[1].min() > 0.75 > test[0].max()
    assert (train.mean(1) >= test.mean(1) - 0.05).all()


def test_score_beats_permuted_labels(classifier, many):
    score, permuted, p = permutation_test_score(classifier, *many, cv=2, n_permutations=2, random_state=0)
    assert score > 0.75 and max(permuted) < 0.5 and p == 1 / 3  # the best of three


# Searches -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")  # a rate at which nothing is learnt
def test_halving_with_epochs_as_the_resource(classifier, many, unseen):
    search = HalvingGridSearchCV(
        classifier,
        {"learning_rate": [1e-8, 1e-7, 3e-3]},
        resource="max_epochs",
        min_resources=3,
        max_resources=9,
        cv=2,
        random_state=0,
        error_score="raise",
    ).fit(*many)
    assert search.n_resources_ == [3, 9] and search.n_candidates_ == [3, 1]
    assert search.best_params_ == {"learning_rate": 3e-3, "max_epochs": 9}
    assert search.best_estimator_.n_iter_ == 9 and search.score(*unseen) > 0.85
    assert search.cv_results_["n_resources"].tolist() == [
        3,
        3,
        3,
        9,
    ]


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")  # a rate at which nothing is learnt
def test_search_over_the_parameters_of_a_pipeline(classifier, many, unseen):
    pipeline = make_pipeline(FunctionTransformer(without_words), classifier)
    grid = {"functiontransformer__func": [without_words, None], "xlmrobertaclassifier__learning_rate": [1e-8, 3e-3]}
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(*many)
    assert search.best_params_ == {"functiontransformer__func": None, "xlmrobertaclassifier__learning_rate": 3e-3}
    scores = search.cv_results_["mean_test_score"].reshape(2, 2)
    assert scores[1, 1] > 0.75 and np.delete(scores.ravel(), 3).max() < 0.5
    assert search.score(*unseen) > 0.85


def test_search_over_features(make, many):
    pipeline = make_pipeline(make(XLMRobertaVectorizer, "skxlmr-mini"), LogisticRegression(max_iter=1000))
    search = GridSearchCV(
        pipeline, {"xlmrobertavectorizer__layers": [0, -1], "logisticregression__C": [1e-6, 1.0]}, cv=2
    )
    results = search.fit(*many).cv_results_
    scores = {
        tuple(params.values()): score
        for params, score in zip(results["params"], results["mean_test_score"], strict=True)
    }
    assert scores[1.0, -1] > scores[1e-6, -1] and scores[1.0, 0] != scores[1.0, -1]
    assert search.best_score_ == max(scores.values()) > 0.85
    assert len(search.best_estimator_[0].get_feature_names_out()) == 192


def test_weights_follow_their_rows_into_the_folds(classifier, many):
    """Rows with wrong labels weigh nothing."""
    X, y = many
    folds, weights = StratifiedKFold(2), np.where(np.arange(128) % 8 < 4, 1.0, 0.0)
    wrong = np.where(weights, y, np.roll(y, 1))
    search = GridSearchCV(classifier, {"max_epochs": [8]}, cv=folds, error_score="raise")
    fitted = search.fit(X, wrong, sample_weight=weights).best_estimator_
    assert fitted.score(X, y) > 0.8
    assert fitted.score(X, wrong) < 0.7


# Folds ----------------------------------------------------------------------------------------------------------------


def test_predictions_out_of_fold(classifier, many):
    X, y = many
    folds = StratifiedKFold(2, shuffle=True, random_state=0)
    proba = cross_val_predict(classifier, X, y, cv=folds, method="predict_proba")
    codes = np.unique(y, return_inverse=True)[1]
    assert proba.shape == (128, 4) and accuracy_score(codes, proba.argmax(1)) > 0.75
    for train, test in folds.split(X, y):  # each row by the model that did not see it
        alone = clone(classifier).fit([X[i] for i in train], y[train]).predict_proba([X[i] for i in test])
        np.testing.assert_allclose(proba[test], alone, atol=1e-5)


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")  # a rate at which nothing is learnt
def test_nested_folds_in_processes(classifier, many):
    X, y = many
    search = GridSearchCV(classifier, {"learning_rate": [1e-8, 3e-3]}, cv=2, error_score="raise")
    scores = cross_val_score(search, X, y, cv=2, n_jobs=2, error_score="raise")
    assert scores.min() > 0.6  # four languages, learnt from 64 rows; the inner folds have to find out with 32


def test_warnings_are_errors_in_processes_too(classifier, many):
    short = clone(classifier).set_params(max_length=8)
    # Of each fold, so that no worker is ended: new ones would have to import everything.
    with pytest.raises(ValueError, match=r"All the 2 fits failed[\s\S]*TruncationWarning: 61 of 64 texts"):
        cross_val_score(short, *many, cv=2, n_jobs=2)
