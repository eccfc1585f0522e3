"""Both kernels of the linear layer compute the same."""

from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch
from torch.nn import functional as F

from skxlmr.nn import TokenLayout
from skxlmr.nn.kernels.linear import Linear, fast_inference, linear, with_spare_rows
from tests.nn.reference import TINY, make_pair


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 24), (0, 24)], ids=str)
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("kernel", [nullcontext, torch.no_grad, fast_inference])
def test_linear(dtype, tolerance, shape, gelu, has_bias, kernel):
    x, weight, bias = draw(*shape), draw(10, 24, seed=1), draw(10, seed=2) if has_bias else None
    expected = x @ weight.T + (bias if has_bias else 0)
    expected = expected * (1 + torch.erf(expected / 2**0.5)) / 2 if gelu else expected
    with kernel():
        found = linear(x.to(dtype), weight.to(dtype), bias.to(dtype) if has_bias else None, gelu)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)


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
    ours(x, gelu=True).sum().backward()
    F.gelu(theirs(x)).sum().backward()
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=0, atol=1e-13)
    torch.testing.assert_close(ours.bias.grad, theirs.bias.grad, rtol=0, atol=1e-13)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of PyTorch has no oneDNN")
def test_the_fast_kernel_is_for_inference_only():
    x, weight = draw(7, 24).float(), draw(10, 24, seed=1).float()
    with patch("torch.nn.functional.linear", side_effect=AssertionError("F.linear was called")):
        with fast_inference():
            linear(x, weight, None)
            with pytest.raises(AssertionError, match="called"), torch.autocast("cpu", torch.bfloat16):
                linear(x, weight, None)  # autocast casts inside F.linear
        with pytest.raises(AssertionError, match="called"), torch.no_grad():
            linear(x, weight, None)


def test_bfloat16_on_a_processor_without_onednn_support_for_it(monkeypatch):
    """As on most laptops, where oneDNN's kernel would raise."""
    monkeypatch.setattr("skxlmr.nn.kernels.linear._onednn_knows_bfloat16", lambda: False)
    x, weight = draw(7, 24).bfloat16(), draw(10, 24, seed=1).bfloat16()
    with patch("torch.nn.functional.linear", wraps=F.linear) as torch_s, fast_inference():
        linear(x, weight, None)
        linear(x.float(), weight.float(), None)
    assert torch_s.call_count == 1


def test_a_build_without_onednn_is_not_asked_about_bfloat16(monkeypatch):
    """The operator that answers does not exist there."""
    x, weight = draw(7, 24).bfloat16(), draw(10, 24, seed=1).bfloat16()
    expected = F.linear(x, weight)
    monkeypatch.setattr("skxlmr.nn.kernels.linear._onednn_knows_bfloat16", lambda: 1 / 0)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    with fast_inference():
        torch.testing.assert_close(linear(x, weight, None), expected)


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this build of PyTorch has no oneDNN")
@pytest.mark.parametrize("gelu", [False, True])
def test_spare_rows_change_no_bit(gelu):
    x, weight, bias = draw(300, 32).float(), draw(48, 32, seed=1).float(), draw(48, seed=2).float()
    kind, algorithm = ("gelu", "none") if gelu else ("none", "")
    for n_rows in (1, 2, 15, 16, 17, 100, 129, 300):
        with fast_inference():
            expected = torch.ops.mkldnn._linear_pointwise(x[:n_rows], weight, bias, kind, [], algorithm)
            assert torch.equal(linear(x[:n_rows], weight, bias, gelu), expected)


def test_the_kernel_meets_few_numbers_of_rows():
    """It keeps about a megabyte for each."""
    x = torch.zeros(4096, 1)
    with fast_inference():
        found = {n_rows: len(with_spare_rows(x[:n_rows])) for n_rows in range(4097)}
    assert len(set(found.values())) <= 50
    assert all(n <= rounded <= max(16, 1.13 * n) or (n < 128 and rounded < n + 16) for n, rounded in found.items())
    assert len(with_spare_rows(x[:5])) == 5  # in training


def test_the_encoder_adds_spare_rows_once():
    module = make_pair("seqcls", TINY)[0]
    ids, layout = torch.arange(5, 18), TokenLayout([6, 4, 3])
    with fast_inference():
        expected = module(ids, layout)
        with patch("torch.nn.functional.pad", wraps=F.pad) as pad:
            assert torch.equal(module(ids, layout), expected)
    before_layers, *in_the_head = [call.args[0].shape for call in pad.call_args_list]
    assert before_layers == (13, TINY.hidden_size) and set(in_the_head) == {(3, TINY.hidden_size)}
