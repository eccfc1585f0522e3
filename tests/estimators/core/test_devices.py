"""Where the module lies, and what does not depend on PyTorch's default device."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

import skxlmr
from skxlmr.utils._devices.device import is_on
from tests.contract import TEXTS, answers, assert_same, each, inputs
from tests.defaults import other_defaults
from tests.estimators.conftest import weights_of


@each
def test_the_default_device_does_not_matter(make_any, fitted, estimator):
    """On ``meta`` a tensor that is made without a device has no values."""
    X, y, _ = inputs(estimator)
    expected = fitted(estimator)
    with torch.device("meta"):
        found = make_any(estimator, device="cpu").fit(X, y)
        given = answers(found, X)
    assert getattr(found, "loss_curve_", None) == getattr(expected, "loss_curve_", None)
    assert_same(given, answers(expected, X))
    for name, tensor in weights_of(found).items():
        assert torch.equal(tensor, weights_of(expected)[name]), name


@other_defaults
@pytest.mark.parametrize("options", [{}, {"lora_rank": 2}], ids=str)
def test_new_layers_are_drawn_whatever_the_defaults(make, other, options):
    """A layer to a teacher's width, and adapters; from the generators of the fit alone."""
    teacher = np.random.default_rng(0).normal(size=(len(TEXTS), 7)).astype(np.float32)

    def features():
        return make(skxlmr.XLMRobertaEmbedder, device="cpu", **options).fit(TEXTS, teacher).transform(TEXTS)

    expected, before = features(), torch.get_rng_state()
    with other():
        np.testing.assert_array_equal(features(), expected)
    assert torch.equal(torch.get_rng_state(), before)


def on(device):
    """A module that says it lies on a device."""
    module = torch.nn.Linear(1, 1)
    module.parameters = lambda: iter([SimpleNamespace(device=torch.device(device))])
    return module


@pytest.mark.parametrize(
    ("here", "wanted", "is_there"),
    [
        ("cpu", "cpu", True),
        ("cpu", "cpu:0", True),  # whose tensors have no number
        ("cuda:0", "cuda:1", False),
        ("cuda:1", "cuda:1", True),
        ("cuda:1", "cuda", True),
        ("cuda:0", "cpu", False),
        ("cpu", "mps", False),
    ],
)
def test_a_device_has_a_number(here, wanted, is_there):
    """``set_params(device="cuda:1")`` after a fit on ``cuda:0`` moves the module."""
    assert is_on(on(here), torch.device(wanted)) is is_there


def test_a_fitted_module_moves_to_the_device_that_is_set(fitted, monkeypatch):
    classifier = fitted(skxlmr.XLMRobertaClassifier)
    monkeypatch.setattr("skxlmr.estimators._core.estimator.resolve_device", torch.device)  # which refuses "meta"
    classifier.set_params(device="meta")
    classifier._engine()
    assert all(parameter.is_meta for parameter in classifier.module_.parameters())


def test_features_of_a_loaded_vectorizer_under_another_default_device(tiny_checkpoint, tmp_path):
    texts = ["ein Haus", "a house"]
    vectorizer = skxlmr.XLMRobertaVectorizer(tiny_checkpoint, device="cpu").fit(texts)
    expected = vectorizer.transform(texts)
    with torch.device("meta"):
        skxlmr.save(vectorizer, tmp_path / "saved")
        np.testing.assert_array_equal(skxlmr.load(tmp_path / "saved").transform(texts), expected)
