"""Both kernels of the linear layer compute the same."""

import pickle
from contextlib import nullcontext
from copy import deepcopy
from functools import partial
from unittest.mock import patch

import pytest
import torch
from torch.nn import functional as F

from skxlmr.nn import TokenLayout, family_of
from skxlmr.nn.kernels import linear as kernels
from skxlmr.nn.kernels import onednn, packed
from skxlmr.nn.kernels.linear import (
    APART,
    Linear,
    TextLinear,
    fast_inference,
    fast_kernels,
    linear,
    of_texts,
    together,
    with_spare_rows,
)
from skxlmr.nn.kernels.packed import WORTH
from tests.nn.bert.reference import our_config
from tests.nn.reference import TINY, make_pair
from tests.processors import BFLOAT16, ONEDNN

IS_APART_HERE = onednn.is_slow_with_gelu()


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


EXACT = {
    "none": lambda y: y,
    "gelu": lambda y: y * (1 + torch.erf(y / 2**0.5)) / 2,
    "gelu_new": lambda y: y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3))) / 2,
    "gelu_pytorch_tanh": lambda y: y * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (y + 0.044715 * y**3))) / 2,
    "relu": lambda y: y.clamp(min=0),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 24), (0, 24)], ids=str)
@pytest.mark.parametrize("activation", [*EXACT, "residual"])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("kernel", [nullcontext, torch.no_grad, fast_inference])
def test_linear(dtype, tolerance, shape, activation, has_bias, kernel):
    x, weight, bias = draw(*shape), draw(10, 24, seed=1), draw(10, seed=2) if has_bias else None
    residual = draw(*shape[:-1], 10, seed=3) if activation == "residual" else None
    activation = "none" if activation == "residual" else activation
    expected = EXACT[activation](x @ weight.T + (bias if has_bias else 0)) + (0 if residual is None else residual)
    given = [None if tensor is None else tensor.to(dtype) for tensor in (x, weight, bias, residual)]
    with kernel():
        found = linear(*given[:3], activation, given[3])
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("n_texts", [0, 1, 2, 7, 8, 9, 33, 64, 200])
def test_products_of_texts_have_few_numbers_of_rows(n_texts):
    """Powers of two in inference on a CPU; the rows are what they are alone."""
    layer, seen = TextLinear(24, 10), []

    def seeing(rows):
        seen.append(len(rows))
        return rows * 2

    x = draw(n_texts, 24).float()
    with torch.no_grad():
        expected = F.linear(x, layer.weight, layer.bias)
        assert torch.equal(layer(x), expected)  # outside as it is
    with fast_inference():
        found = layer(x)
        assert torch.equal(of_texts(seeing, x), x * 2)
    assert of_texts(seeing, x).shape == x.shape
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    if n_texts == 33:  # other shapes are as they are
        with fast_inference():
            assert layer(draw(9, 3, 24).float()).shape == (9, 3, 10) and layer(draw(24).float()).shape == (10,)
    assert seen == [n_texts if n_texts <= 8 else 1 << (n_texts - 1).bit_length(), n_texts]


@ONEDNN
@pytest.mark.parametrize("model_type", ["xlm-roberta", "distilbert"])
def test_heads_and_layers_of_first_tokens_have_few_numbers_of_rows(monkeypatch, model_type):
    rows = []
    product = kernels._product
    monkeypatch.setattr(kernels, "_product", lambda x, *others: rows.append(x.shape[0]) or product(x, *others))
    config = TINY if model_type == "xlm-roberta" else our_config(model_type)
    module = family_of(config).modules["ForSequenceClassification"](config, 3).eval()
    n_tokens = {}
    for n_texts in (11, 12, 13, 19, 27, 50):
        rows.clear()
        with fast_inference():
            logits = module(torch.arange(5, 8).repeat(n_texts), TokenLayout([3] * n_texts))
        assert logits.shape == (n_texts, 3)
        of_tokens = {kernels._rounded(3 * n_texts)}
        n_tokens[n_texts] = set(rows) - of_tokens
    assert n_tokens == {11: {16}, 12: {16}, 13: {16}, 19: {32}, 27: {32}, 50: {64}}


@ONEDNN
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("n_rows", [300, 2000])
def test_gelu_apart_from_its_product(monkeypatch, n_rows, activation):
    """Where that is faster, with the same bits: a row does not depend on how many rows there are."""
    x, weight, bias = draw(n_rows, 24).float() * 3, draw(40, 24, seed=1).float(), draw(40, seed=2).float()
    found, counts = {}, {}
    for apart in (False, True):
        monkeypatch.setattr(onednn, "is_slow_with_gelu", lambda apart=apart: apart)
        with torch.profiler.profile() as profile, fast_inference():
            found[apart] = linear(x, weight, bias, activation)
        counts[apart] = sum(event.count for event in profile.key_averages() if event.key.startswith("aten::gelu"))
    assert counts == {False: 0, True: activation == "gelu" and n_rows * 40 >= APART}
    tolerance = 0 if IS_APART_HERE else 1e-6 if counts[True] else 0
    torch.testing.assert_close(found[True], found[False], rtol=0, atol=tolerance)
    exact = EXACT[activation](x.double() @ weight.double().T + bias.double())
    torch.testing.assert_close(found[True].double(), exact, rtol=0, atol=1e-4)


def test_strided_inputs():
    x, weight = draw(24, 7).float().T, draw(10, 24, seed=1).float()
    with fast_inference():
        torch.testing.assert_close(linear(x, weight, None), x @ weight.T)
        first_of_each = draw(3, 5, 24).float()[:, 0]
        torch.testing.assert_close(linear(first_of_each, weight, None), first_of_each @ weight.T)


def test_the_layer_has_a_gradient_and_the_state_of_torch_s():
    ours, theirs = Linear(24, 10).double(), torch.nn.Linear(24, 10).double()
    theirs.load_state_dict(ours.state_dict())
    x = draw(3, 24)
    ours(x, "gelu").sum().backward()
    F.gelu(theirs(x)).sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=0, atol=1e-13)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=0, atol=1e-13)


@ONEDNN
def test_the_fast_kernel_is_for_inference_only():
    x, weight = draw(7, 24).float(), draw(10, 24, seed=1).float()
    with patch("torch.nn.functional.linear", side_effect=AssertionError("F.linear was called")):
        with fast_inference():
            linear(x, weight, None)
            with pytest.raises(AssertionError, match="called"):
                linear(x.double(), weight.double(), None)
        with pytest.raises(AssertionError, match="called"), torch.no_grad():
            linear(x, weight, None)


def test_bfloat16_on_a_processor_without_onednn_support_for_it(monkeypatch):
    """As on most laptops, where oneDNN's kernel would raise."""
    monkeypatch.setattr("skxlmr.nn.kernels.onednn.knows_bfloat16", lambda: False)
    x, weight = draw(7, 24).bfloat16(), draw(10, 24, seed=1).bfloat16()
    with patch("torch.nn.functional.linear", wraps=F.linear) as torch_s, fast_inference():
        linear(x, weight, None)
        linear(x.float(), weight.float(), None)
    assert torch_s.call_count == 1


def test_a_build_without_onednn_is_not_asked_about_bfloat16(monkeypatch):
    """The operator that answers does not exist there."""
    x, weight = draw(7, 24).bfloat16(), draw(10, 24, seed=1).bfloat16()
    expected = F.linear(x, weight)
    monkeypatch.setattr("skxlmr.nn.kernels.onednn.knows_bfloat16", lambda: 1 / 0)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with fast_inference():
        torch.testing.assert_close(linear(x, weight, None), expected)


@ONEDNN
@pytest.mark.parametrize("autocast", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize("activation", ["none", "gelu", "gelu_new", "relu", "residual"])
def test_other_rows_change_no_bit(autocast, activation):
    """Nor do rows of zeros that are added, nor weights that are repacked."""
    layer = Linear(32, 48)
    x, others = draw(300, 32).float(), draw(300, 48, seed=3).float()
    residual, activation = (others, "none") if activation == "residual" else (None, activation)
    with fast_inference(), torch.autocast("cpu", autocast, enabled=autocast is not None):
        expected = linear(x, layer.weight, layer.bias, activation, residual)
        for n_rows in (1, 2, 3, 15, 16, 17, 100, 129, 300, 300, 300):  # more than it takes to repack them
            found = layer(x[:n_rows], activation, None if residual is None else residual[:n_rows])
            assert torch.equal(found, expected[:n_rows])
    assert WORTH <= 300 + 300 + 300 + 129 + 100 + 17


def test_the_kernel_meets_few_numbers_of_rows():
    """It keeps about a megabyte for each."""
    x = torch.zeros(4096, 1)
    with fast_inference():
        found = {n_rows: len(with_spare_rows(x[:n_rows])) for n_rows in range(4097)}
    assert len(set(found.values())) <= 60
    assert all(n <= rounded <= max(2, 1.13 * n) or (n < 64 and rounded < n + 8) for n, rounded in found.items())
    assert [found[n] for n in (0, 1, 2, 3, 5, 9, 17, 33)] == [0, 2, 2, 4, 8, 16, 24, 40]
    assert len(with_spare_rows(x[:5])) == 5  # in training


def calls(run):
    """What is returned, and how often oneDNN's operators multiply and repack."""
    with torch.profiler.profile() as profile, fast_inference():
        returned = run()
    count = {event.key: event.count for event in profile.key_averages()}
    return returned, [count.get(f"mkldnn::_{name}", 0) for name in ("linear_pointwise", "reorder_linear_weight")]


@ONEDNN
@pytest.mark.parametrize("dtype", [torch.float32, pytest.param(torch.bfloat16, marks=BFLOAT16)], ids=str)
def test_weights_are_repacked_once(dtype):
    layers = [Linear(24, 8).to(dtype) for _ in range(3)]
    x = draw(WORTH // 2, 24).to(dtype)
    expected = [calls(partial(linear, x, layer.weight, layer.bias))[0] for layer in layers]
    for counts in ([3, 0], [1, 1], [1, 0]):  # worth it in the second call; then one product for all three
        found, counted = calls(partial(together, layers, x))
        assert counted == counts and all(map(torch.equal, found, expected))


@ONEDNN
def test_weights_that_change_are_repacked_anew():
    def replace(layer):
        layer.weight = torch.nn.Parameter(draw(10, 24, seed=5).float())

    changes = [
        lambda layer: layer.weight.mul_(2),
        lambda layer: layer.weight.data.mul_(2),  # counts as no change, but some of the numbers are compared
        lambda layer: layer.bias.add_(1),
        replace,
        lambda layer: layer.half().float(),
    ]
    layer, x = Linear(24, 10), draw(WORTH, 24).float()
    assert calls(partial(layer, x))[1] == [1, 1] and calls(partial(layer, x))[1] == [1, 0]
    for change in changes:
        with torch.no_grad():
            change(layer)
        found, counted = calls(partial(layer, x))
        assert counted == [1, 1]
        torch.testing.assert_close(found, F.linear(x, layer.weight, layer.bias), rtol=0, atol=1e-5)


@ONEDNN
@BFLOAT16
def test_one_precision_after_the_other():
    """What is kept is of one type: asked for another, it is made anew."""
    layer, x = Linear(24, 10), draw(WORTH, 24).float()
    expected = {None: calls(partial(linear, x, layer.weight, layer.bias))[0]}
    with torch.autocast("cpu", torch.bfloat16):
        expected[torch.bfloat16] = calls(partial(linear, x, layer.weight, layer.bias))[0]
    for precision in (None, torch.bfloat16, None):
        with torch.autocast("cpu", precision, enabled=precision is not None):
            found, counted = calls(partial(layer, x))
        assert counted == [1, 1] and found.dtype == expected[precision].dtype
        assert torch.equal(found, expected[precision])


@ONEDNN
def test_a_residual_of_another_type():
    """In mixed precision the product is bfloat16, and what it is added to float32."""
    layer, x, residual = Linear(24, 10), draw(7, 24).float(), draw(7, 10, seed=3).float()
    with torch.autocast("cpu", torch.bfloat16):
        product = calls(partial(layer, x))[0]
        found = calls(partial(layer, x, residual=residual))[0]
    assert product.dtype == torch.bfloat16 and torch.equal(found, product + residual)


@ONEDNN
@pytest.mark.parametrize("n_rows", [5, 128, 129, 300])
@pytest.mark.parametrize(("activation", "has_residual"), [("none", True), ("none", False), ("gelu", False)])
def test_products_in_parts_have_the_values_of_float64(monkeypatch, n_rows, activation, has_residual):
    """Those that AMX needs, on each processor: with a residual of the same type, and with one of another."""
    monkeypatch.setattr("skxlmr.nn.kernels.onednn.sums_by_rows", lambda: True)
    layer, x, residual = Linear(24, 10), draw(3, n_rows, 24)[1], draw(n_rows, 10, seed=1) if has_residual else None
    exact = x @ layer.weight.double().T + layer.bias.double()
    exact = F.gelu(exact) if activation == "gelu" else exact + (residual if has_residual else 0)
    for dtype in (torch.bfloat16, torch.float32) if has_residual else (None,):
        added = None if dtype is None else residual.to(dtype)
        with fast_kernels(alone=True), torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            found = layer(x.bfloat16(), activation, added)
        assert found.shape == exact.shape
        torch.testing.assert_close(found.double(), exact, rtol=0, atol=0.1)


@ONEDNN
def test_what_is_kept_is_no_part_of_the_layer():
    layer, x = Linear(24, 10), draw(WORTH, 24).float()
    state, attributes = pickle.dumps(layer), set(vars(layer))
    calls(partial(layer, x))
    assert layer in packed._kept and pickle.dumps(layer) == state and set(vars(layer)) == attributes
    assert deepcopy(layer) not in packed._kept
    packed.forget(torch.nn.Sequential(layer))
    assert layer not in packed._kept
    calls(partial(layer, x))
    n_kept = len(packed._kept)
    del layer
    assert len(packed._kept) == n_kept - 1


@ONEDNN
def test_layers_with_hooks_or_of_other_classes_are_called():
    layers = [Linear(24, 8) for _ in range(3)]
    x, seen = draw(WORTH, 24).float(), []
    layers[1].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    with fast_inference():
        assert torch.equal(together(layers, x)[1], seen[0])
    layers[1] = torch.nn.Linear(24, 8)
    with fast_inference():
        torch.testing.assert_close(together(layers, x)[1], layers[1](x))


@ONEDNN
def test_weights_made_in_inference_mode_are_not_repacked():
    """They count no changes."""
    with torch.inference_mode():
        layer = Linear(24, 10)
    x = draw(WORTH, 24).float()
    expected = calls(partial(layer, x))[0]
    with torch.inference_mode():
        layer.weight.mul_(2)
    torch.testing.assert_close(calls(partial(layer, x))[0] - layer.bias, 2 * (expected - layer.bias), rtol=0, atol=1e-5)
    assert layer not in packed._kept


def test_the_encoder_adds_spare_rows_once():
    module = make_pair("tokcls", TINY)[0]
    ids, layout = torch.arange(5, 18), TokenLayout([6, 4, 3])
    with fast_inference():
        expected = module(ids, layout)
        with patch("torch.nn.functional.pad", wraps=F.pad) as pad:
            assert torch.equal(module(ids, layout), expected)
    before_layers, in_the_head = [call.args[0].shape for call in pad.call_args_list]
    assert before_layers == in_the_head == (13, TINY.hidden_size)
