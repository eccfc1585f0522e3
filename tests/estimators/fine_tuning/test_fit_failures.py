"""Interrupts, fits that fail and losses that are not finite, the same for all estimators that train."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skxlmr import CheckpointError, TruncationWarning, XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaVectorizer
from skxlmr.training.step import TrainStep
from tests.estimators.conftest import differing, weights_of
from tests.tiny import write_checkpoint

WORDS = "roberta.embeddings.word_embeddings.weight"


@pytest.fixture
def interrupt(monkeypatch):
    """Press Ctrl-C in the n-th step from now."""

    def interrupt(n):
        steps, step = iter(range(1, n)), TrainStep.run

        def run(*args):
            if next(steps, None) is None:
                monkeypatch.undo()
                raise KeyboardInterrupt
            return step(*args)

        monkeypatch.setattr(TrainStep, "run", run)

    return interrupt


def test_interrupt_leaves_the_last_finished_epoch(make, interrupt, texts, languages):
    params = {"max_epochs": 3, "schedule": "constant"}
    one = make(XLMRobertaClassifier, **params | {"max_epochs": 1}).fit(texts, languages)
    classifier = make(XLMRobertaClassifier, **params)
    interrupt(5)  # three steps per epoch: this is in the middle of the second
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(texts, languages)
    assert classifier.n_iter_ == 1 and classifier.loss_curve_ == one.loss_curve_
    assert not differing(weights_of(classifier), weights_of(one))
    np.testing.assert_array_equal(classifier.predict_proba(texts), one.predict_proba(texts))


def test_interrupted_regressor_keeps_its_units(make, interrupt, texts):
    regressor = make(XLMRobertaRegressor, max_epochs=3)
    interrupt(5)
    with pytest.raises(KeyboardInterrupt):
        regressor.fit(texts, 1000 + np.arange(48.0))
    assert 950 < regressor.predict(texts).mean() < 1100


def test_interrupt_in_the_first_epoch_leaves_nothing(make, interrupt, texts, languages):
    classifier = make(XLMRobertaClassifier)
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(texts, languages)
    with pytest.raises(NotFittedError):
        classifier.predict(texts)


def test_interrupted_warm_start_predicts_without_dropout(make, interrupt, texts, languages):
    classifier = make(XLMRobertaClassifier, warm_start=True).fit(texts, languages)
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(texts, languages)
    np.testing.assert_array_equal(classifier.predict_proba(texts), classifier.predict_proba(texts))
    assert weights_of(classifier)[WORDS].shape[0] == classifier.config_.vocab_size


@pytest.mark.parametrize("estimator", [XLMRobertaClassifier, XLMRobertaRegressor])
def test_interrupt_in_the_first_epoch_of_a_warm_start_leaves_the_earlier_model(
    make, interrupt, texts, languages, estimator
):
    y = languages if estimator is XLMRobertaClassifier else np.arange(48.0)
    fitted = make(estimator, warm_start=True, max_epochs=2).fit(texts, y)
    before, curve, rows = weights_of(fitted), fitted.loss_curve_, fitted.n_truncated_
    interrupt(3)
    with pytest.raises(KeyboardInterrupt), pytest.warns(TruncationWarning):
        fitted.fit([*texts, "the old house " * 30], [*y, y[0]])
    assert not differing(weights_of(fitted), before)  # the units of y, too, are as they were
    assert (fitted.loss_curve_, fitted.n_iter_, fitted.n_truncated_) == (curve, 2, rows)


def test_a_portion_without_a_step_leaves_the_weights_to_the_last_bit(make, interrupt, texts):
    fitted = make(XLMRobertaRegressor).fit(texts, 100 + np.sqrt(np.arange(48.0)))
    before = weights_of(fitted)
    interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        fitted.partial_fit(texts, np.arange(48.0))
    assert not differing(weights_of(fitted), before)
    interrupt(2)
    with pytest.raises(KeyboardInterrupt):
        fitted.partial_fit(texts, np.arange(48.0))
    assert differing(weights_of(fitted), before)  # the step that was taken stays
    assert abs(fitted.predict(texts).mean() - 105) < 10  # in the units of y


# Fits that fail -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "y", "said"),
    [
        ({"checkpoint": "./no-such-folder"}, [1, 2] * 24, "no such folder"),
        ({"n_frozen_layers": 9}, [1, 2] * 24, "n_frozen_layers=9 is more"),
        ({"device": "gpu"}, [1, 2] * 24, "device='gpu' cannot be used here"),
        ({}, [1, 2] * 23, "inconsistent numbers of samples"),
        ({"class_weight": {1: 0, 2: 0}}, [1, 2] * 24, "class_weight leaves no row any weight"),
    ],
    ids=["checkpoint", "layers", "device", "length of y", "class weight"],
)
def test_an_error_before_training_leaves_the_earlier_fit(make, texts, languages, params, y, said):
    """No new classes next to old weights."""
    classifier = make(XLMRobertaClassifier).fit(texts, languages)
    attributes, predicted = dict(vars(classifier)), classifier.predict(texts)
    with pytest.raises(ValueError, match=said):
        classifier.set_params(**params).fit(list(zip(texts, texts, strict=True)), y)
    classifier.set_params(**{name: attributes[name] for name in params})
    assert vars(classifier) == attributes
    np.testing.assert_array_equal(classifier.predict(texts), predicted)


@pytest.mark.parametrize("failing", ["_make_task", "_validation_score"])  # before the first step, and after an epoch
def test_an_error_in_training_leaves_the_earlier_fit(make, monkeypatch, texts, languages, failing):
    """Not a half-trained model, and not the new classes with the old one."""
    classifier = make(XLMRobertaClassifier).fit(texts, languages)
    attributes, weights, predicted = dict(vars(classifier)), weights_of(classifier), classifier.predict_proba(texts)
    monkeypatch.setattr(XLMRobertaClassifier, failing, lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        classifier.fit(texts, [1, 2] * 24, X_val=texts, y_val=[1, 2] * 24)
    assert vars(classifier) == attributes and not differing(weights_of(classifier), weights)
    np.testing.assert_array_equal(classifier.predict_proba(texts), predicted)


def test_an_error_in_the_training_of_a_first_fit_leaves_nothing(make, monkeypatch, texts, languages):
    classifier = make(XLMRobertaClassifier)
    monkeypatch.setattr(XLMRobertaClassifier, "_make_task", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        classifier.fit(texts, languages)
    with pytest.raises(NotFittedError):
        check_is_fitted(classifier)


def test_vectorizer_whose_second_fit_fails_stays_as_it_was(make, texts, tmp_path, tiny_checkpoint, tiny_tokenizer):
    """No new tokenizer next to old weights."""
    other = write_checkpoint(tmp_path / "other", tiny_tokenizer, seed=1)
    vectorizer = make(XLMRobertaVectorizer).fit(texts)
    features = vectorizer.transform(texts)
    with pytest.raises(ValueError, match="layers must name layers"):
        vectorizer.set_params(checkpoint=other, layers=9).fit(texts)
    vectorizer.set_params(layers=-1)
    assert vectorizer.module_.origin.tokenizer is vectorizer.tokenizer_
    np.testing.assert_array_equal(vectorizer.transform(texts), features)


def test_loss_that_is_not_finite_names_the_rows(make, monkeypatch, texts, languages):
    from skxlmr.estimators._sequence.task import SequenceTask

    losses, steps = SequenceTask.losses, []

    def poisoned(task, module, batch):
        steps.append(batch)
        terms = losses(task, module, batch)
        bad = torch.from_numpy(np.isin(batch.rows["loss"], [7, 30])).to(terms["loss"].device)
        return {"loss": torch.where(bad, torch.nan, terms["loss"])}

    monkeypatch.setattr(SequenceTask, "losses", poisoned)
    classifier = make(XLMRobertaClassifier, batch_size=48, max_epochs=3)
    with pytest.raises(FloatingPointError, match="the loss is not finite at rows 7, 30 of the training data"):
        classifier.fit(texts, languages)
    assert len(steps) == 1
    with pytest.raises(NotFittedError):
        classifier.predict(texts)


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_a_fit_that_diverges_in_its_last_step_is_no_success(make, texts, languages, rate):
    """No later loss shows it: the weights do, or what they make of a text."""
    params = {"learning_rate": rate, "batch_size": 48, "max_epochs": 1, "schedule": "constant", "warmup_ratio": 0.0}
    classifier = make(XLMRobertaClassifier, **params)
    with pytest.raises(FloatingPointError, match="lower learning_rate"):
        classifier.fit(texts, languages).predict(texts)
    if rate > 1e37:
        with pytest.raises(FloatingPointError, match="the weights are not finite after the last step: lower"):
            classifier.fit(texts, languages)
        with pytest.raises(NotFittedError):
            classifier.predict(texts)


def test_weights_that_a_partial_fit_left_are_no_fault_of_the_checkpoint(make, texts, languages):
    classifier = make(XLMRobertaClassifier, batch_size=48).partial_fit(texts, languages, classes=np.unique(languages))
    with pytest.raises(FloatingPointError, match="the weights are not finite after the last step: lower"):
        classifier.set_params(learning_rate=1e38).partial_fit(texts, languages)
    classifier.set_params(learning_rate=1e-3)
    said = "^the fitted XLMRobertaClassifier: holds weights that are NaN or infinite, in "
    for call in (lambda: classifier.partial_fit(texts, languages), lambda: classifier.predict(texts)):
        with pytest.raises(CheckpointError, match=said):
            call()
    assert classifier.fit(texts, languages).predict(texts).shape == (48,)


def test_runaway_learning_rate_is_stopped(make, texts):
    regressor = make(XLMRobertaRegressor, learning_rate=1e18, max_epochs=3, max_grad_norm=None, schedule="constant")
    with pytest.raises(FloatingPointError, match=r"is not finite at rows .* lower learning_rate"):
        regressor.fit(texts, np.arange(48.0))
