"""On a GPU the modules agree with transformers, and those that compute in bfloat16 agree with float64."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from skxlmr.nn import TokenLayout, attention
from tests.nn.reference import (
    BASE,
    TASKS,
    TINY,
    assert_encoders_agree,
    assert_near,
    assert_tasks_agree,
    make_pair,
    make_rows,
    packed,
    transpose_a_weight,
)
from tests.nn.xlm_roberta_xl.test_parity import XL

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-12}
CONFIGS = {"tiny": TINY, "base": BASE, "XL": XL}
LENGTHS = [31, 4, 18, 31, 2, 9]
# heads of 8, 32, 64, and 80 as of XLM-RoBERTa-XL
WIDTHS = {8: TINY, **{size: replace(TINY, hidden_size=4 * size) for size in (32, 64)}, 80: replace(XL, hidden_size=320)}

dtypes = pytest.mark.parametrize("dtype", TOLERANCE, ids=["fp32", "fp64"])


@dtypes
@pytest.mark.parametrize("geometry", CONFIGS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_hidden_states_attentions_and_pooler(geometry, dtype, side, gpu):
    ours, theirs = (module.to(gpu) for module in make_pair("base", CONFIGS[geometry], dtype))
    ids, mask = (tensor.to(gpu) for tensor in make_rows(CONFIGS[geometry], LENGTHS, side))
    assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype])
    with torch.no_grad():
        transpose_a_weight(SimpleNamespace(roberta=ours))
        with pytest.raises(AssertionError, match="differs by"):
            assert_encoders_agree(ours, theirs, ids, mask, TOLERANCE[dtype])


@dtypes
@pytest.mark.parametrize("config", [TINY, XL], ids=["XLM-R", "XL"])
@pytest.mark.parametrize("kind", TASKS)
def test_logits_losses_and_gradients(kind, config, dtype, gpu):
    ours, theirs = (module.to(gpu) for module in make_pair(kind, config, dtype))
    assert_tasks_agree(kind, ours, theirs, config, LENGTHS, TOLERANCE[dtype])


@dtypes
@pytest.mark.parametrize("causal", [False, True])
def test_packed_rows_equal_padded_rows(causal, dtype, gpu):
    ours = make_pair("base", replace(TINY, is_decoder=causal), dtype)[0].to(gpu)
    ids, mask = (tensor.to(gpu) for tensor in make_rows(TINY, LENGTHS))
    with torch.no_grad():
        expected = ours(ids, attention_mask=mask).last_hidden_state[mask.bool()]
        found = ours(*packed(ids, mask)).last_hidden_state
    assert_near(found, expected, TOLERANCE[dtype], "packed rows")


@pytest.mark.parametrize("head_size", WIDTHS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kernel", ["flash", "rectangle"])
def test_bfloat16_is_near_float64(kernel, causal, head_size, gpu, monkeypatch):
    """Hidden states and gradients of packed rows, compared in norm: single values in bfloat16 may be off by a hundredth."""
    calls = []
    attend_varlen = attention._attend_varlen
    monkeypatch.setattr(attention, "_attend_varlen", lambda *args: calls.append(1) or attend_varlen(*args))
    if kernel == "rectangle":
        monkeypatch.setattr(attention, "_flash_applies", lambda q, head_size: False)
    config = replace(WIDTHS[head_size], is_decoder=causal)
    exact = make_pair("base", config, torch.float64)[0].to(gpu)
    mixed = make_pair("base", config)[0].to(gpu)
    ids, mask = (tensor.to(gpu) for tensor in make_rows(config, LENGTHS))
    outputs = {}
    for name, module in {"exact": exact, "mixed": mixed}.items():
        with torch.autocast("cuda", torch.bfloat16, enabled=name == "mixed"):
            outputs[name] = module(*packed(ids, mask)).last_hidden_state.double()
        (outputs[name] * torch.linspace(-1, 1, outputs[name].shape[1], device=gpu)).sum().backward()
    assert len(calls) == (config.num_hidden_layers if kernel == "flash" else 0)
    assert relative(outputs["mixed"], outputs["exact"]) < 2e-2
    gradients = [
        torch.cat([p.grad.double().flatten() for p in module.parameters() if p.grad is not None])
        for module in (mixed, exact)
    ]
    assert relative(*gradients) < 5e-2


def relative(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("how", ["mean", "max", "first", "last"])
def test_pooled_vectors_and_their_gradients(how, gpu):
    x_TD = torch.randn(sum(LENGTHS), 5, generator=torch.Generator().manual_seed(0))
    pooled = []
    for device in ("cpu", gpu):
        x = x_TD.to(device, copy=True).requires_grad_()
        vectors = getattr(TokenLayout(LENGTHS, device), how)(x)
        (vectors**2).sum().backward()
        pooled.append((vectors.detach().cpu(), x.grad.cpu()))
    for found, expected in zip(*pooled, strict=True):
        assert_near(found, expected, 1e-6, how)
