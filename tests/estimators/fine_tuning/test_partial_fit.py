"""Training in portions with partial_fit, and on and on with warm_start."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

import skxlmr
from skxlmr import XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaTokenClassifier
from skxlmr.training import AdamState
from tests.contract import assert_same, each_that_trains, inputs, n_features
from tests.estimators.conftest import LANGUAGES, differing, weights_of

WORDS = "roberta.embeddings.word_embeddings.weight"


@pytest.fixture
def portions(texts, languages):
    """The toy task in three portions."""
    return [(texts[a : a + 16], languages[a : a + 16]) for a in (0, 16, 32)]


def in_portions(estimator, portions):
    for X, y in portions:
        estimator.partial_fit(X, y, classes=LANGUAGES)
    return estimator


# What one call does ---------------------------------------------------------------------------------------------------


@each_that_trains
def test_every_estimator_that_trains(make_any, estimator):
    X, y, _ = inputs(estimator)
    classes = {"XLMRobertaTokenClassifier": ["word"]}.get(estimator.__name__, [0, 1])
    first = {"classes": classes} if "classes" in inspect.signature(estimator.partial_fit).parameters else {}
    made = make_any(estimator, max_epochs=7, warmup_ratio=1.0)  # neither is read
    assert made.partial_fit(X[:3], None if y is None else y[:3], **first) is made
    before = weights_of(made)
    assert (
        getattr(made, "n_features_in_", None) == n_features(estimator)
        and made.n_iter_ == 1
        and made.validation_scores_ is None
    )
    made.partial_fit(X[3:], None if y is None else y[3:], sample_weight=[1, 2, 1])
    assert made.n_iter_ == len(made.loss_curve_) == 2 and np.isfinite(made.loss_curve_).all()
    assert not made.module_.training
    assert len(differing(weights_of(made), before)) > 10
    with pytest.raises(ValueError, match="X"):
        made.partial_fit([3], [0])
    assert made.n_iter_ == 2


def test_one_call_is_a_fit_of_one_epoch_at_a_constant_rate(make, texts, languages):
    fitted = make(XLMRobertaClassifier, schedule="constant").fit(texts, languages)
    partly = make(XLMRobertaClassifier, max_epochs=9, warmup_ratio=0.5, early_stopping=True)
    partly.partial_fit(texts, languages, classes=LANGUAGES)
    assert not differing(weights_of(partly), weights_of(fitted))
    assert partly.loss_curve_ == fitted.loss_curve_ and partly.n_truncated_ == fitted.n_truncated_ == 0


def test_calls_add_up_to_the_epochs_of_one_fit(make, still_checkpoint, texts, languages):
    """Where a portion is one batch, the passes of many calls are the epochs of one fit, moments included."""
    settings = {"batch_size": 48, "schedule": "constant", "weight_decay": 0.0}
    once = make(XLMRobertaClassifier, still_checkpoint, **settings, max_epochs=4).fit(texts, languages)
    calls = make(XLMRobertaClassifier, still_checkpoint, **settings)
    forgetful = make(XLMRobertaClassifier, still_checkpoint, **settings)
    for _ in range(4):
        calls.partial_fit(texts, languages, classes=LANGUAGES)
        forgetful.partial_fit(texts, languages, classes=LANGUAGES)._adam_state = AdamState()
    np.testing.assert_allclose(calls.loss_curve_, once.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(calls.predict_proba(texts), once.predict_proba(texts), atol=1e-4)
    assert np.abs(forgetful.predict_proba(texts) - once.predict_proba(texts)).max() > 1e-2


def test_portions_are_learnt_from(make, many):
    texts, languages = many
    classifier = make(XLMRobertaClassifier, batch_size=8, learning_rate=3e-3)
    for _ in range(5):
        for start in range(0, 128, 32):
            part = slice(start, start + 32)
            classifier.partial_fit(texts[part], languages[part], classes=LANGUAGES)
    assert classifier.score(texts, languages) > 0.9 and classifier.n_iter_ == 20
    assert np.mean(classifier.loss_curve_[-4:]) < np.mean(classifier.loss_curve_[:4]) / 2


def test_same_seed_same_bits(make, portions):
    first, second = (in_portions(make(XLMRobertaClassifier), portions) for _ in range(2))
    assert not differing(weights_of(first), weights_of(second))
    other = in_portions(make(XLMRobertaClassifier, random_state=1), portions)
    assert len(differing(weights_of(other), weights_of(first))) > 30
    generators = (make(XLMRobertaClassifier, random_state=np.random.RandomState(3)) for _ in range(2))
    assert not differing(*(weights_of(in_portions(classifier, portions)) for classifier in generators))


def test_calls_draw_anew(make, texts):
    """An int as random_state is the same in each call, but the masks of a language model are not."""
    lm = make(skxlmr.XLMRobertaMaskedLM, learning_rate=1e-12)
    for _ in range(3):
        lm.partial_fit(texts)
    assert len(set(np.round(lm.loss_curve_, 4))) == 3


def test_zero_weight_leaves_a_row_out(make, texts, languages):
    weights = np.repeat([1.0, 0.0], [40, 8])
    weighted, without = make(XLMRobertaClassifier), make(XLMRobertaClassifier)
    weighted.partial_fit(texts, languages, LANGUAGES, weights)
    without.partial_fit(texts[:40], languages[:40], LANGUAGES)
    assert not differing(weights_of(weighted), weights_of(without))


def test_class_weights_are_weights_of_rows(make, texts, languages):
    of_class = {"de": 5.0, "el": 1.0, "en": 1.0, "ru": 0.5}
    classes, of_rows = make(XLMRobertaClassifier, class_weight=of_class), make(XLMRobertaClassifier)
    classes.partial_fit(texts, languages, LANGUAGES)
    of_rows.partial_fit(texts, languages, LANGUAGES, [of_class[language] for language in languages])
    assert not differing(weights_of(classes), weights_of(of_rows))


# What goes before and after -------------------------------------------------------------------------------------------


def test_goes_on_after_fit_load_and_from_checkpoint(make, tmp_path, texts, languages):
    classifier = make(XLMRobertaClassifier, max_epochs=2).fit(texts, languages, X_val=texts, y_val=languages)
    skxlmr.save(classifier, tmp_path / "saved")
    others = skxlmr.load(tmp_path / "saved"), pickle.loads(pickle.dumps(classifier)), copy.deepcopy(classifier)
    classifier.partial_fit(texts, languages)
    assert classifier.n_iter_ == len(classifier.loss_curve_) == 3 and len(classifier.validation_scores_) == 2
    for other in others:
        other.partial_fit(texts, languages)
        assert not differing(weights_of(other), weights_of(classifier))
    opened = XLMRobertaClassifier.from_checkpoint(tmp_path / "saved", learning_rate=3e-3, random_state=0)
    opened.partial_fit(texts, languages)
    assert (
        opened.n_iter_ == 1 and not hasattr(opened, "n_features_in_") and opened.classes_.tolist() == LANGUAGES.tolist()
    )


def test_fit_starts_anew(make, portions, texts, languages):
    classifier = in_portions(make(XLMRobertaClassifier), portions).fit(texts, languages)
    assert not differing(weights_of(classifier), weights_of(make(XLMRobertaClassifier).fit(texts, languages)))
    assert classifier.n_iter_ == 1 and not hasattr(classifier, "_moments")


def test_moments_are_in_memory_only(make, tmp_path, portions):
    classifier = in_portions(make(XLMRobertaClassifier), portions)
    fitted = make(XLMRobertaClassifier).fit(*portions[0])
    assert len(pickle.dumps(classifier)) < len(pickle.dumps(fitted)) + 1000
    skxlmr.save(classifier, tmp_path / "saved")
    for other in (skxlmr.load(tmp_path / "saved"), copy.deepcopy(classifier)):
        assert_same(other.predict_proba(portions[0][0]), classifier.predict_proba(portions[0][0]))
        other.partial_fit(*portions[0])  # starts from scratch with them


def test_words_of_one_call_keep_their_moments_over_the_next(make, texts, languages):
    """Of the word embeddings each call trains other rows."""
    classifier = make(XLMRobertaClassifier, batch_size=48)
    classifier.partial_fit(texts[::4], languages[::4], classes=LANGUAGES)
    kept = classifier._adam_state._states[WORDS]["exp_avg"]
    rows = classifier._adam_state._rows
    classifier.partial_fit(texts[2::4], languages[2::4])
    both = classifier._adam_state
    assert set(rows) < set(both._rows) and both._states[WORDS]["exp_avg"].shape == (len(both._rows), 32)
    used = np.unique(classifier.tokenizer_.encode_batch(texts[2::4]).ids)
    resting = ~np.isin(rows, used)
    assert 5 < resting.sum() < len(rows)
    found = both._states[WORDS]["exp_avg"][np.searchsorted(both._rows, rows)]
    assert torch.equal(found[resting], kept[resting]) and not (found[~resting] == kept[~resting]).all(1).any()


def test_settings_may_change_between_calls(make, portions):
    """What no longer learns rests, what does again starts with moments of its own."""
    classifier = in_portions(make(XLMRobertaClassifier), portions[:1])
    before = weights_of(classifier)
    classifier.set_params(n_frozen_layers=2).partial_fit(*portions[1])
    assert not {name for name in differing(weights_of(classifier), before) if "embeddings" in name or "layer.1" in name}
    classifier.set_params(n_frozen_layers=0, subword_sampling=0.2).partial_fit(*portions[2])
    classifier.set_params(subword_sampling=None, learning_rate=1e-9).partial_fit(*portions[0])
    assert np.isfinite(classifier.loss_curve_).all() and classifier.n_iter_ == 4


def test_first_call_that_fails_leaves_nothing(make, monkeypatch, texts, languages):
    classifier = make(XLMRobertaClassifier, learning_rate=1e18, max_grad_norm=None)
    with pytest.raises(FloatingPointError):
        classifier.partial_fit(texts, languages, LANGUAGES)
    with pytest.raises(NotFittedError):
        classifier.predict(texts)
    classifier.set_params(learning_rate=1e-3).partial_fit(texts[:2], [0, 1], classes=[0, 1])
    assert classifier.predict(texts[:2]).dtype == np.int64


# Classes and scales ---------------------------------------------------------------------------------------------------


def test_classes_are_told_in_the_first_call(make, texts, languages):
    classifier = make(XLMRobertaClassifier)
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit"):
        classifier.partial_fit(texts, languages)
    with pytest.raises(ValueError, match="y row 2: label 'en' is not among the classes of the fit, 'de', 'el'"):
        classifier.partial_fit(texts, languages, classes=["el", "de"])
    classifier.partial_fit(texts[:1], ["el"], classes=["ru", "el", "de", "en"])  # one row of one class
    assert classifier.classes_.tolist() == ["de", "el", "en", "ru"]
    assert classifier.predict_proba(texts).shape == (48, 4)
    classifier.partial_fit(texts[1:2], ["en"], classes=["de", "en", "ru", "el"])
    with pytest.raises(ValueError, match="classes must be the same as in earlier calls"):
        classifier.partial_fit(texts, languages, classes=["de", "el"])
    with pytest.raises(ValueError, match="classes has only one class, 'de'"):
        make(XLMRobertaClassifier).partial_fit(texts, ["de"] * 48, classes=["de"])


@pytest.mark.parametrize("classes", ["ab", {"a"}, ["a", None], ["a", 1], [["a", "b"], ["a"]], 5, []], ids=str)
def test_classes_that_make_no_sense(make, texts, classes):
    later = make(XLMRobertaClassifier).partial_fit(texts[:2], ["a", "b"], classes=["a", "b"])
    with pytest.raises(ValueError, match=r"classes must be the same as in earlier calls, .*, got "):
        later.partial_fit(texts[:2], ["a", "b"], classes=classes)
    with pytest.raises(
        ValueError, match=r"^classes (must be an array or a list of labels, got|row|mixes|has no class)"
    ):
        make(XLMRobertaClassifier).partial_fit(texts[:2], ["a", "b"], classes=classes)


def test_several_labels_and_several_columns(make, texts):
    labels = np.array([[1, 0, 0], [0, 0, 1]])
    several = make(XLMRobertaClassifier, threshold=0.1).partial_fit(texts[:2], labels)
    assert several.target_type_ == "multilabel-indicator" and several.classes_.tolist() == [0, 1, 2]
    assert several.partial_fit(texts[2:4], labels[::-1], classes=[0, 1, 2]).predict(texts[:4]).shape == (4, 3)
    columns = make(XLMRobertaClassifier)
    y = np.array([["a", "x"], ["b", "x"]], dtype=object)
    with pytest.raises(ValueError, match="a list with those of each of the 2 columns"):
        columns.partial_fit(texts[:2], y)
    with pytest.raises(ValueError, match="a list with those of each of the 2 columns"):
        columns.partial_fit(texts[:2], y, classes=[["a", "b"]])
    classes = [["c", "b", "a"], ["x", "y"]]
    columns.partial_fit(texts[:2], y, classes=classes).partial_fit(texts[2:3], [["c", "y"]], classes=classes)
    assert [known.tolist() for known in columns.classes_] == [["a", "b", "c"], ["x", "y"]]
    with pytest.raises(ValueError, match="classes must be the same as in earlier calls"):
        columns.partial_fit(texts[:2], y, classes=2)
    digits = make(XLMRobertaClassifier).partial_fit(texts[:2], [[0, 1], [1, 1]], classes=[[0, 1, 2], [0, 1]])
    assert digits.target_type_ == "multiclass-multioutput" and [len(p[0]) for p in digits.predict_proba(texts)] == [
        3,
        2,
    ]


def test_tags_and_labels_of_spans(make):
    X, y = [["Anna", "lebt"], ["Rom"]], [["B-PER", "O"], ["O"]]
    tagger = make(XLMRobertaTokenClassifier)
    with pytest.raises(ValueError, match="classes must be passed on the first call to partial_fit: the tags"):
        tagger.partial_fit(X, y)
    tags = ["O", "B-PER", "B-LOC", "I-LOC"]
    tagger.partial_fit(X, y, classes=tags).partial_fit([["Rom"]], [["B-LOC"]], classes=tags)
    assert tagger.classes_.tolist() == ["B-LOC", "B-PER", "I-LOC", "O"]
    finder = make(XLMRobertaTokenClassifier)
    finder.partial_fit(["Anna lebt"], [[(0, 4, "PER")]], classes=["PER", "LOC"])
    finder.partial_fit(["in Rom"], [[(3, 6, "LOC")]], classes=["LOC", "PER"])
    assert finder.classes_.tolist() == ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"]
    with pytest.raises(ValueError, match="classes must be the same as in earlier calls"):
        finder.partial_fit(["in Rom"], [[]], classes=["LOC"])


def test_regressor_keeps_the_scale_of_the_first_call(make, texts):
    y = 1000 + 10 * np.arange(48.0) % 70
    regressor = make(XLMRobertaRegressor).partial_fit(texts[:24], y[:24])
    mean, scale = regressor._y_mean.copy(), regressor._y_scale.copy()
    before = regressor.predict(texts)
    assert 900 < before.mean() < 1100
    regressor.set_params(learning_rate=1e-12).partial_fit(texts[24:], y[24:] * 3)
    assert (regressor._y_mean, regressor._y_scale) == (mean, scale)
    np.testing.assert_allclose(regressor.predict(texts), before, rtol=1e-4)  # the same units all along
    assert regressor.loss_curve_[1] > regressor.loss_curve_[0]  # in variances of the first call
    with pytest.raises(ValueError, match="y has 2 targets, but the regressor was fitted on 1"):
        regressor.partial_fit(texts, np.ones((48, 2)))


# Warm start -----------------------------------------------------------------------------------------------------------


def test_warm_start_with_more_epochs(make, still_checkpoint, texts, languages):
    """Each fit goes on from the weights as they are; its losses and epochs are its own."""
    settings = {"batch_size": 48, "schedule": "constant", "warm_start": True}
    warm = make(XLMRobertaClassifier, still_checkpoint, **settings, max_epochs=2).fit(texts, languages)
    cold = make(XLMRobertaClassifier, still_checkpoint, **settings, max_epochs=3).fit(texts, languages)
    first = list(warm.loss_curve_)
    assert first == cold.loss_curve_[:2] and warm.n_iter_ == 2
    warm.set_params(max_epochs=3).fit(texts, languages)
    assert warm.n_iter_ == len(warm.loss_curve_) == 3
    # the first loss of the second fit is that after two epochs of the first
    assert warm.loss_curve_[0] == pytest.approx(cold.loss_curve_[2], rel=1e-5)
    assert warm.loss_curve_[-1] < first[-1] < first[0]


def test_warm_start_after_portions_and_portions_after_warm_start(make, portions, texts, languages):
    classifier = in_portions(make(XLMRobertaClassifier, warm_start=True), portions)
    before = weights_of(classifier)
    classifier.set_params(learning_rate=1e-9).fit(texts, languages)
    assert classifier.n_iter_ == 1 and not hasattr(classifier, "_moments")
    after = weights_of(classifier)
    assert all(torch.allclose(after[name], before[name], atol=1e-6) for name in before)
    assert classifier.partial_fit(texts, languages).n_iter_ == 2
