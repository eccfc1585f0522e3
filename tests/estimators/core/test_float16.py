"""float16: refused on a CPU, before anything is opened; what it does on a GPU, emulated on a CPU."""

import numpy as np
import pytest
import torch

import skxlmr
from skxlmr import (
    FitQualityWarning,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaDialogueLM,
    XLMRobertaMaskedLM,
    XLMRobertaVectorizer,
)
from skxlmr.estimators._core import estimator as core
from skxlmr.estimators._sequence import vectorizer as vectorizer_module
from skxlmr.training import _loss_scale
from skxlmr.utils._devices import device as devices
from tests import contract
from tests.estimators.core.refusal import check_refused

REFUSED = r"dtype='float16' is for GPUs: .* Set dtype='auto', or 'bfloat16' if"


@contract.each
def test_refused_on_a_cpu_before_anything_is_opened(make_any, estimator, monkeypatch):
    check_refused(make_any, estimator, monkeypatch, "float16", REFUSED)


@contract.each
def test_refused_where_it_is_set_after_fit(fitted, estimator):
    made, (X, _, _) = fitted(estimator), contract.inputs(estimator)
    before = contract.answers(made, X)
    made.set_params(dtype="float16", device="cpu")
    with pytest.raises(ValueError, match=REFUSED):
        contract.infer(made, X)
    contract.assert_same(contract.answers(made.set_params(dtype="float32"), X), before)


def test_refused_without_fit():
    with pytest.raises(ValueError, match=REFUSED):
        XLMRobertaVectorizer("someone/model", dtype="float16", device="cpu").transform(["a text"])


def test_a_model_of_a_gpu_is_read_and_says_so_when_it_is_used(make, texts, tmp_path, monkeypatch):
    """Its weights become float32 on a CPU."""
    emulate_inference(monkeypatch)
    made = make(XLMRobertaVectorizer, dtype="float16").fit(texts)
    expected = made.transform(texts)
    assert next(made.module_.parameters()).dtype == torch.float16
    skxlmr.save(made, tmp_path / "saved")
    monkeypatch.undo()
    loaded = skxlmr.load(tmp_path / "saved")
    with pytest.raises(ValueError, match=REFUSED):
        loaded.transform(texts)
    assert next(loaded.module_.parameters()).dtype == torch.float32
    np.testing.assert_allclose(loaded.set_params(dtype="auto").transform(texts), expected, atol=2e-2)


def test_weights_that_move_from_a_gpu_to_a_cpu_become_float32(make, texts):
    made = make(XLMRobertaVectorizer, memory=None, dtype="auto", device="cpu").fit(texts)
    expected = made.transform(texts)
    made.module_.half()
    found = made.transform(texts)
    assert {parameter.dtype for parameter in made.module_.parameters()} == {torch.float32}
    assert 0 < np.abs(found - expected).max() < 2e-2  # of the rounded weights, which others have nowhere else


# Emulated -------------------------------------------------------------------------------------------------------------


def emulate_training(monkeypatch, start=2.0**10):
    """Let ``dtype='auto'`` train in float16, without dropout; batches as small as here overflow at the usual scale."""
    monkeypatch.setattr(devices, "fast_half", lambda device: torch.float16)
    monkeypatch.setattr(_loss_scale, "START", start)
    monkeypatch.setattr("skxlmr.training.loop.train_mode", lambda module: module.eval())


def emulate_inference(monkeypatch):
    """Let ``dtype='float16'`` predict in float16."""

    def resolve(dtype, device, training):
        return torch.float16 if dtype == "float16" else None

    monkeypatch.setattr(core, "resolve_precision", resolve)
    monkeypatch.setattr(vectorizer_module, "resolve_precision", resolve)
    monkeypatch.setattr(XLMRobertaVectorizer, "_weight_dtype", lambda self: resolve(self.dtype, None, False))


@pytest.mark.parametrize("estimator", [XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaDialogueLM])
def test_training_is_near_float32(make_any, estimator, monkeypatch):
    X, y, _ = contract.inputs(estimator)
    params = {"batch_size": 2, "accumulate": 2, "max_epochs": 2}  # with gradient caching for dialogues
    emulate_training(monkeypatch)
    half, exact = (make_any(estimator, dtype=dtype, **params).fit(X, y) for dtype in ("auto", "float32"))
    assert half.loss_curve_ != exact.loss_curve_
    np.testing.assert_allclose(half.loss_curve_, exact.loss_curve_, rtol=2e-2)
    assert {parameter.dtype for parameter in half.module_.parameters()} == {torch.float32}


def test_the_scale_stays_from_one_partial_fit_to_the_next(make, texts, languages, monkeypatch):
    emulate_training(monkeypatch)
    made = make(XLMRobertaClassifier, dtype="auto", batch_size=16)
    for calls in (1, 2):
        made.partial_fit(texts, languages, classes=sorted(set(languages)))
        assert made._adam_state.loss_scale.n_good == 3 * calls
    monkeypatch.undo()
    made.partial_fit(texts, languages)  # in another precision


def test_a_fit_that_skipped_many_steps_says_so(make, texts, languages, monkeypatch):
    emulate_training(monkeypatch, start=2.0**40)
    with pytest.warns(FitQualityWarning, match=r"3 of 3 steps were skipped and changed no weight, .* overflow float16"):
        made = make(XLMRobertaClassifier, dtype="auto").fit(texts, languages)
    with pytest.warns(FitQualityWarning, match="3 of 3 steps were skipped"):
        made.partial_fit(texts, languages)


@pytest.mark.parametrize("estimator", [XLMRobertaClassifier, XLMRobertaVectorizer, XLMRobertaMaskedLM])
def test_predictions_are_near_float32(fitted, make_any, estimator, monkeypatch):
    X, y, _ = contract.inputs(estimator)
    method = "predict_proba" if estimator is XLMRobertaClassifier else "transform"
    made = fitted(estimator)
    expected = getattr(made, method)(X)
    emulate_inference(monkeypatch)
    made = make_any(estimator, dtype="float16").fit(X, y) if estimator is XLMRobertaVectorizer else made
    found = getattr(made.set_params(dtype="float16"), method)(X)
    assert found.dtype == expected.dtype and (found != expected).any()
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("factor", [1e5, 1e8])  # outputs, or weights too, are beyond the range
@pytest.mark.parametrize("estimator", [XLMRobertaClassifier, XLMRobertaVectorizer, XLMRobertaCausalLM])
def test_overflow_is_explained(fitted, estimator, factor, monkeypatch):
    X, _, _ = contract.inputs(estimator)
    emulate_inference(monkeypatch)
    made = fitted(estimator)
    with torch.no_grad():
        made.module_.backbone.encoder.layer[0].intermediate.dense.weight.mul_(factor)
    calls = [lambda: contract.infer(made, X)]
    if estimator is XLMRobertaCausalLM:
        calls += [lambda k=k: made.generate(X, max_new_tokens=2, num_beams=k) for k in (1, 2)]
        calls += [lambda: made.generate(X, max_new_tokens=2, do_sample=True)]
    for call in calls:
        made.set_params(dtype="float32")
        call()
        made.set_params(dtype="float16")
        if estimator is XLMRobertaVectorizer:
            made.module_.half()
        with pytest.raises(
            FloatingPointError, match=r"float16 .*not finite: float16 ends|(an output|a score) is not finite"
        ):
            call()
