"""What all estimators that train share: validation, early stopping, and going on from where a fit ended."""

import numpy as np
import pytest

from skxlmr import XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaRegressor, XLMRobertaTokenClassifier
from tests.contract import ESTIMATORS
from tests.estimators.conftest import close, differing, weights_of
from tests.estimators.tokens.tags import X as TAGGED
from tests.estimators.tokens.tags import Y as TAGS

WORDS = "roberta.embeddings.word_embeddings.weight"


# Validation and early stopping ----------------------------------------------------------------------------------------


def test_validation_scores_follow_the_epochs(make, texts, languages):
    classifier = make(XLMRobertaClassifier, max_epochs=3)
    classifier.fit(texts[:32], languages[:32], X_val=texts[32:], y_val=languages[32:])
    assert len(classifier.validation_scores_) == classifier.n_iter_ == 3
    assert classifier.validation_scores_[-1] == classifier.score(texts[32:], languages[32:])


def test_validation_data_is_only_looked_at(make, texts, languages):
    plain, watched = (make(XLMRobertaClassifier, max_epochs=2, weight_decay=0.5) for _ in range(2))
    plain.fit(texts[:32], languages[:32])
    watched.fit(texts[:32], languages[:32], X_val=texts[32:], y_val=languages[32:])
    assert not differing(weights_of(plain), weights_of(watched))


INDICATOR = np.stack([np.arange(24) % 6 == 0, np.arange(24) % 3 > 0], axis=1).astype(int)


@pytest.mark.parametrize("words", [False, True], ids=["labels", "tags"])
def test_class_weights_in_the_validation_loss(make, monkeypatch, texts, words):
    """Rows set aside count for the weights of classes and have them, as with one class per row; those of X_val don't."""
    X, y = (TAGGED, TAGS) if words else (texts[:24], INDICATOR)
    kind = XLMRobertaTokenClassifier if words else XLMRobertaClassifier
    monkeypatch.setattr(kind, "_split", lambda self, training, seed: (np.arange(5, 24), np.arange(5)))
    if words:
        tags = [tag for row in y for tag in row]
        by_hand = {tag: len(tags) / (3 * tags.count(tag)) for tag in ("B-DE", "I-DE", "O")}
    else:
        by_hand = [{0: 24 / (2 * (24 - n)), 1: 24 / (2 * n)} for n in y.sum(0).tolist()]

    def losses(class_weight, **validation):
        estimator = make(kind, class_weight=class_weight, learning_rate=1e-9, scoring="loss")
        estimator.set_params(early_stopping=not validation).fit(X, y, **validation)
        return np.array([-estimator.validation_scores_[0], estimator.loss_curve_[0]])

    balanced, plain = losses("balanced"), losses(None)
    assert balanced == pytest.approx(losses(by_hand), abs=1e-6) and (abs(balanced - plain) > 1e-3).all()
    given = {"X_val": X[:5], "y_val": y[:5]}
    for class_weight in (by_hand, "balanced"):
        assert losses(class_weight, **given)[0] == pytest.approx(plain[0], abs=1e-6)


def test_loss_of_labels_in_validation_data_by_hand(make, texts):
    classifier = make(XLMRobertaClassifier, class_weight="balanced", learning_rate=1e-3)
    classifier.fit(texts[:24], INDICATOR, X_val=texts[20:23], y_val=INDICATOR[20:23])
    logits, y = classifier.decision_function(texts[20:23]), INDICATOR[20:23]
    by_hand = np.logaddexp(0, np.where(y == 1, -logits, logits)).mean()
    assert classifier.validation_scores_ == [pytest.approx(-by_hand, abs=1e-6)]


def test_early_stopping_restores_the_best_epoch(make, monkeypatch, texts, languages):
    scores, states = iter([0.3, 0.7, 0.6, 0.7, 0.9]), []

    def score(self, *data):
        states.append(weights_of(self))
        return next(scores)

    monkeypatch.setattr(XLMRobertaClassifier, "_validation_score", score)
    classifier = make(XLMRobertaClassifier, max_epochs=5, early_stopping=True, n_iter_no_change=2)
    classifier.fit(texts, languages, X_val=texts, y_val=languages)
    assert classifier.validation_scores_ == [0.3, 0.7, 0.6, 0.7] and classifier.n_iter_ == 4
    fitted = weights_of(classifier)
    words = fitted.pop(WORDS), states[1].pop(WORDS)  # of two vocabularies, the compact one while training
    assert words[1].shape[0] < words[0].shape[0]
    assert not differing(fitted, states[1]) and differing(fitted, {k: states[3][k] for k in fitted})


@pytest.mark.parametrize(
    ("params", "n_epochs"), [({"n_iter_no_change": 1}, 2), ({"n_iter_no_change": 3}, 4), ({"tol": 0.0}, 6)], ids=str
)
def test_patience_and_tolerance(make, monkeypatch, texts, languages, params, n_epochs):
    scores = iter(0.5 + 0.01 * np.arange(6))
    monkeypatch.setattr(XLMRobertaClassifier, "_validation_score", lambda self, *data: next(scores))
    settings = {"max_epochs": 6, "early_stopping": True, "tol": 0.1, "n_iter_no_change": 2, **params}
    classifier = make(XLMRobertaClassifier, n_frozen_layers=2, **settings).fit(texts[:16], languages[:16])
    assert classifier.n_iter_ == n_epochs


def test_validation_fraction_sets_rows_aside(make, monkeypatch, texts, languages):
    sizes = []
    task = XLMRobertaClassifier._make_task
    monkeypatch.setattr(
        XLMRobertaClassifier,
        "_make_task",
        lambda self, rows: sizes.append(np.bincount(rows.targets)) or task(self, rows),
    )
    make(XLMRobertaClassifier, early_stopping=True, validation_fraction=0.25).fit(texts, languages)
    make(XLMRobertaClassifier, early_stopping=True, validation_fraction=0.5).fit(texts, languages)
    make(XLMRobertaClassifier, validation_fraction=0.5).fit(texts, languages)
    assert [size.tolist() for size in sizes] == [[9] * 4, [6] * 4, [12] * 4]


def test_early_stopping_on_few_rows(make, texts, languages):
    """Fewer validation rows than classes: no stratification, no error."""
    classifier = make(XLMRobertaClassifier, early_stopping=True).fit(texts[:10], languages[:10])
    assert len(classifier.validation_scores_) == 1


def test_too_few_rows_to_validate_on(make, texts, languages):
    """R2 of one row is not a number, so that every epoch would count as one without improvement."""
    said = "the validation score of XLMRobertaRegressor needs at least 2 rows, got 1: raise validation_fraction, or pass X_val"
    with pytest.raises(ValueError, match=said):
        make(XLMRobertaRegressor, early_stopping=True).fit(texts[:10], np.arange(10.0))
    with pytest.raises(ValueError, match=said):
        make(XLMRobertaRegressor).fit(texts, np.arange(48.0), X_val=texts[:1], y_val=[1.0])
    regressor = make(XLMRobertaRegressor, early_stopping=True, validation_fraction=0.2)
    assert np.isfinite(regressor.fit(texts[:10], np.arange(10.0)).validation_scores_).all()
    with pytest.raises(
        ValueError, match=r"sets 1 of 1 rows aside \(validation_fraction=0.1\) and leaves none to train on"
    ):
        make(XLMRobertaMaskedLM, early_stopping=True).fit(texts[:1])
    with pytest.raises(ValueError, match="sets 4 of 4 rows aside"):
        make(XLMRobertaClassifier, early_stopping=True, validation_fraction=0.9).fit(texts[:4], languages[:4])


def test_regressor_and_language_model_stop_early(make, texts):
    regressor = make(XLMRobertaRegressor, early_stopping=True).fit(texts, np.arange(48.0))
    lm = make(XLMRobertaMaskedLM, early_stopping=True).fit(texts)
    assert len(regressor.validation_scores_) == len(lm.validation_scores_) == 1


# Warm start -----------------------------------------------------------------------------------------------------------


def test_warm_start_continues(make, texts, languages):
    cold = make(XLMRobertaClassifier, max_epochs=2).fit(texts, languages)
    first = weights_of(cold)
    assert not differing(weights_of(cold.fit(texts, languages)), first)
    warm = cold.set_params(warm_start=True, learning_rate=1e-9).fit(texts, languages)
    assert close(weights_of(warm), first, 1e-6)
    assert (
        warm.loss_curve_[0] < cold.set_params(warm_start=False, learning_rate=3e-3).fit(texts, languages).loss_curve_[0]
    )


def test_warm_start_refuses_unknown_classes(make, texts, languages):
    classifier = make(XLMRobertaClassifier, warm_start=True).fit(texts, languages)
    before = classifier.predict_proba(texts)
    with pytest.raises(
        ValueError, match="y row 2: label 'xx' is not among the classes of the fit, 'de', 'el', 'en', 'ru'"
    ):
        classifier.fit(texts[:4], ["de", "el", "xx", "yy"])
    with pytest.raises(ValueError, match="y row 0: label 1 is not among the classes"):
        classifier.fit(texts[:4], [1, 2, 1, 2])
    np.testing.assert_array_equal(classifier.predict_proba(texts), before)
    classifier.fit(texts[:2], languages[:2])  # fewer classes than the first time are fine
    assert classifier.classes_.tolist() == ["de", "el", "en", "ru"]


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_an_unknown_argument_is_refused_in_the_name_of_the_class(method):
    for estimator in ESTIMATORS:
        if hasattr(estimator, method):
            said = rf"^{estimator.__name__}\.{method}\(\) has no argument 'y_vals': it takes X, y.*$"
            with pytest.raises(TypeError, match=said):
                getattr(estimator(), method)(["a"], ["b"], y_vals=[0])
