"""On a GPU the estimators learn and predict as on a CPU, survive full memory, and continue after an interrupt."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch

import skxlmr
from skxlmr import OutOfMemoryWarning, XLMRobertaCausalLM, XLMRobertaClassifier, XLMRobertaVectorizer
from tests import contract
from tests.estimators.core.test_callbacks import Recorder
from tests.tiny import sentences

TEXTS = sentences(256)
Y = np.arange(256) % 4  # the language of the sentence
GENTLE = {"max_epochs": 2, "learning_rate": 1e-3, "warmup_ratio": 0.1, "batch_size": 16, "random_state": 0}


def classifier(checkpoint, **params):
    return XLMRobertaClassifier(checkpoint, **GENTLE | {"device": "cuda", "dtype": "float32"} | params)


@contract.each
def test_every_estimator_predicts_as_on_a_cpu(make_any, estimator):
    X, y, _ = contract.inputs(estimator)
    made = make_any(estimator, device="cuda").fit(X, y)
    found = contract.answers(made, X)
    module = getattr(made, "module_", None)
    assert module is None or next(module.parameters()).device.type == "cuda"
    expected = contract.answers(made.set_params(device="cpu"), X)
    contract.assert_same(found, expected, estimator.__name__)


@contract.each_that_trains
def test_every_estimator_trains_in_mixed_precision(make_any, estimator, monkeypatch):
    """``dtype='auto'``. Dropout differs between precisions; without it, the losses are near those of float32."""
    monkeypatch.setattr("skxlmr.training._loss_scale.START", 2.0**10)  # batches of a few rows overflow at the usual one
    monkeypatch.setattr("skxlmr.training.loop.train_mode", lambda module: module.eval())
    X, y, _ = contract.inputs(estimator)
    auto, exact = (make_any(estimator, device="cuda", dtype=dtype).fit(X, y) for dtype in ("auto", "float32"))
    assert auto.loss_curve_ != exact.loss_curve_
    np.testing.assert_allclose(auto.loss_curve_, exact.loss_curve_, rtol=2e-2)


def test_a_fit_in_mixed_precision_stays_near_one_in_float32(still_checkpoint):
    auto, exact = (classifier(still_checkpoint, dtype=dtype).fit(TEXTS, Y) for dtype in ("auto", "float32"))
    np.testing.assert_allclose(auto.loss_curve_, exact.loss_curve_, rtol=2e-2)


def test_a_fit_follows_the_same_fit_on_a_cpu(still_checkpoint):
    """Loss of each epoch and probabilities, without dropout, which each device draws differently."""
    models = [classifier(still_checkpoint, device=device).fit(TEXTS, Y) for device in ("cuda", "cpu")]
    np.testing.assert_allclose(models[0].loss_curve_, models[1].loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(*(model.predict_proba(TEXTS) for model in models), atol=1e-3)
    assert models[0].loss_curve_[-1] < models[0].loss_curve_[0]


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_the_same_seed_gives_the_same_fit(tiny_checkpoint, dtype):
    """Up to the order in which a GPU adds."""
    curves = [classifier(tiny_checkpoint, dtype=dtype).fit(TEXTS, Y).loss_curve_ for _ in range(2)]
    np.testing.assert_allclose(*curves, rtol=1e-3)
    assert classifier(tiny_checkpoint, dtype=dtype, random_state=1).fit(TEXTS, Y).loss_curve_ != curves[0]


def test_features_in_bfloat16_are_near_those_in_float32(tiny_checkpoint):
    auto, exact = (
        XLMRobertaVectorizer(tiny_checkpoint, dtype=dtype).fit_transform(TEXTS) for dtype in ("auto", "float32")
    )
    assert auto.dtype == np.float32
    assert 0 < np.linalg.norm(auto - exact) / np.linalg.norm(exact) < 2e-2


def test_generated_texts(tiny_checkpoint):
    lm = XLMRobertaCausalLM(tiny_checkpoint, **contract.FAST, device="cuda").fit(contract.TEXTS)
    for params in ({}, {"num_beams": 3}):
        found = lm.set_params(device="cuda").generate(contract.TEXTS, max_new_tokens=8, **params)
        assert found == lm.set_params(device="cpu").generate(contract.TEXTS, max_new_tokens=8, **params)


@contextmanager
def memory_left(mebibytes):
    """Limit the GPU memory of the process to what it holds plus ``mebibytes``."""
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_reserved() + mebibytes * 2**20) / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()


def test_predictions_when_the_memory_is_full(tiny_checkpoint):
    vectorizer = XLMRobertaVectorizer(tiny_checkpoint, dtype="float32", batch_size=2**20).fit(TEXTS)
    many = TEXTS * 400  # more than a gigabyte of hidden states
    expected = vectorizer.transform(many)
    with memory_left(200), pytest.warns(OutOfMemoryWarning, match="out of memory on cuda: .* set batch_size="):
        found = vectorizer.transform(many)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_training_when_the_memory_is_full(still_checkpoint):
    params = {"batch_size": 5120, "max_epochs": 1, "warmup_ratio": 0.0}
    many, y = TEXTS * 40, np.tile(Y, 40)
    expected = classifier(still_checkpoint, **params).fit(many, y)
    again = classifier(still_checkpoint, **params)
    with memory_left(96), pytest.warns(OutOfMemoryWarning, match="batches of 5120 rows are computed in parts of"):
        again.fit(many, y)
    np.testing.assert_allclose(again.loss_curve_, expected.loss_curve_, rtol=1e-4)
    np.testing.assert_allclose(again.predict_proba(TEXTS), expected.predict_proba(TEXTS), atol=1e-3)


def test_an_interrupted_fit_continues(tiny_checkpoint, tmp_path):
    """With dropout: the state of the GPU's generator is kept too."""
    expected = classifier(tiny_checkpoint, max_epochs=4).fit(TEXTS, Y)
    made = classifier(tiny_checkpoint, max_epochs=4, resume_dir=tmp_path / "state")
    epochs = []

    def interrupt(hook, context):
        epochs.extend([1] * (hook == "end" and context.task_name == "epoch"))
        if len(epochs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made.set_callbacks(Recorder(fail=interrupt)).fit(TEXTS, Y)
    again = classifier(tiny_checkpoint, max_epochs=4, resume_dir=tmp_path / "state").fit(TEXTS, Y, resume=True)
    np.testing.assert_allclose(again.loss_curve_, expected.loss_curve_, rtol=1e-3)


def test_a_saved_model_is_read_on_a_cpu(tiny_checkpoint, tmp_path):
    made = classifier(tiny_checkpoint).fit(TEXTS, Y)
    skxlmr.save(made, tmp_path / "model")
    again = skxlmr.load(tmp_path / "model").set_params(device="cpu")
    np.testing.assert_allclose(again.predict_proba(TEXTS), made.predict_proba(TEXTS), atol=1e-5)
