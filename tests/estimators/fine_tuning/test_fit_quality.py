"""Fits that did not learn say so, and what to try; others say nothing."""

import pickle
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from skxlmr import FitQualityWarning, XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaRegressor, load, save
from skxlmr.estimators._fine_tuning.fit_quality import (
    MOST_CANDIDATES,
    MOST_PARAMETERS,
    _loss_of_guessing,
    collapse,
    warn_of_fit,
)
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
    record, curve = StepRecord(), []
    for number, epoch in enumerate(np.array_split(np.asarray(losses, float), n_epochs)):
        for loss in epoch.tolist():
            record.end_step(loss, 16.0, np.array(predicted, float)[:, None] if predicted else None)
        record.end_epoch(number, is_kept=not scores or scores[number] == max(scores[: number + 1]))
        curve.append(epoch.mean())
    history = History(curve, list(scores), record=record)
    return collapse(fitted, history, TrainingRows({}, y, np.ones(len(y), np.float32)))


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


def test_it_is_said_once_of_each_candidate_with_its_parameters(dull):
    texts, y = ["the bird sings"] * 96, np.repeat([0, 1], 48)
    with pytest.warns(
        FitQualityWarning, match=r"learning_rate='auto', which is 0.0003 for this checkpoint \(it was 1e-09\)"
    ) as said:
        GridSearchCV(dull(), {"weight_decay": [0.0, 0.1]}, cv=2, refit=False).fit(texts, y)
    assert len(said) == 2 and {each.filename for each in said} == {__file__}
    assert issubclass(FitQualityWarning, ConvergenceWarning)
    for each, decay in zip(said, ("0.0", "0.1"), strict=True):
        told = str(each.message)
        assert (
            f"learning_rate=1e-09, max_epochs=9, random_state=0, warmup_ratio=0.0, weight_decay={decay}; other" in told
        )
        assert "verbose" not in told and len(told) < 700


def warnings_of(candidates, monkeypatch):
    """What is said of a search in which every fit of these parameters is doubted."""

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        warn_of_fit(self, "it hardly learnt")
        return self

    def score(self, X, y):
        return 0.0

    monkeypatch.setattr(XLMRobertaClassifier, "fit", fit)
    monkeypatch.setattr(XLMRobertaClassifier, "score", score)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        GridSearchCV(XLMRobertaClassifier(), candidates, cv=2, refit=False).fit(sentences(8), [0, 1] * 4)
    return [str(each.message) for each in said]


def test_a_search_of_many_candidates_does_not_flood(monkeypatch):
    said = warnings_of({"tol": np.arange(60.0).tolist()}, monkeypatch)
    assert len(said) == MOST_CANDIDATES == 10
    assert ["the last in this call" in each for each in said] == [False] * 9 + [True]
    assert [f"(the fit with tol={number}.0; other fits" in each for number, each in enumerate(said)] == [True] * 10
    (said,) = warnings_of({"verbose": [0, 1]}, monkeypatch)  # it makes no other fit
    assert "the fit with the default parameters" in said


def test_parameters_of_a_candidate_stay_readable(monkeypatch):
    many = {"class_weight": [{f"class {i}": i for i in range(99)}], "batch_size": [1], "max_epochs": [1], "stride": [1]}
    many |= {"schedule": ["cosine"], "threshold": [0.1], "tol": [1.0], "accumulate": [2], "max_grad_norm": [2.0]}
    many |= {"layer_decay": [0.5], "n_frozen_layers": [1], "weight_decay": [0.5]}
    (said,) = warnings_of(many, monkeypatch)
    assert len(said) < 400 and "class_weight={'class 0': 0" in said and "..., layer_decay=0.5" in said
    assert said.count("=") == MOST_PARAMETERS and ", ...; other fits" in said


def test_only_a_first_fit_is_judged(dull, tmp_path):
    texts, y = ["the bird sings"] * 96, np.repeat([0, 1], 48)
    classifier = dull(resume_dir=tmp_path)
    with pytest.warns(FitQualityWarning):
        classifier.fit(texts, y)
    assert classifier.collapsed_ and classifier.collapse_reason_.startswith("the training loss did not fall, from 0.7")
    assert classifier.final_loss_ == classifier.loss_curve_[-1]
    save(classifier, tmp_path / "saved")
    for copied in (pickle.loads(pickle.dumps(classifier)), load(tmp_path / "saved")):
        for name in ("final_loss_", "collapsed_", "collapse_reason_"):
            assert getattr(copied, name) == getattr(classifier, name)
    with pytest.warns(FitQualityWarning):  # a resumed fit is judged like one without an interrupt
        resumed = dull(resume_dir=tmp_path).fit(texts, y, resume=True)
    assert resumed.collapse_reason_ == classifier.collapse_reason_
    classifier.set_params(warm_start=True).fit(texts, y)  # warnings are errors here
    assert (classifier.collapsed_, classifier.collapse_reason_) == (False, None)
    for _ in range(2):
        classifier.partial_fit(texts, y)
    assert classifier.final_loss_ == classifier.loss_curve_[-1] and classifier.n_iter_ == 11
    assert (classifier.collapsed_, classifier.collapse_reason_) == (False, None)


def test_the_loss_of_the_epoch_that_was_kept(make):
    scores = iter([0.1, 0.3, 0.2])
    classifier = make(XLMRobertaClassifier, max_epochs=3, early_stopping=True, scoring=lambda *rows: next(scores))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        classifier.fit(sentences(24), np.arange(24) % 3)
    assert classifier.final_loss_ == classifier.loss_curve_[1] != classifier.loss_curve_[2]


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
