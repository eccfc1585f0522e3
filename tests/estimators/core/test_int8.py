"""``dtype='int8'``: predictions near float32, fits as with ``'auto'``, and a refusal where the hardware is not fast at it."""

import copy
import pickle

import numpy as np
import pytest
import torch

import skxlmr
from skxlmr import Cache, XLMRobertaClassifier, XLMRobertaVectorizer, clear_cache
from skxlmr.nn.kernels import int8
from tests import contract
from tests.estimators.core.refusal import check_refused
from tests.processors import INT8

REFUSED = "dtype='int8' needs a CPU with AVX512-VNNI or AMX, and PyTorch with oneDNN: .* Set dtype='auto'"


@pytest.fixture
def layers_run(monkeypatch):
    """Numbers of the dense layers that each call computed in int8."""
    found, dense = [], int8.dense
    monkeypatch.setattr(int8, "dense", lambda layers, *inputs: found.append(len(layers)) or dense(layers, *inputs))
    return found


@pytest.fixture
def slow_int8(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)


def near(found, expected):
    """Probabilities, scores and features up to the rounding; what is chosen by them is not compared."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05 * np.abs(expected).max(initial=1))


@INT8
@contract.each
def test_predictions_are_near_float32(fitted, estimator, layers_run):
    made, (X, _, _) = fitted(estimator), contract.inputs(estimator)
    expected = contract.answers(made, X)
    assert not layers_run
    found = contract.answers(made.set_params(dtype="int8", device="cpu"), X)
    n_layers = made.config_.num_hidden_layers
    assert layers_run.count(3) % n_layers == 0 and layers_run[:4] == [3, 1, 1, 1]
    for name in expected:
        if name in ("predict_proba", "decision_function", "transform", "no_answer_score"):
            for one, other in zip(found[name], expected[name], strict=True):  # a row each, of its own length for tokens
                near(one, other)
    contract.assert_same(contract.answers(made.set_params(dtype="float32"), X), expected)


@INT8
@contract.each_that_trains
def test_a_fit_is_that_of_auto(make_any, estimator, layers_run):
    X, y, _ = contract.inputs(estimator)
    by_itself, made = (make_any(estimator, dtype=dtype, device="cpu").fit(X, y) for dtype in ("auto", "int8"))
    assert not layers_run
    weights = made.module_.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in by_itself.module_.state_dict().items())
    contract.infer(made, X)
    assert layers_run


@INT8
def test_weights_stay_float32(make, texts):
    made = make(XLMRobertaVectorizer, dtype="int8").fit(texts)
    expected = make(XLMRobertaVectorizer).fit(texts).transform(texts)
    found = made.transform(texts)
    assert next(made.module_.parameters()).dtype == torch.float32
    assert 0 < np.abs(found - expected).max() < 0.05 * np.abs(expected).max()
    without_fit = make(XLMRobertaVectorizer, dtype="int8")
    assert np.array_equal(without_fit.transform(texts), found)


@INT8
def test_neither_batch_size_nor_neighbours_matter_but_for_rounding(make, texts):
    """Where float32 rounds another way a number may fall to the next step; most often none does."""
    expected = make(XLMRobertaVectorizer, dtype="int8", memory=None).fit(texts).transform(texts)
    for batch_size in (1, 3):
        found = make(XLMRobertaVectorizer, dtype="int8", memory=None, batch_size=batch_size).fit(texts).transform(texts)
        np.testing.assert_allclose(found, expected, atol=2e-3 * np.abs(expected).max())
    alone = make(XLMRobertaVectorizer, dtype="int8", memory=None).fit(texts).transform(texts[:1])
    np.testing.assert_allclose(alone, expected[:1], atol=2e-3 * np.abs(expected).max())


@INT8
def test_the_cache_tells_it_from_float32(make, texts):
    exact = make(XLMRobertaVectorizer).fit(texts)
    expected = exact.transform(texts)
    try:
        cache = Cache(max_bytes=2**20)
        exact.set_params(memory=cache).transform(texts)
        made = make(XLMRobertaVectorizer, dtype="int8", memory=cache).fit(texts)
        found = made.transform(texts)
        assert not np.array_equal(found, expected)
        assert np.array_equal(made.transform(texts), found)
        assert np.array_equal(exact.transform(texts), expected)
    finally:
        clear_cache()


@INT8
def test_frozen_layers_predict_in_int8_too(make, texts, languages, layers_run):
    made = make(XLMRobertaClassifier, dtype="int8", n_frozen_layers=1).fit(texts, languages)
    made.predict_proba(texts)
    assert layers_run.count(3) == 2


@INT8
def test_a_second_fit_predicts_with_its_own_weights(make, texts, languages):
    made = make(XLMRobertaClassifier, dtype="int8").fit(texts, languages)
    made.predict_proba(texts)
    made.set_params(random_state=1).fit(texts, languages)
    other = make(XLMRobertaClassifier, dtype="int8", random_state=1).fit(texts, languages)
    assert np.array_equal(made.predict_proba(texts), other.predict_proba(texts))
    made.partial_fit(texts, languages)
    other = copy.deepcopy(made)
    assert np.array_equal(made.predict_proba(texts), other.predict_proba(texts))


@INT8
def test_pickles_folders_and_copies_hold_nothing_of_it(make, texts, languages, tmp_path):
    made = make(XLMRobertaClassifier, dtype="int8").fit(texts, languages)
    size = len(pickle.dumps(made))
    expected = made.predict_proba(texts)
    data = pickle.dumps(made)
    assert len(data) == size
    skxlmr.save(made, tmp_path / "saved")
    names = skxlmr.load(tmp_path / "saved").module_.state_dict().keys()
    assert names == made.module_.state_dict().keys()
    for other in (pickle.loads(data), skxlmr.load(tmp_path / "saved"), copy.deepcopy(made)):
        assert np.array_equal(other.predict_proba(texts), expected)


# Refused --------------------------------------------------------------------------------------------------------------


@contract.each
def test_refused_before_anything_is_opened(make_any, estimator, monkeypatch, slow_int8):
    check_refused(make_any, estimator, monkeypatch, "int8", REFUSED)


def test_refused_where_it_is_set_after_fit_and_without_fit(make, texts, slow_int8):
    made = make(XLMRobertaVectorizer).fit(texts)
    expected = made.transform(texts)
    with pytest.raises(ValueError, match=REFUSED):
        made.set_params(dtype="int8", device="cpu").transform(texts)
    assert np.array_equal(made.set_params(dtype="auto").transform(texts), expected)
    with pytest.raises(ValueError, match=REFUSED):
        XLMRobertaVectorizer("someone/model", dtype="int8", device="cpu").transform(texts)


@INT8
def test_a_saved_one_is_read_elsewhere_and_says_so_when_it_is_used(make, texts, tmp_path, request):
    skxlmr.save(make(XLMRobertaVectorizer, dtype="int8").fit(texts), tmp_path / "saved")
    request.getfixturevalue("slow_int8")
    loaded = skxlmr.load(tmp_path / "saved")
    with pytest.raises(ValueError, match=REFUSED):
        loaded.transform(texts)
    loaded.set_params(dtype="auto").transform(texts)
