"""Whoever changes a module by hand gets what it then computes, and no other estimator does."""

import copy
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

from skxlmr import Cache, XLMRobertaClassifier, XLMRobertaVectorizer, cache_info, clear_cache
from skxlmr.inference._rounding import rounding
from tests.tiny import write_checkpoint

TEXTS = ["Good morning.", "Guten Morgen."]


@pytest.fixture(autouse=True)
def _cache(with_cache):
    """All tests here are with the cache."""


def words(module):
    return module.backbone.get_input_embeddings().weight


def layer(module):
    return module.backbone.encoder.layer[0]


def scaled_without_counting(module):
    words(module).data.mul_(1.5)


def scaled_through_numpy(module):
    words(module).detach().numpy()[:] *= 1.5


def transposed(module):
    weight = layer(module).attention.output.dense.weight
    weight.data = weight.data.t()


def hook_of_a_layer(module):
    layer(module).output.dense.register_forward_hook(lambda _, __, output: output * 2)


def hook_before_a_layer(module):
    layer(module).output.dense.register_forward_pre_hook(lambda _, inputs: (inputs[0] * 2,))


def another_forward(module):
    dense = layer(module).output.dense
    dense.forward = lambda x: type(dense).forward(dense, x) * 2


def another_epsilon(module):
    layer(module).output.LayerNorm.eps = 0.5


def another_activation(module):
    layer(module).intermediate.activation = "relu"


def a_layer_of_the_caller(module):
    class Doubled(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) * 2

    layer(module).output.dense.__class__ = Doubled


def swapped(module):
    layers = module.backbone.encoder.layer
    layers[0], layers[1] = layers[1], layers[0]


CHANGES = [
    *(scaled_without_counting, scaled_through_numpy, transposed, hook_of_a_layer, hook_before_a_layer),
    *(another_forward, another_epsilon, another_activation, a_layer_of_the_caller, swapped),
]


def vectorizer(checkpoint, **params):
    return XLMRobertaVectorizer(checkpoint, device="cpu", **params).fit(TEXTS)


@pytest.mark.parametrize("copied", [lambda each: each, copy.deepcopy], ids=["itself", "copy"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_change_is_computed_and_stays_with_its_estimator(tiny_checkpoint, change, copied):
    plain = vectorizer(tiny_checkpoint).transform(TEXTS)
    one = vectorizer(tiny_checkpoint)
    change(one.module_)
    found = copied(one).transform(TEXTS)
    assert not np.allclose(found, plain, atol=1e-4)
    assert np.array_equal(found, one.set_params(memory=None).transform(TEXTS))
    clear_cache()
    one.set_params(memory="auto").transform(TEXTS)
    np.testing.assert_allclose(vectorizer(tiny_checkpoint).transform(TEXTS), plain, atol=1e-6)


def test_what_dropout_made_is_not_kept():
    one = vectorizer("skxlmr-mini")
    one.module_.train()
    one.transform(TEXTS)
    assert cache_info().entries == 0
    one.module_.eval()
    assert np.array_equal(one.transform(TEXTS), vectorizer("skxlmr-mini", memory=None).transform(TEXTS))


@pytest.mark.parametrize("memory", [Cache(), Cache(dtype="bfloat16")], ids=["float32", "bfloat16"])
def test_copies_of_a_trained_estimator_know_its_frozen_layers(tiny_checkpoint, memory):
    X, y = ["eins", "zwei", "drei", "vier"], list("abab")
    one = XLMRobertaClassifier(tiny_checkpoint, n_frozen_layers=1, max_epochs=1, memory=memory, device="cpu").fit(X, y)
    expected, n_hits = one.predict_proba(X), cache_info(memory).hits
    assert np.array_equal(copy.deepcopy(one).predict_proba(X), expected)
    assert cache_info(memory).hits == n_hits + len(X)


@pytest.mark.parametrize("in_a_folder", [False, True])
def test_files_that_are_written_over_with_their_size_and_time(tiny_tokenizer, tmp_path, in_a_folder):
    one, other = (write_checkpoint(tmp_path / name, tiny_tokenizer, seed=seed) for seed, name in enumerate("ab"))
    for file in one.iterdir():
        os.utime(file, (1e9, 1e9))
    memory = tmp_path / "kept" if in_a_folder else "auto"
    first = vectorizer(one, memory=memory)
    before = first.transform(TEXTS)
    for file in one.iterdir():
        file.write_bytes((other / file.name).read_bytes())
        os.utime(file, (1e9, 1e9))
    after = vectorizer(one, memory=memory).transform(TEXTS)
    assert not np.allclose(after, before, atol=1e-4)
    np.testing.assert_allclose(after, vectorizer(other, memory=None).transform(TEXTS), atol=1e-6)


def test_a_hard_link_does_not_change_a_checkpoint(tiny_tokenizer, tmp_path):
    one = vectorizer(write_checkpoint(tmp_path / "one", tiny_tokenizer))
    shutil.copytree(tmp_path / "one", tmp_path / "backup", copy_function=os.link)
    assert one.module_.origin.is_unchanged() and not one.module_.origin.is_untouched()


@pytest.mark.parametrize("memory", ["auto", None])
def test_a_hook_of_the_encoder_sees_its_output_once_where_layers_are_frozen(tiny_checkpoint, memory):
    X, y = ["eins", "zwei", "drei", "vier"], list("abab")

    def doubled(_, __, output):
        return replace(output, last_hidden_state=output.last_hidden_state * 2)

    def fitted():
        settings = {"n_frozen_layers": 1, "max_epochs": 1, "random_state": 0, "memory": memory, "device": "cpu"}
        return XLMRobertaClassifier(tiny_checkpoint, **settings).fit(X, y)

    one = fitted()
    plain = one.predict_proba(X)
    clear_cache()
    one.module_.backbone.register_forward_hook(doubled)
    found = one.predict_proba(X)
    assert not np.allclose(found, plain, atol=1e-4)
    np.testing.assert_allclose(one.set_params(n_frozen_layers=0).predict_proba(X), found, atol=1e-6)
    assert np.array_equal(fitted().predict_proba(X), plain)


@pytest.mark.parametrize("setting", ["matmul precision", "precision of one backend", "oneDNN"])
def test_settings_of_the_process_by_which_kernels_round(tiny_checkpoint, setting):
    expected = vectorizer(tiny_checkpoint).transform(TEXTS)
    n_before = cache_info().encoded
    if setting == "oneDNN":
        torch.backends.mkldnn.enabled = False
        try:
            vectorizer(tiny_checkpoint).transform(TEXTS)
        finally:
            torch.backends.mkldnn.enabled = True
    elif setting == "precision of one backend":  # after which PyTorch does not tell that of all
        before = torch.backends.mkldnn.matmul.fp32_precision
        torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        try:
            vectorizer(tiny_checkpoint).transform(TEXTS)
        finally:
            torch.backends.mkldnn.matmul.fp32_precision = before
    else:
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("medium")
        try:
            vectorizer(tiny_checkpoint).transform(TEXTS)
        finally:
            torch.set_float32_matmul_precision(before)
    assert cache_info().encoded == n_before + len(TEXTS)
    assert np.array_equal(vectorizer(tiny_checkpoint).transform(TEXTS), expected)


@pytest.mark.parametrize("way", ["all", "one backend"])
def test_rounding_tells_precisions_apart(way):
    seen = {rounding()}
    if way == "all":
        before = torch.get_float32_matmul_precision()
        for precision in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(precision)
            seen.add(rounding())
        torch.set_float32_matmul_precision(before)
    else:
        before = torch.backends.mkldnn.matmul.fp32_precision
        for precision in ("ieee", "tf32", "bf16"):
            torch.backends.mkldnn.matmul.fp32_precision = precision
            seen.add(rounding())
        torch.backends.mkldnn.matmul.fp32_precision = before
    assert len(seen) >= 3
