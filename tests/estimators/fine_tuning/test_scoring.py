"""``scoring`` chooses what the validation data is scored by."""

import functools

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import accuracy_score, f1_score, log_loss, make_scorer
from sklearn.model_selection import GridSearchCV

from skxlmr import (
    FitQualityWarning,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaDialogueLM,
    XLMRobertaRegressor,
    load,
    save,
)
from skxlmr.estimators._fine_tuning.scoring import scorer_of
from tests.contract import TEXTS, Y, each_that_trains, inputs
from tests.estimators.conftest import differing, weights_of
from tests.tiny import sentences

WORDS = np.array(["no", "yes", "maybe"])[np.arange(24) % 3]
MANY = sentences(24)


def share_right(estimator, X, y):
    return float((estimator.predict(X) == y).mean())


@pytest.mark.parametrize(
    ("scoring", "expected"),
    [
        ("f1_macro", lambda fitted, X, y: f1_score(y, fitted.predict(X), average="macro")),
        ("neg_log_loss", lambda fitted, X, y: -log_loss(y, fitted.predict_proba(X), labels=fitted.classes_)),
        (make_scorer(accuracy_score), lambda fitted, X, y: fitted.score(X, y)),
        (share_right, lambda fitted, X, y: fitted.score(X, y)),
        (None, lambda fitted, X, y: fitted.score(X, y)),
    ],
    ids=["name", "of probabilities", "scorer", "function", "score"],
)
def test_the_last_score_is_that_of_the_fitted_estimator(make, scoring, expected):
    classifier = make(XLMRobertaClassifier, scoring=scoring, max_epochs=2)
    classifier.fit(MANY, WORDS, X_val=MANY[:9], y_val=WORDS[:9])
    assert len(classifier.validation_scores_) == 2
    assert classifier.validation_scores_[-1] == pytest.approx(expected(classifier, MANY[:9], WORDS[:9]), abs=1e-6)
    plain = make(XLMRobertaClassifier, max_epochs=2).fit(MANY, WORDS)
    assert not differing(weights_of(classifier), weights_of(plain))  # scoring changes no weight


def test_units_of_a_regressor_are_those_of_y(make):
    regressor = make(XLMRobertaRegressor, scoring="neg_mean_absolute_error")
    y = 1000.0 + 100.0 * np.arange(24)
    regressor.fit(MANY, y, X_val=MANY, y_val=y)
    assert regressor.validation_scores_ == [pytest.approx(-np.abs(regressor.predict(MANY) - y).mean(), rel=1e-4)]


@each_that_trains
def test_each_estimator_can_watch_its_loss_or_a_scorer(make_any, estimator):
    X, y, _ = inputs(estimator)
    params = {"early_stopping": True, "validation_fraction": 0.4}
    found = make_any(estimator, scoring="loss", **params).fit(X, y)
    assert found.validation_scores_[0] < 0

    seen = []

    def constant(fitted, X, y):
        seen.append((len(X), type(fitted), hasattr(fitted, "module_")))
        return 0.25

    found = make_any(estimator, scoring=constant, **params).fit(X, y)
    assert found.validation_scores_ == [0.25] and seen == [(3, estimator, True)]
    assert clone(found).scoring.__qualname__ == constant.__qualname__


@pytest.mark.parametrize("scoring", ["r2", "f1"])
def test_a_scorer_of_another_task_is_named(make, scoring):
    with pytest.raises(
        ValueError, match=f"scoring='{scoring}' cannot score the validation data of XLMRobertaClassifier"
    ):
        make(XLMRobertaClassifier, scoring=scoring).fit(MANY, WORDS, X_val=MANY[:9], y_val=WORDS[:9])


def test_scores_that_are_not_defined_are_never_the_best(make):
    """The weights are those of the one epoch that has a score, and the fit says that others had none."""
    scores = iter([np.nan, 0.5, np.nan])
    params = {"schedule": "constant", "batch_size": 8}
    with pytest.warns(FitQualityWarning, match="is not defined on the validation data"):
        found = make(
            XLMRobertaClassifier, scoring=lambda *_: next(scores), early_stopping=True, max_epochs=3, **params
        ).fit(MANY, WORDS, X_val=MANY[:3], y_val=WORDS[:3])
    two = make(XLMRobertaClassifier, max_epochs=2, **params).fit(MANY, WORDS)
    assert not differing(weights_of(found), weights_of(two))


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")
@pytest.mark.parametrize(
    ("scores", "best"), [([-np.inf] * 3, 1), ([np.nan, -np.inf, -np.inf], 2), ([-np.inf, -9.0, 0], 3)]
)
def test_scores_of_minus_infinity(make, scores, best):
    """Of equal scores the first is the best; weights and ``final_loss_`` are of the same epoch."""
    given, params = iter(scores), {"schedule": "constant", "batch_size": 8}
    found = make(XLMRobertaClassifier, scoring=lambda *_: next(given), early_stopping=True, max_epochs=3, **params).fit(
        MANY, WORDS, X_val=MANY[:3], y_val=WORDS[:3]
    )
    alone = make(XLMRobertaClassifier, max_epochs=best, **params).fit(MANY, WORDS)
    assert not differing(weights_of(found), weights_of(alone))
    assert found.final_loss_ == alone.final_loss_ == found.loss_curve_[best - 1]


def test_early_stopping_follows_it(make):
    """Scores that fall end the fit, and the weights of the first epoch are put back."""
    scores = iter([0.9, 0.8, 0.7, 0.6])
    params = {"max_epochs": 4, "schedule": "constant", "batch_size": 8}
    stopped = make(
        XLMRobertaClassifier, scoring=lambda *_: next(scores), early_stopping=True, n_iter_no_change=2, **params
    )
    stopped.fit(MANY, WORDS, X_val=MANY[:3], y_val=WORDS[:3])
    assert stopped.validation_scores_ == [0.9, 0.8, 0.7]
    one = make(XLMRobertaClassifier, **params | {"max_epochs": 1}).fit(MANY, WORDS)
    assert not differing(weights_of(stopped), weights_of(one))


def test_several_labels_watch_the_loss(make):
    """The share of rows that are right in all labels would be zero in every epoch."""
    y = np.random.default_rng(0).integers(0, 2, (24, 6))
    params = {"max_epochs": 2, "early_stopping": True, "validation_fraction": 0.25}
    found = make(XLMRobertaClassifier, **params).fit(MANY, y)
    assert (
        found.validation_scores_ == make(XLMRobertaClassifier, scoring="loss", **params).fit(MANY, y).validation_scores_
    )
    assert all(score < 0 for score in found.validation_scores_) and len(set(found.validation_scores_)) == 2


def test_weights_of_set_aside_rows_reach_the_scorer(make):
    seen = []

    def scorer(fitted, X, y, sample_weight=None):
        seen.append((list(X), list(y), sample_weight))
        return 0.0

    weights = np.arange(24.0)  # the first row counts for nothing, and is left out
    params = {"early_stopping": True, "validation_fraction": 0.25}
    make(XLMRobertaClassifier, scoring=scorer, **params).fit(pd.Series(MANY), pd.Series(WORDS), weights)
    ((X, y, given),) = seen
    places = [MANY.index(text) for text in X]
    assert len(places) == 6 and 0 not in places
    assert y == WORDS[places].tolist() and given.tolist() == places
    make(XLMRobertaClassifier, scoring=share_right, **params).fit(MANY, WORDS, weights)  # which takes none
    make(XLMRobertaRegressor, scoring="neg_max_error", **params).fit(
        MANY, weights, weights
    )  # whose function takes none


def test_a_frame_of_turns_is_set_aside_by_dialogues(make):
    turns = pd.DataFrame(
        [(i, speaker, text) for i in range(6) for speaker, text in (("user", MANY[i]), ("system", MANY[-i]))],
        columns=["dialogue", "speaker", "text"],
    )
    seen = []
    params = {"early_stopping": True, "validation_fraction": 0.4, "scoring": lambda lm, X, y: seen.append(X) or 0.0}
    make(XLMRobertaDialogueLM, **params).fit(turns)
    assert len(seen[0]) == 6 and (seen[0].groupby("dialogue").size() == 2).all()


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_weights_of_dialogues_reach_the_scorer(make, library):
    frame = pytest.importorskip(library).DataFrame(
        {
            "dialogue": [f"d{i}" for i in range(10) for _ in range(2)],
            "speaker": ["user", "system"] * 10,
            "text": [text for i in range(10) for text in (MANY[i], MANY[-i])],
        }
    )
    seen = []

    def scorer(lm, X, y=None, sample_weight=None):
        seen.append((list(dict.fromkeys(X["dialogue"])), list(sample_weight)))
        return 0.0

    params = {"early_stopping": True, "validation_fraction": 0.4, "scoring": scorer}
    make(XLMRobertaDialogueLM, **params).fit(frame, sample_weight=np.arange(1.0, 11))
    ((dialogues, weights),) = seen
    assert len(dialogues) == 4 and weights == [int(name[1:]) + 1 for name in dialogues]


def test_one_weight_for_all_reaches_the_scorer(make):
    seen = []

    def scorer(fitted, X, y, sample_weight=None):
        seen.append((len(X), sample_weight))
        return 0.0

    params = {"early_stopping": True, "validation_fraction": 0.25, "scoring": scorer}
    make(XLMRobertaClassifier, **params).fit(MANY, WORDS, sample_weight=2.0)
    ((n, weights),) = seen
    assert weights.tolist() == [2.0] * n


@pytest.mark.parametrize("wrong", ["acuracy", "f1_makro", "Loss"])
def test_a_wrong_name_is_refused_before_anything_is_opened(wrong):
    for estimator in (XLMRobertaClassifier, XLMRobertaCausalLM):
        near = {"acuracy": "accuracy", "f1_makro": "f1_macro", "Loss": "loss"}[wrong]
        with pytest.raises(
            ValueError, match=f"scoring='{wrong}' is neither 'loss' nor a scorer .* did you mean .*'{near}'"
        ):
            estimator("does/not/exist", scoring=wrong).fit(TEXTS, Y)
    with pytest.raises(ValueError, match="it is one of accuracy, adjusted"):
        scorer_of("??")
    with pytest.raises(ValueError, match="'scoring' parameter of XLMRobertaClassifier must be"):
        XLMRobertaClassifier("does/not/exist", scoring=3).fit(TEXTS, Y)


def test_a_scorer_returns_a_number(make):
    classifier = make(XLMRobertaClassifier, scoring=lambda *_: "good")
    with pytest.raises(TypeError, match="scoring must return one number, got 'good'"):
        classifier.fit(TEXTS, Y, X_val=TEXTS, y_val=Y)
    assert not hasattr(classifier, "module_")


def test_in_a_search_and_in_a_folder(make, tmp_path):
    classifier = make(XLMRobertaClassifier, early_stopping=True, scoring="f1_macro", validation_fraction=0.34)
    search = GridSearchCV(classifier, {"scoring": ["loss", share_right]}, cv=2, error_score="raise")
    search.fit(MANY, WORDS)
    assert len(search.best_estimator_.validation_scores_) == 1
    save(classifier.fit(MANY, WORDS), tmp_path / "saved")
    assert load(tmp_path / "saved").scoring == "f1_macro"
    card = (tmp_path / "saved" / "README.md").read_text()
    assert "validation score (`f1_macro`)" in card and "metrics:" not in card
    for code in (share_right, make_scorer(accuracy_score), functools.partial(share_right)):
        with pytest.raises(TypeError, match=r"cannot be saved without pickle: .* set_params\(scoring=None\)"):
            save(classifier.set_params(scoring=code), tmp_path / "code")
        assert not (tmp_path / "code").exists()


def test_a_fit_resumes_with_the_same_scorer_only(make, tmp_path):
    params = {"resume_dir": tmp_path, "max_epochs": 1}
    data = {"X": MANY, "y": WORDS, "X_val": MANY[:3], "y_val": WORDS[:3]}
    make(XLMRobertaClassifier, scoring=share_right, **params).fit(**data)
    again = make(XLMRobertaClassifier, scoring=share_right, **params).fit(**data, resume=True)
    assert len(again.validation_scores_) == 1
    with pytest.raises(ValueError, match=r"differs in scoring \(then .*share_right, now 'f1_macro'\)"):
        make(XLMRobertaClassifier, scoring="f1_macro", **params).fit(**data, resume=True)
