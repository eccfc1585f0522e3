"""``learning_rate="auto"`` is chosen from the size of the checkpoint, and ``learning_rate_`` says what it was."""

from types import SimpleNamespace

import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skxlmr import (
    XLMClassifier,
    XLMMaskedLM,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    load,
    save,
)
from skxlmr.estimators._xlm.family import XLM
from tests.contract import TEXTS, Y, each_that_trains, inputs
from tests.estimators.conftest import differing, weights_of


@pytest.mark.parametrize(
    ("hidden_size", "of_a_task", "of_a_language_model"),
    [(192, 3e-4, 5e-4), (384, 1e-4, 2e-4), (768, 3e-5, 5e-5), (1024, 1e-5, 2e-5), (2048, 5e-6, 1e-5)],
)
def test_rates_by_size(hidden_size, of_a_task, of_a_language_model):
    for estimator, rate in ((XLMRobertaClassifier(), of_a_task), (XLMRobertaMaskedLM(), of_a_language_model)):
        estimator.config_ = SimpleNamespace(hidden_size=hidden_size)
        assert estimator._auto_learning_rate() == rate
        assert f"{rate:.0e}".replace("e-0", "e-") in type(estimator).__doc__


@each_that_trains
def test_every_estimator_says_at_which_rate_it_learnt(make_any, estimator):
    assert estimator().learning_rate == "auto"
    X, y, _ = inputs(estimator)
    fitted = make_any(estimator, learning_rate="auto").fit(X, y)
    assert fitted.learning_rate_ == fitted._auto_learning_rate()
    assert fitted.learning_rate == "auto" and clone(fitted).learning_rate == "auto"


@pytest.mark.parametrize("estimator", [XLMRobertaClassifier, XLMRobertaMaskedLM, XLMClassifier, XLMMaskedLM])
def test_the_rate_is_the_one_that_trains(make, make_xlm, estimator):
    make_one = make_xlm if estimator._family is XLM else make
    found = make_one(estimator, learning_rate="auto").fit(TEXTS, Y)
    expected = make_one(estimator, learning_rate=found.learning_rate_).fit(TEXTS, Y)
    assert not differing(weights_of(found), weights_of(expected)) and expected.learning_rate_ == found.learning_rate_
    other = make_one(estimator, learning_rate=1e-2).fit(TEXTS, Y)
    assert other.learning_rate_ == 1e-2 and differing(weights_of(found), weights_of(other))


def test_the_head_follows_unless_it_has_a_rate_of_its_own(make):
    auto = make(XLMRobertaClassifier, learning_rate="auto").fit(TEXTS, Y)
    same = make(XLMRobertaClassifier, learning_rate="auto", head_learning_rate=3e-4).fit(TEXTS, Y)
    other = make(XLMRobertaClassifier, learning_rate="auto", head_learning_rate=3e-3).fit(TEXTS, Y)
    assert not differing(weights_of(auto), weights_of(same))
    assert any(name.startswith("classifier") for name in differing(weights_of(auto), weights_of(other)))


def test_every_fit_says_its_own_rate(make, tmp_path):
    classifier = make(XLMRobertaClassifier, learning_rate="auto", warm_start=True)
    assert classifier.partial_fit(TEXTS, Y, classes=[0, 1]).learning_rate_ == 3e-4
    assert classifier.set_params(learning_rate=1e-3).fit(TEXTS, Y).learning_rate_ == 1e-3
    assert classifier.set_params(learning_rate="auto").fit(TEXTS, Y).learning_rate_ == 3e-4
    save(classifier, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert (loaded.learning_rate, loaded.learning_rate_) == ("auto", 3e-4)
    opened = XLMRobertaClassifier.from_checkpoint(tmp_path / "saved", dtype="float32")
    assert not hasattr(opened, "learning_rate_")  # nothing was trained here
    assert opened.partial_fit(TEXTS, list(map(str, Y))).learning_rate_ == 3e-4


def test_a_fit_resumes_at_the_same_rate_in_words_or_as_a_number(make, tmp_path):
    params = {"resume_dir": tmp_path, "schedule": "constant"}
    make(XLMRobertaClassifier, learning_rate=3e-4, **params).fit(TEXTS, Y)
    resumed = make(XLMRobertaClassifier, learning_rate="auto", max_epochs=2, **params).fit(TEXTS, Y, resume=True)
    expected = make(XLMRobertaClassifier, learning_rate=3e-4, max_epochs=2, schedule="constant").fit(TEXTS, Y)
    assert resumed.learning_rate_ == 3e-4 and not differing(weights_of(resumed), weights_of(expected))


@pytest.mark.parametrize("rate", ["Auto", "3e-4", 0, None])
def test_other_rates_are_refused_before_anything_is_opened(rate):
    classifier = XLMRobertaClassifier("does/not/exist", learning_rate=rate)
    with pytest.raises(ValueError, match="learning_rate"):
        classifier.fit(TEXTS, Y)
    with pytest.raises(NotFittedError):
        check_is_fitted(classifier)
