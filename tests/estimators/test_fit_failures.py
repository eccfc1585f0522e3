"""What all estimators that train share: interrupts, and losses that are not finite."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

import skxlmr.training._loop as loop
from skxlmr import XLMRobertaClassifier, XLMRobertaRegressor
from tests.estimators.conftest import differing, weights_of

WORDS = "roberta.embeddings.word_embeddings.weight"


@pytest.fixture
def interrupt(monkeypatch):
    """Press Ctrl-C in the n-th step from now."""

    def interrupt(n):
        steps, step = iter(range(1, n)), loop.train_step

        def train_step(*args):
            if next(steps, None) is None:
                monkeypatch.undo()
                raise KeyboardInterrupt
            return step(*args)

        monkeypatch.setattr(loop, "train_step", train_step)

    return interrupt


def test_interrupt_leaves_the_last_finished_epoch(make, interrupt, texts, languages):
    params = {"max_epochs": 3, "schedule": "constant"}
    one = make(XLMRobertaClassifier, **params | {"max_epochs": 1}).fit(texts, languages)
    classifier = make(XLMRobertaClassifier, **params)
    interrupt(5)  # three steps an epoch: this is in the middle of the second
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


def test_loss_that_is_not_finite_names_the_rows(make, monkeypatch, texts, languages):
    from skxlmr.batching import SequenceTask

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


def test_runaway_learning_rate_is_stopped(make, texts):
    regressor = make(XLMRobertaRegressor, learning_rate=1e18, max_epochs=3, max_grad_norm=None, schedule="constant")
    with pytest.raises(FloatingPointError, match=r"is not finite at rows .* lower learning_rate"):
        regressor.fit(texts, np.arange(48.0))
