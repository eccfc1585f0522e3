"""Fits with frozen layers: the states after these layers are kept over epochs, folds, candidates and predictions."""

from threading import Thread

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skxlmr import (
    Cache,
    XLMClassifier,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaRegressor,
    cache_info,
    load,
    save,
)
from skxlmr.inference import FrozenPrefix, prefix
from skxlmr.nn.backbone import lowest_states
from tests import contract

MASKED = {"XLMRobertaMaskedLM", "XLMRobertaDialogueLM", "XLMMaskedLM"}
TEXTS = [*contract.TEXTS, *(text[::-1] for text in contract.TEXTS)]
Y = [0, 1] * 6


@pytest.fixture(autouse=True)
def _cache(with_cache):
    """All tests here are with the cache."""


@pytest.fixture
def computed(monkeypatch):
    """The ids of each row whose states were computed; not of those that the check of the process computes."""
    rows = []

    def counting(backbone, ids, layout, n_layers):
        rows.extend(tuple(row.tolist()) for row in ids.split(layout.lengths))
        return lowest_states(backbone, ids, layout, n_layers)

    monkeypatch.setattr("skxlmr.nn.backbone.lowest_states", counting)
    monkeypatch.setattr(FrozenPrefix, "_check", lambda *_: None)
    return rows


def weights(estimator):
    return {name: tensor.clone() for name, tensor in estimator.module_.state_dict().items()}


def assert_equal(one, other, X):
    """To the last bit: losses, weights and answers."""
    assert one.loss_curve_ == other.loss_curve_
    found, expected = weights(one), weights(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    for name in contract.methods_of(one):
        assert repr(list(getattr(one, name)(X))) == repr(list(getattr(other, name)(X))), name


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@contract.each_that_trains
def test_results_are_the_same_with_and_without(make_any, estimator, dtype, computed):
    X, y, _ = contract.inputs(estimator)
    settings = {"n_frozen_layers": 1, "max_epochs": 2, "batch_size": 4, "dtype": dtype}
    without = make_any(estimator, memory=None, **settings).fit(X, y)
    n_before = cache_info().hits
    with_memory = make_any(estimator, **settings).fit(X, y)
    again = make_any(estimator, **settings).fit(X, y)
    n_hits = cache_info().hits - n_before
    assert n_hits == 0 if estimator.__name__ in MASKED else n_hits > 0
    assert_equal(with_memory, without, X)
    assert_equal(again, without, X)


@pytest.mark.parametrize("body", ["bert", "distilbert", "minilm", "xlm with languages"])
@pytest.mark.parametrize("n_frozen_layers", [1, 2])
def test_other_families(bodies, tiny_xlm_languages, make, body, n_frozen_layers):
    estimator, options = XLMRobertaClassifier, {"checkpoint": bodies.get(body)}
    if body == "xlm with languages":
        estimator, options = XLMClassifier, {"checkpoint": tiny_xlm_languages, "lang": "en"}
    options |= {"n_frozen_layers": n_frozen_layers, "max_epochs": 2, "batch_size": 5}
    X = list(zip(TEXTS, TEXTS[::-1], strict=True))
    without = make(estimator, memory=None, **options).fit(X, Y)
    assert_equal(make(estimator, **options).fit(X, Y), without, X)
    assert cache_info().entries == len(X)
    if body == "xlm with languages":
        german = make(estimator, **options | {"lang": "de"}).fit(X, Y)
        assert german.loss_curve_ != without.loss_curve_ and cache_info().entries == 2 * len(X)


def search(make, memory, **options):
    grid = {"learning_rate": [1e-3, 3e-3], "weight_decay": [0.0, 0.1]}
    classifier = make(
        XLMRobertaClassifier,
        memory=memory,
        n_frozen_layers=1,
        max_epochs=3,
        batch_size=4,
        early_stopping=False,
        **options,
    )
    return GridSearchCV(classifier, grid, cv=3, scoring="neg_log_loss").fit(TEXTS, Y)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_search_computes_each_row_once(make, computed, dtype):
    found = search(make, "auto", dtype=dtype)
    assert len(computed) == len(set(computed)) == len(TEXTS)
    assert cache_info().entries == len(TEXTS)
    expected = search(make, None, dtype=dtype)
    n_fits, n_predictions = 4 * 3 * 8 * 3 + 12 * 3, 4 * 12
    assert len(computed) == len(TEXTS) + n_fits + n_predictions
    scores = [each.cv_results_["split0_test_score"] for each in (found, expected)]
    assert np.array_equal(*scores) and np.isfinite(scores[0]).all()
    assert np.array_equal(found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    assert_equal(found.best_estimator_, expected.best_estimator_, TEXTS)


def test_precisions_of_a_fit_and_of_its_predictions_are_kept_apart(make, computed):
    classifier = make(XLMRobertaClassifier, n_frozen_layers=1, dtype="bfloat16").fit(TEXTS, Y)
    classifier.set_params(dtype="float32").predict(TEXTS)
    assert len(computed) == 2 * len(TEXTS) == cache_info().entries


def test_without_frozen_layers_nothing_is_kept(make, computed):
    make(XLMRobertaClassifier, n_frozen_layers=0).fit(TEXTS, Y).predict(TEXTS)
    assert not computed and cache_info().entries == 0


def test_layers_that_were_trained_are_not_read_from_the_cache(make, computed):
    options = {"n_frozen_layers": 2, "warm_start": True}
    classifier = make(XLMRobertaClassifier, **options).fit(TEXTS, Y)
    before = classifier.predict_proba(TEXTS)
    classifier.set_params(n_frozen_layers=1, max_epochs=2).fit(TEXTS, Y)
    assert not np.array_equal(classifier.predict_proba(TEXTS), before)
    n_kept = cache_info().entries  # the lowest layer is still the checkpoint's
    assert n_kept == 2 * len(TEXTS)
    classifier.set_params(n_frozen_layers=2)  # the second is not
    after = classifier.predict_proba(TEXTS)
    assert cache_info().entries == n_kept
    classifier.set_params(memory=None)
    assert np.array_equal(after, classifier.predict_proba(TEXTS))
    assert not np.array_equal(after, before)


@pytest.mark.parametrize("steps", ["fit", "partial_fit"])
def test_embeddings_that_were_trained_are_not_read_from_the_cache(make, steps):
    results = []
    for memory in ("auto", None):
        classifier = make(XLMRobertaClassifier, n_frozen_layers=1, warm_start=True, memory=memory).fit(TEXTS, Y)
        getattr(classifier.set_params(n_frozen_layers=0), steps)(TEXTS, Y)
        getattr(classifier.set_params(n_frozen_layers=1), steps)(TEXTS, Y)
        results.append(classifier)
    assert_equal(*results, TEXTS)
    assert cache_info().entries == len(TEXTS)


def test_a_stale_key_would_be_seen(make, monkeypatch):
    """So that the tests would see it: a key that does not tell trained layers from the checkpoint's."""
    monkeypatch.setattr(prefix, "weights_identity", lambda *_, **__: "the checkpoint")
    classifier = make(XLMRobertaClassifier, n_frozen_layers=1, warm_start=True).fit(TEXTS, Y)
    classifier.set_params(n_frozen_layers=0).fit(TEXTS, Y)
    stale = classifier.set_params(n_frozen_layers=1).predict_proba(TEXTS)
    assert not np.array_equal(stale, classifier.set_params(memory=None).predict_proba(TEXTS))


@pytest.mark.parametrize(
    ("estimator", "options", "reason"),
    [
        (XLMRobertaClassifier, {"subword_sampling": 0.2}, "subword_sampling draws other tokens"),
        (XLMRobertaMaskedLM, {}, "the masks are drawn anew"),
    ],
)
def test_fits_whose_rows_change_keep_nothing_and_say_so_to_those_who_asked(make, estimator, options, reason):
    X, y, _ = contract.inputs(estimator)
    options |= {"n_frozen_layers": 1, "max_epochs": 2}
    make(estimator, **options).fit(X, y)
    assert cache_info().entries == 0
    with pytest.warns(UserWarning, match=f"memory has no effect on this fit.*{reason}.*Leave memory at") as record:
        make(estimator, memory=Cache(), **options).fit(X, y)
    assert len(record) == 1 and cache_info().entries == 0


def test_a_cache_in_bfloat16_rounds_found_and_computed_states_alike(make):
    options = {"n_frozen_layers": 1, "max_epochs": 2, "memory": Cache(dtype="bfloat16")}
    first = make(XLMRobertaClassifier, **options).fit(TEXTS, Y)
    half = cache_info(Cache(dtype="bfloat16")).n_bytes
    assert_equal(make(XLMRobertaClassifier, **options).fit(TEXTS, Y), first, TEXTS)
    exact = make(XLMRobertaClassifier, **options | {"memory": "auto"}).fit(TEXTS, Y)
    assert exact.loss_curve_ != first.loss_curve_
    np.testing.assert_allclose(exact.loss_curve_, first.loss_curve_, rtol=0.05)
    assert cache_info().n_bytes == 3 * half


def test_copies_and_folders_do_not_carry_states(make, tmp_path):
    classifier = make(XLMRobertaClassifier, n_frozen_layers=1).fit(TEXTS, Y)
    expected = classifier.predict_proba(TEXTS)
    assert not [name for name in vars(classifier.module_.backbone) if "prefix" in name]
    assert "memory" in clone(classifier).get_params() and clone(classifier).memory == "auto"
    loaded = load(save(classifier, tmp_path / "saved") or tmp_path / "saved")
    assert np.array_equal(loaded.predict_proba(TEXTS), expected)
    assert np.array_equal(loaded.set_params(memory=None).predict_proba(TEXTS), expected)


def test_threads_that_predict_at_the_same_time(make):
    frozen = make(XLMRobertaClassifier, n_frozen_layers=1).fit(TEXTS, Y)
    others = [
        make(XLMRobertaClassifier, n_frozen_layers=n, memory=m).fit(TEXTS, Y) for n, m in ((2, "auto"), (0, None))
    ]
    estimators = [frozen, *others]
    expected = [each.predict_proba(TEXTS) for each in estimators]
    wrong = []

    def predict(number):
        for _ in range(5):
            if not np.array_equal(estimators[number].predict_proba(TEXTS), expected[number]):
                wrong.append(number)

    threads = [Thread(target=predict, args=(i % 3,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_fit_that_is_resumed_may_have_another_memory(make, tmp_path):
    options = {"n_frozen_layers": 1, "schedule": "constant", "warmup_ratio": 0.0, "resume_dir": tmp_path}
    make(XLMRobertaRegressor, max_epochs=1, **options).fit(TEXTS, np.arange(12.0))
    resumed = make(XLMRobertaRegressor, max_epochs=2, memory=None, **options).fit(TEXTS, np.arange(12.0), resume=True)
    through = make(XLMRobertaRegressor, max_epochs=2, **options | {"resume_dir": None}).fit(TEXTS, np.arange(12.0))
    assert_equal(resumed, through, TEXTS)


def test_a_wrong_memory_is_refused_before_the_training(make):
    """Without frozen layers too, where it has no effect: every prediction would refuse it afterwards."""
    classifier = make(XLMRobertaClassifier, memory="")
    with pytest.raises(ValueError, match="memory must be 'auto', None"):
        classifier.fit(TEXTS, Y)
    assert not hasattr(classifier, "module_")
