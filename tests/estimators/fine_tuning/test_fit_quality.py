"""Fits that did not learn say so, and what to try; others say nothing."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from skxlmr import FitQualityWarning, XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaRegressor
from skxlmr.estimators._fine_tuning.fit_quality import _loss_of_guessing, doubt
from skxlmr.estimators._fine_tuning.training_rows import TrainingRows
from skxlmr.training import History, StepRecord
from tests.tiny import sentences


def judged(losses, *, y=None, n_epochs=5, predicted=(0, 1), scores=(), estimator=XLMRobertaClassifier, **about):
    """What is said of a fit with these losses of its steps, which predicted classes from the lowest to the highest."""
    fitted = estimator(early_stopping=bool(scores), **about)
    fitted.config_, fitted.learning_rate_ = SimpleNamespace(hidden_size=192), 3e-5
    y = np.arange(300) % 2 if y is None else y
    if estimator is XLMRobertaClassifier:
        fitted.classes_, fitted.target_type_ = np.unique(y), "multiclass"
    record, curve = StepRecord(from_start=True), []
    for epoch in np.array_split(np.asarray(losses, float), n_epochs):
        for loss in epoch.tolist():
            record.end_step(loss, 16.0, np.array(predicted, float)[:, None] if predicted else None)
        record.end_epoch()
        curve.append(epoch.mean())
    history = History(curve, list(scores), record=record)
    return doubt(fitted, history, TrainingRows({}, y, np.ones(len(y), np.float32)))


def losses(start, end, n_steps=95, noise=0.03, seed=0):
    """From start to end in equal steps, with the noise of batches."""
    return np.linspace(start, end, n_steps) + noise * np.random.default_rng(seed).standard_normal(n_steps)


def test_a_loss_that_does_not_fall_is_told_with_the_remedy():
    found = judged(losses(0.70, 0.69))
    assert found.startswith("the training loss did not fall, from 0.695 to 0.696: ")
    assert (
        "set learning_rate='auto', which is 0.0003 for this checkpoint (it was 3e-05), raise max_epochs (it was 5)"
        in found
    )
    assert "lower n_frozen_layers" in judged(losses(0.70, 0.69), n_frozen_layers=2) and "frozen" not in found


@pytest.mark.parametrize(
    "fit",
    [
        {"losses": losses(0.70, 0.60)},  # it falls
        {"losses": losses(0.70, 0.65, 8), "n_epochs": 1},  # too few steps to say
        {"losses": losses(0.70, 0.69, noise=0.5), "n_epochs": 1},  # in this noise a fall would not show
        {"losses": losses(0.02, 0.02, noise=0.0)},  # nothing left to learn
        {"losses": [0.7] * 5 + [0.3] * 90},  # all learnt in a few steps
        {"losses": np.tile([0.2, 0.9, 0.5, 1.4, 0.3], 20) - np.repeat([0, 0.1, 0.15, 0.18, 0.2], 20)},  # epoch by epoch
    ],
)
def test_no_false_alarm(fit):
    assert judged(**fit) is None


def test_noise_alone_rarely_alarms_a_fit_that_learns():
    """A fall of 8 % in batches of large noise, and a language model whose loss stays where it was."""
    alarms = [judged(losses(0.70, 0.62, noise=0.05, seed=seed)) for seed in range(200)]
    assert sum(found is not None for found in alarms) <= 4
    language = {"estimator": XLMRobertaMaskedLM, "y": np.zeros(300), "predicted": None}
    alarms = [judged(losses(2.0, 2.0, 20, 0.2, seed), n_epochs=1, **language) for seed in range(200)]
    assert sum(found is not None for found in alarms) <= 4
    assert judged(losses(2.0, 3.0), **language) is not None


def test_guessing_knows_the_weights():
    weights = np.array([1.0, 1.0, 0.0])
    rows = TrainingRows({}, np.array([0.0, 1.0, 5.0]), weights)
    assert _loss_of_guessing(XLMRobertaRegressor(), rows, None, weights) == 0.25
    codes = np.array([[0, 2], [1, 2], [1, 3]])
    assert _loss_of_guessing(XLMRobertaClassifier(), rows, codes, weights) == pytest.approx(np.log(2) / 2)


def test_a_loss_above_that_of_guessing():
    """It falls, from where a too high rate had brought it."""
    y = np.arange(300) % 3
    assert "ended at 1.2" in judged(losses(2.0, 1.2), y=y) and "has 1.099" in judged(losses(2.0, 1.2), y=y)
    assert "has 1.099" in judged(losses(1.4, 1.2, noise=0.45), y=y)  # an epoch is all rows, whatever its batches
    assert judged(losses(1.4, 1.2, noise=0.45), y=y, n_epochs=1) is None
    assert judged(losses(2.0, 1.2), y=y, class_weight="balanced") is None  # weights and smoothing change what it is
    assert judged(losses(2.0, 1.2), y=y, label_smoothing=0.1) is None
    numbers = {"estimator": XLMRobertaRegressor, "predicted": None, "y": np.array([[-1.0], [1.0]] * 50)}
    assert "ignores the texts has 1.000" in judged(losses(4.0, 1.5), **numbers)
    constant = {"estimator": XLMRobertaRegressor, "predicted": None, "y": np.zeros((100, 1))}
    assert judged(losses(0.3, 0.3), **constant) is None


def test_one_class_for_all_rows():
    y = np.repeat([0, 1], [270, 30])
    found = judged(losses(0.7, 0.3), y=y, predicted=(0, 0))
    assert found.startswith("the model predicts 0 for all 300 training examples, of which 270 have this class: ")
    assert judged(losses(0.7, 0.15), y=np.repeat([0, 1], [285, 15]), predicted=(0, 0)) is None  # a few rare rows
    assert judged(losses(0.7, 0.15), y=y, predicted=(0, 1)) is None


def test_the_epoch_that_early_stopping_kept_is_judged():
    fit = np.concatenate([losses(0.70, 0.40, 57), losses(0.5, 0.75, 38)])
    assert judged(fit) is not None
    assert judged(fit, scores=[0.5, 0.6, 0.7, 0.4, 0.3]) is None


@pytest.fixture
def dull(make):
    """A fit of two or three dozen steps at a rate at which nothing is learnt."""

    def dull(estimator=XLMRobertaClassifier, **params):
        return make(estimator, **{"learning_rate": 1e-9, "max_epochs": 9, "batch_size": 12} | params)

    return dull


def test_it_is_said_once_per_call_and_only_of_a_first_fit(dull):
    texts, y = ["the bird sings"] * 96, np.repeat([0, 1], 48)
    classifier = dull()
    with pytest.warns(
        FitQualityWarning, match=r"learning_rate='auto', which is 0.0003 for this checkpoint \(it was 1e-09\)"
    ) as said:
        GridSearchCV(classifier, {"weight_decay": [0.0, 0.1]}, cv=2, refit=False).fit(texts, y)
    assert len(said) == 1 and said[0].filename == __file__ and issubclass(FitQualityWarning, ConvergenceWarning)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier.fit(texts, y)
    classifier.set_params(warm_start=True).fit(texts, y)  # warnings are errors here
    for _ in range(2):
        classifier.partial_fit(texts, y)


def test_a_warning_turned_into_an_error_leaves_the_fit(dull):
    classifier = dull()
    with pytest.raises(FitQualityWarning):
        classifier.fit(["the bird sings"] * 48, np.repeat([0, 1], 24))
    assert classifier.predict(sentences(3)).shape == (3,) and classifier.n_iter_ == 9


def test_what_the_steps_predict_is_seen(make, tiny_checkpoint):
    """Classes that no text tells apart, nine to one."""
    texts, y = ["the bird sings"] * 240, np.repeat(["often", "rare"], [216, 24])
    with pytest.warns(FitQualityWarning, match="predicts 'often' for all 240 training examples, of which 216"):
        make(XLMRobertaClassifier, max_epochs=2).fit(texts, y)


def test_no_label_reaches_the_threshold(make):
    y = np.eye(4, dtype=int)[np.arange(12) % 4]
    classifier = make(XLMRobertaClassifier, threshold=1.0).fit(sentences(12), y)
    with pytest.warns(
        FitQualityWarning, match=r"no label reaches 1 in any of the 12 rows .* lower threshold with set_params"
    ):
        assert not classifier.predict(sentences(12)).any()
    classifier.set_params(threshold=[1.0, 1.0, 0.0, 1.0]).predict(sentences(12))
    classifier.set_params(threshold=1.0).predict(sentences(1))  # one text may well have none
