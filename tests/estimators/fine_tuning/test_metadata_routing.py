"""Weights of rows, groups and validation data: what they do, and how scikit-learn's meta-estimators hand them on."""

import inspect
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_predict, cross_validate
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import get_routing_for_object

import skxlmr
from skxlmr import TruncationWarning, XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaTokenClassifier
from skxlmr.estimators._fine_tuning.fine_tuned import FineTuned
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from skxlmr.estimators._language.masking import Masker
from skxlmr.estimators._sequence.task import SequenceTask
from tests.contract import ESTIMATORS, each_that, each_that_trains, inputs
from tests.estimators.conftest import differing, weights_of

# Their losses draw nothing at random, so that a row and its copy have the same one
STEADY = {
    "XLMClassifier",
    "XLMRobertaCausalLM",
    "XLMRobertaClassifier",
    "XLMRobertaMultipleChoiceClassifier",
    "XLMRobertaQuestionAnswerer",
    "XLMRobertaRegressor",
    "XLMRobertaTokenClassifier",
}

# Theirs draw the tokens that are masked, and nothing else
MASKED = {"XLMMaskedLM", "XLMRobertaMaskedLM"}


@pytest.fixture
def routing():
    with config_context(enable_metadata_routing=True):
        yield


# What weights do ------------------------------------------------------------------------------------------------------


def gradients(estimator, X, y, sample_weight=None):
    """Loss and gradient, in float64, of one step of the fitted estimator over these rows."""
    module = estimator.module_.double()
    rows, targets, weights = estimator._check_rows(X, y, sample_weight, reset=False)
    weights = weights if targets is None else estimator._weigh_targets(weights, targets)
    task = estimator._make_task(TrainingRows(estimator._encode_training(rows), targets, weights))
    batch = task.collate(np.arange(task.n_rows), np.random.default_rng(0))
    loss = sum(values.sum() / batch.totals[name] for name, values in task.losses(module, batch).items())
    module.zero_grad()
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


def repeated(values, times):
    if values is None:
        return None
    return [value for value, n in zip(values, times, strict=True) for _ in range(n)]


def mask_all(masker, ids, rng):
    """Instead of drawing: every word is to be predicted."""
    positions = np.flatnonzero(~masker.is_special[ids])
    masked = ids.astype(np.int64)
    masked[positions] = masker.mask_token_id
    return masked, positions


@each_that(lambda cls: cls.__name__ in STEADY | MASKED)
def test_a_weight_is_a_repetition(fitted, estimator, monkeypatch):
    """The same loss and gradient, but for the last digits of float64; nothing of it hangs on an optimiser."""
    X, y, _ = inputs(estimator)
    made, times = fitted(estimator), [2, 1, 3, 0, 1, 2]
    monkeypatch.setattr(Masker, "mask", mask_all)  # after the fit, which other tests share
    loss, weighted = gradients(made, X, y, np.array(times, float))
    again, by_rows = gradients(made, repeated(X, times), repeated(y, times))
    plain, _ = gradients(made, X, y)
    assert loss == pytest.approx(again, rel=1e-12) and abs(loss - plain) > 1e-6
    assert weighted.keys() == by_rows.keys() and len(by_rows) > 20
    scale = max(gradient.abs().max() for gradient in by_rows.values())
    for name, gradient in by_rows.items():
        assert torch.allclose(weighted[name], gradient, rtol=1e-9, atol=1e-12 * scale), name


@each_that_trains
def test_rows_that_weigh_nothing_are_left_out(make_any, estimator):
    """To the last bit, in batches of any size: they are no negatives, take no place in a batch and no steps."""
    X, y, _ = inputs(estimator)
    if estimator.__name__ == "XLMRobertaMultipleChoiceClassifier":
        X[5] = (X[5][0], X[5][1] * 2)  # more choices than any that counts
    weights = np.array([1, 0, 2, 1, 1, 0.0])
    kept = np.flatnonzero(weights)
    batch_size = 4 if estimator.__name__ == "XLMRobertaEmbedder" else 2  # which compares rows of two classes
    weighted = make_any(estimator, batch_size=batch_size, max_epochs=2).fit(X, y, sample_weight=weights)
    y_kept = None if y is None else [y[row] for row in kept]
    without = make_any(estimator, batch_size=batch_size, max_epochs=2)
    without.fit([X[row] for row in kept], y_kept, sample_weight=weights[kept])
    assert not differing(weights_of(weighted), weights_of(without))
    assert weighted.loss_curve_ == without.loss_curve_


def test_rows_that_weigh_nothing_are_no_validation_data_either(make, texts, languages):
    params = {"early_stopping": True, "validation_fraction": 0.25}
    weights = np.tile([1.0, 1.0, 0.0], 16)
    kept = np.flatnonzero(weights)
    weighted = make(XLMRobertaClassifier, max_epochs=2, **params).fit(texts, languages, weights)
    without = make(XLMRobertaClassifier, max_epochs=2, **params).fit([texts[i] for i in kept], languages[kept])
    assert not differing(weights_of(weighted), weights_of(without))
    assert weighted.validation_scores_ == without.validation_scores_


def test_of_rows_that_weigh_nothing_classes_are_learnt_and_cuts_not_counted(make):
    texts, y, weights = (
        ["the bird sings " * 30, "the bird", "das Haus", "das Haus " * 30] * 2,
        list("cabaabab"),
        [0] + [1] * 7,
    )
    linear = LogisticRegression().fit(np.arange(8)[:, None], y, weights)
    with pytest.warns(TruncationWarning):
        made = make(XLMRobertaClassifier, max_length=16).fit(texts, y, weights)
    assert made.classes_.tolist() == linear.classes_.tolist() == ["a", "b", "c"]
    assert made.n_truncated_ == 3
    with pytest.warns(TruncationWarning):
        assert made.partial_fit(texts, y, sample_weight=weights).n_truncated_ == 6


@pytest.mark.parametrize("factor", [2.0**-150, 1e-60, 1e60])
def test_only_proportions_of_weights_count(make, texts, languages, factor):
    weights = 1.0 + np.arange(48)
    fitted, scaled = (make(XLMRobertaClassifier).fit(texts, languages, w) for w in (weights, factor * weights))
    np.testing.assert_allclose(scaled.loss_curve_, fitted.loss_curve_, rtol=1e-5)
    assert factor != 2.0**-150 or not differing(weights_of(scaled), weights_of(fitted))


def test_classes_that_weigh_nothing_balance_nothing(make, texts, languages):
    weights = np.where(languages == "ru", 0.0, 1.0)  # the others have 12 rows each
    balanced = make(XLMRobertaClassifier, class_weight="balanced").fit(texts, languages, weights)
    assert balanced.classes_.tolist() == ["de", "el", "en", "ru"]
    assert not differing(weights_of(balanced), weights_of(make(XLMRobertaClassifier).fit(texts, languages, weights)))
    tagger = make(XLMRobertaTokenClassifier, class_weight="balanced")
    tagger.fit([["the", "bird"], ["das"]], [["O", "B-A"], ["B-B"]], sample_weight=[1, 0])
    assert tagger.classes_.tolist() == ["B-A", "B-B", "O"] and np.isfinite(tagger.loss_curve_).all()
    tagger.partial_fit([["the"], []], [["O"], []])
    assert np.isfinite(tagger.partial_fit([[]], [[]]).loss_curve_[:2]).all()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(48), "sample_weight is zero for all 48 rows"),
        (np.r_[-1.0, np.ones(47)], "Negative values in data passed to `sample_weight`"),
        (np.r_[np.nan, np.ones(47)], "sample_weight row 0: expected a finite number, got nan"),
        (np.r_[np.inf, np.ones(47)], "sample_weight row 0: expected a finite number, got inf"),
        (np.ones(3), "sample_weight has 3 numbers, expected 48, one for each row"),
        (["a"] * 48, "sample_weight holds texts, such as .*, and not numbers"),
    ],
)
def test_weights_that_make_no_sense(make, texts, weights, message):
    with pytest.raises(ValueError, match=message):
        make(XLMRobertaRegressor).fit(texts, np.arange(48), weights)


@each_that(lambda cls: hasattr(cls, "score"))
def test_a_weight_of_a_score_is_a_repetition(fitted, estimator):
    X, y, _ = inputs(estimator)
    made, times = fitted(estimator), [2, 1, 3, 0, 1, 2]
    if estimator.__name__ == "XLMRobertaDialogueLM":  # a dialogue that stands there twice is a candidate twice
        times = [1, 1, 0, 0, 1, 1]
    else:
        plain, each_heavier = made.score(X, y), 1 + 9 * np.eye(6)
        assert any(abs(made.score(X, y, sample_weight=weights) - plain) > 1e-3 for weights in each_heavier)
    weighted = made.score(X, y, sample_weight=times)
    assert weighted == pytest.approx(made.score(repeated(X, times), repeated(y, times)), rel=1e-5)
    with pytest.raises(ValueError, match=r"sample_weight|inconsistent numbers of samples"):
        made.score(X, y, sample_weight=np.ones(3))


@each_that(lambda cls: cls.__name__ in STEADY)
def test_validation_scores_are_those_of_the_weighted_rows(make_any, monkeypatch, estimator):
    """Those of language models are losses."""
    monkeypatch.setattr(FineTuned, "_split", lambda made, rows, seed: (np.arange(6), np.arange(6)))
    X, y, _ = inputs(estimator)
    weights = np.array([1.0, 2, 8, 1, 4, 1])
    made = make_any(estimator, early_stopping=True).fit(X, y, sample_weight=weights)
    assert made.validation_scores_ == pytest.approx([made.score(X, y, sample_weight=weights)], rel=1e-5)


def test_score_weighs_rows(make, texts, languages):
    classifier = make(XLMRobertaClassifier).fit(texts, languages)
    right = classifier.predict(texts) == languages
    assert 0 < right.sum() < 48
    assert classifier.score(texts, languages, sample_weight=right) == 1
    assert classifier.score(texts, languages, sample_weight=~right) == 0


# Who takes what -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_what_can_be_asked_for(routing, estimator):
    routed = get_routing_for_object(estimator())
    trains = hasattr(estimator, "partial_fit")
    supervised = trains and "y_val" in routed.fit.requests
    assert ("sample_weight" in routed.fit.requests) == ("X_val" in routed.fit.requests) == trains
    assert supervised == (trains and not estimator.__name__.endswith("LM"))
    if trains:
        asked = (
            estimator()
            .set_fit_request(sample_weight=True, X_val="X_watched")
            .set_partial_fit_request(sample_weight=True)
        )
        requests = get_routing_for_object(asked)
        assert requests.fit.requests["sample_weight"] is True and requests.fit.requests["X_val"] == "X_watched"
        assert ("classes" in requests.partial_fit.requests) == (
            "classes" in inspect.signature(estimator.partial_fit).parameters
        )


class Recorder(XLMRobertaClassifier):
    """Notes what its fits and scores are given."""

    seen: ClassVar[list] = []

    def fit(self, X, y, sample_weight=None, X_val=None, y_val=None):
        Recorder.seen.append(("fit", list(X), sample_weight, X_val))
        return super().fit(X, y, sample_weight, X_val, y_val)

    def score(self, X, y, sample_weight=None):
        Recorder.seen.append(("score", list(X), sample_weight, None))
        return super().score(X, y, sample_weight)


@pytest.fixture
def recorder(routing, tiny_checkpoint):
    Recorder.seen.clear()
    return Recorder(tiny_checkpoint, max_epochs=1, learning_rate=3e-3, warmup_ratio=0.0, random_state=0)


class Lower(TransformerMixin, BaseEstimator):
    """A text step before the estimator."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return self

    def transform(self, X):
        return [text.lower() for text in X]


def test_cross_validation_hands_on_weights_and_groups(recorder, texts, languages):
    weights, groups = 1.0 + np.arange(48), np.arange(48) % 3
    recorder.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
    params = {"sample_weight": weights, "groups": groups}
    found = cross_validate(recorder, texts, languages, cv=GroupKFold(3), params=params, error_score="raise")
    assert len(found["test_score"]) == 3 and [what for what, *_ in Recorder.seen] == ["fit", "score"] * 3
    place = {text: i for i, text in enumerate(texts)}
    for what, X, sample_weight, _ in Recorder.seen:
        rows = [place[text] for text in X]
        assert len(set(groups[rows])) == (2 if what == "fit" else 1)  # no group on both sides
        np.testing.assert_array_equal(sample_weight, weights[rows])


def test_what_nobody_asked_for_is_refused(recorder, texts, languages):
    with pytest.raises(UnsetMetadataPassedError, match=r"\[sample_weight\] are passed but are not explicitly set"):
        cross_validate(recorder, texts, languages, cv=2, params={"sample_weight": np.ones(48)})
    recorder.set_fit_request(sample_weight=False).set_score_request(sample_weight=True)
    cross_validate(recorder, texts, languages, cv=2, params={"sample_weight": np.ones(48)})
    assert [(what, weights is None) for what, _, weights, _ in Recorder.seen] == [("fit", True), ("score", False)] * 2


def test_grid_search_hands_on_validation_data(recorder, texts, languages):
    recorder.set_params(early_stopping=True)
    recorder.set_fit_request(X_val=True, y_val=True, sample_weight="importance").set_score_request(sample_weight=False)
    search = GridSearchCV(recorder, {"max_epochs": [1, 2]}, cv=GroupKFold(2), error_score="raise")
    search.fit(
        texts,
        languages,
        groups=np.arange(48) // 4 % 2,
        importance=np.full(48, 2.0),
        X_val=texts[:10],
        y_val=languages[:10],
    )
    fits = [(X_val, weights) for what, _, weights, X_val in Recorder.seen if what == "fit"]
    assert len(fits) == 5  # two settings, two folds, and the best on all rows
    assert all(list(X_val) == texts[:10] and (weights == 2).all() for X_val, weights in fits)
    best = search.best_estimator_
    assert max(best.validation_scores_) == best.score(texts[:10], languages[:10])


def test_pipeline_transforms_validation_data_too(recorder, texts, languages):
    recorder.set_fit_request(X_val=True, y_val=True, sample_weight=True)
    shouted = [text.upper() for text in texts]
    steps = [("lower", Lower()), ("classify", recorder)]
    weights = np.r_[np.ones(40), np.zeros(8)]
    pipeline = Pipeline(steps, transform_input=["X_val"])
    pipeline.fit(shouted, languages, X_val=shouted[:12], y_val=languages[:12], sample_weight=weights)
    ((_, X, sample_weight, X_val),) = Recorder.seen
    assert [text.lower() for text in texts] == X and X_val == X[:12]
    np.testing.assert_array_equal(sample_weight, weights)
    scores = pipeline["classify"].validation_scores_
    assert scores == [pipeline.score(shouted[:12], languages[:12])]
    Recorder.seen.clear()
    search = GridSearchCV(pipeline, {"classify__learning_rate": [1e-3, 3e-3]}, cv=2, refit=False, error_score="raise")
    pipeline["classify"].set_score_request(sample_weight=True)
    search.fit(shouted, languages, X_val=shouted[:12], y_val=languages[:12], sample_weight=weights)
    assert [X_val for what, *_, X_val in Recorder.seen if what == "fit"] == [X[:12]] * 4


def test_groups_in_cross_val_predict(routing, make, texts, languages):
    classifier, groups = make(XLMRobertaClassifier), np.arange(48) % 2
    found = cross_val_predict(classifier, texts, languages, cv=GroupKFold(2), params={"groups": groups})
    for group in (0, 1):
        train, test = np.flatnonzero(groups != group), np.flatnonzero(groups == group)
        one = make(XLMRobertaClassifier).fit([texts[i] for i in train], languages[train])
        np.testing.assert_array_equal(found[test], one.predict([texts[i] for i in test]))


def test_weights_without_routing(make, texts, languages):
    """As scikit-learn had it before: params go to fit, cut to the rows of the fold."""
    frame = pd.DataFrame({"text": texts})
    classifier = make(XLMRobertaClassifier)
    weights = np.where(languages == "de", 0.0, 1.0)
    folds = KFold(2)
    found = cross_validate(
        classifier, frame, languages, cv=folds, params={"sample_weight": weights}, return_estimator=True
    )
    for (train, _), one in zip(folds.split(texts), found["estimator"], strict=True):
        alone = make(XLMRobertaClassifier).fit(frame.iloc[train], languages[train], weights[train])
        assert not differing(weights_of(one), weights_of(alone))


def test_partial_fit_asks_for_classes(routing):
    asked = XLMRobertaClassifier().set_partial_fit_request(classes=True, sample_weight=False)
    assert get_routing_for_object(asked).partial_fit.requests == {"classes": True, "sample_weight": False}
    assert not hasattr(skxlmr.XLMRobertaVectorizer, "set_partial_fit_request")


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_rows_are_named_as_they_were_passed(make, monkeypatch, texts, languages, method):
    """Though some are left out, and some set aside."""
    losses = SequenceTask.losses

    def poisoned(task, module, batch):
        terms = losses(task, module, batch)
        bad = torch.from_numpy(task.encoded.lengths[batch.rows["loss"]] == longest)
        return {"loss": torch.where(bad, torch.nan, terms["loss"])}

    monkeypatch.setattr(SequenceTask, "losses", poisoned)
    X = [*texts[:20], "bird " * 40, *texts[20:]]
    y = np.insert(languages, 20, "en")
    weights = np.r_[np.zeros(7), np.ones(42)]
    classifier = make(XLMRobertaClassifier, early_stopping=method == "fit", batch_size=64)
    longest = 42
    extra = {"classes": np.unique(languages)} if method == "partial_fit" else {}
    with pytest.raises(FloatingPointError, match="the loss is not finite at rows 20 of the training data"):
        getattr(classifier, method)(X, y, sample_weight=weights, **extra)
