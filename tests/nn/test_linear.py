"""Both kernels of the linear layer compute the same."""

import pytest
import torch
from torch.nn import functional as F

from skxlmr.nn.linear import Linear, linear


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-5), (torch.bfloat16, 0.1)])
@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 24), (0, 24)], ids=str)
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_linear(dtype, tolerance, shape, gelu, has_bias, grad):
    x, weight, bias = draw(*shape), draw(10, 24, seed=1), draw(10, seed=2) if has_bias else None
    expected = x @ weight.T + (bias if has_bias else 0)
    expected = expected * (1 + torch.erf(expected / 2**0.5)) / 2 if gelu else expected
    with torch.set_grad_enabled(grad):
        found = linear(x.to(dtype), weight.to(dtype), bias.to(dtype) if has_bias else None, gelu)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)


def test_strided_inputs():
    x, weight = draw(24, 7).float().T, draw(10, 24, seed=1).float()
    with torch.no_grad():
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
