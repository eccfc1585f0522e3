"""float16 on a GPU: near float64, fits near those in float32, the scale of the loss in the state of a fit.

The library chooses float16 by itself on GPUs before Ampere (T4, V100); asked for, every GPU computes it.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

import skxlmr
from skxlmr import (
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaDialogueLM,
    XLMRobertaRegressor,
    XLMRobertaVectorizer,
)
from skxlmr.nn import attention
from skxlmr.training import LossScale, fit_loop
from skxlmr.utils._devices.device import fast_half, resolve_precision
from tests import contract
from tests.estimators.core.test_callbacks import Recorder
from tests.nn.reference import TINY, make_pair, make_rows, packed
from tests.training.fits import SETTINGS, make_module, make_task, optimizer_for
from tests.training.test_step import READING, Calls, OnHost, Reads

from .test_estimators import GENTLE, TEXTS, Y, classifier
from .test_modules import LENGTHS, relative


def test_what_auto_chooses(gpu):
    capability = torch.cuda.get_device_capability(gpu)
    expected = torch.bfloat16 if capability >= (8, 0) else torch.float16 if capability >= (7, 0) else None
    assert fast_half(gpu) is expected
    assert (expected is torch.bfloat16) == torch.cuda.is_bf16_supported(including_emulation=False)
    assert resolve_precision("auto", gpu, training=True) is resolve_precision("auto", gpu, training=False) is expected


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", ["flash", "rectangle"])
def test_float16_is_near_float64(kernel, causal, gpu, monkeypatch):
    """Hidden states and gradients of packed rows, compared in norm."""
    if kernel == "flash" and torch.cuda.get_device_capability(gpu) < (8, 0):
        pytest.skip("flash attention needs a GPU of compute capability 8.0 or later")
    if kernel == "rectangle":
        monkeypatch.setattr(attention, "_flash_applies", lambda q, head_size: False)
    config = replace(TINY, hidden_size=128, is_decoder=causal)
    exact = make_pair("base", config, torch.float64)[0].to(gpu)
    mixed = make_pair("base", config)[0].to(gpu)
    ids, mask = (tensor.to(gpu) for tensor in make_rows(config, LENGTHS))
    outputs = {}
    for name, module in {"exact": exact, "mixed": mixed}.items():
        with torch.autocast("cuda", torch.float16, enabled=name == "mixed"):
            outputs[name] = module(*packed(ids, mask)).last_hidden_state.double()
        scale = 2.0**8 if name == "mixed" else 1.0
        (outputs[name] * torch.linspace(-1, 1, outputs[name].shape[1], device=gpu)).sum().mul(scale).backward()
    assert relative(outputs["mixed"], outputs["exact"]) < 5e-3
    gradients = [
        torch.cat([p.grad.double().flatten() / scale for p in module.parameters() if p.grad is not None])
        for module, scale in ((mixed, 2.0**8), (exact, 1.0))
    ]
    assert relative(*gradients) < 1e-2


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_step_waits_for_the_gpu_once(accumulate, gpu):
    """Whether or not it is skipped."""
    module, task, scale = make_module(torch.float32).to(gpu), OnHost(make_task(24)), LossScale()
    scale.scale = 2.0**26
    settings = replace(SETTINGS, batch_size=2, accumulate=accumulate, max_epochs=1, autocast=torch.float16)
    with Calls(READING) as calls, Reads() as reads:
        fit_loop(module, task, optimizer_for(module), settings, np.random.default_rng(0), loss_scale=scale)
    assert scale.n_skipped > 0
    assert calls.found == ["tolist"] * (12 // accumulate)
    assert reads.count == 0


def test_a_fit_stays_near_one_in_float32(still_checkpoint):
    half, exact = (classifier(still_checkpoint, dtype=dtype).fit(TEXTS, Y) for dtype in ("float16", "float32"))
    np.testing.assert_allclose(half.loss_curve_, exact.loss_curve_, rtol=2e-2)
    assert half.loss_curve_[-1] < half.loss_curve_[0]
    np.testing.assert_allclose(half.predict_proba(TEXTS), exact.predict_proba(TEXTS), atol=5e-2)


def test_dialogues_with_gradient_caching(make_any, monkeypatch):
    monkeypatch.setattr("skxlmr.training.loop.train_mode", lambda module: module.eval())
    monkeypatch.setattr("skxlmr.training._loss_scale.START", 2.0**10)
    X, y, _ = contract.inputs(XLMRobertaDialogueLM)
    params = {"device": "cuda", "batch_size": 2, "accumulate": 2, "max_epochs": 2}
    half, exact = (make_any(XLMRobertaDialogueLM, dtype=t, **params).fit(X, y) for t in ("float16", "float32"))
    np.testing.assert_allclose(half.loss_curve_, exact.loss_curve_, rtol=2e-2)


def test_features_are_near_those_in_float32(tiny_checkpoint):
    half, exact = (
        XLMRobertaVectorizer(tiny_checkpoint, dtype=dtype, device="cuda").fit_transform(TEXTS)
        for dtype in ("float16", "float32")
    )
    assert half.dtype == np.float32
    assert 0 < np.linalg.norm(half - exact) / np.linalg.norm(exact) < 5e-3


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_predictions_keep_their_digits(tiny_checkpoint, dtype):
    """The mean of y is in the last layer: beside 1e5 bfloat16 has steps of 512, and float16 ends before."""
    lengths = np.array(list(map(len, TEXTS)), float)
    made = XLMRobertaRegressor(tiny_checkpoint, **GENTLE, device="cuda", dtype="float32").fit(TEXTS, 1e5 + lengths)
    exact = made.predict(TEXTS)
    assert 0 < np.abs(made.set_params(dtype=dtype).predict(TEXTS) - exact).max() < 0.1 * lengths.std()


def test_overflow_is_explained(tiny_checkpoint):
    made = classifier(tiny_checkpoint).fit(TEXTS, Y)
    lm = XLMRobertaCausalLM(tiny_checkpoint, **contract.FAST, device="cuda").fit(contract.TEXTS)
    with torch.no_grad():
        for each in (made, lm):
            each.module_.backbone.encoder.layer[0].intermediate.dense.weight.mul_(1e6)
            each.set_params(dtype="float16", device="cuda")
    with pytest.raises(FloatingPointError, match="an output is not finite: float16 ends at 65504"):
        made.predict_proba(TEXTS)
    for params in ({}, {"do_sample": True}, {"num_beams": 2}):
        with pytest.raises(FloatingPointError, match="a score is not finite"):
            lm.generate(contract.TEXTS, max_new_tokens=2, **params)


def test_an_interrupted_fit_continues_with_its_scale(tiny_checkpoint, tmp_path):
    expected = classifier(tiny_checkpoint, dtype="float16", max_epochs=4).fit(TEXTS, Y)
    params = {"dtype": "float16", "max_epochs": 4, "resume_dir": tmp_path / "state"}
    epochs = []

    def interrupt(hook, context):
        epochs.extend([1] * (hook == "end" and context.task_name == "epoch"))
        if len(epochs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        classifier(tiny_checkpoint, **params).set_callbacks(Recorder(fail=interrupt)).fit(TEXTS, Y)
    again = classifier(tiny_checkpoint, **params).fit(TEXTS, Y, resume=True)
    np.testing.assert_allclose(again.loss_curve_, expected.loss_curve_, rtol=1e-2)


def test_a_model_of_the_gpu_is_read_on_a_cpu(tiny_checkpoint, tmp_path):
    made = XLMRobertaVectorizer(tiny_checkpoint, dtype="float16", device="cuda").fit(TEXTS)
    expected = made.transform(TEXTS)
    skxlmr.save(made, tmp_path / "model")
    loaded = skxlmr.load(tmp_path / "model", device="cpu")
    with pytest.raises(ValueError, match="dtype='float16' is for GPUs"):
        loaded.transform(TEXTS)
    np.testing.assert_allclose(loaded.set_params(dtype="float32").transform(TEXTS), expected, atol=2e-2)
    moved = made.set_params(device="cpu", dtype="float32")
    np.testing.assert_allclose(moved.transform(TEXTS), expected, atol=2e-2)


def test_training_when_float16_is_asked_for_keeps_float32_weights(tiny_checkpoint):
    made = XLMRobertaClassifier(tiny_checkpoint, dtype="float16", device="cuda", max_epochs=1).fit(TEXTS, Y)
    assert {parameter.dtype for parameter in made.module_.parameters()} == {torch.float32}
