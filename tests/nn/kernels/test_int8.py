"""Dense layers in int8: what is rounded, that nothing else is, and copies of weights that are never stale or kept elsewhere."""

import copy
import gc
import pickle

import pytest
import torch
from torch.nn import functional as F

from skxlmr.nn.backbone import lowest_states
from skxlmr.nn.kernels import int8
from skxlmr.nn.kernels.linear import (
    ACTIVATIONS,
    LayerLinear,
    Linear,
    fast_inference,
    fast_kernels,
    row_by_row,
    together,
)
from skxlmr.nn.kernels.packed import _kept
from tests.defaults import other_defaults
from tests.nn.reference import TINY, make_rows, packed
from tests.nn.test_families import ROWS, module_of
from tests.nn.test_run_layers import LENGTHS, families, make_encoder, run
from tests.processors import INT8

pytestmark = INT8


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def layer(n_inputs=24, n_outputs=10, bias=True, seed=1):
    made = LayerLinear(n_inputs, n_outputs, bias=bias)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(draw(*parameter.shape, seed=seed))
    return made


def emulated(x, made, gelu=False):
    """The same rounding, and everything else in float64."""
    x, weight = x.double(), made.weight.detach().double()
    scale_x, scale_w = (each.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127 for each in (x, weight))
    y = ((x / scale_x).round() @ (weight / scale_w).round().T) * scale_x * scale_w.T
    y = y if made.bias is None else y + made.bias.detach().double()
    return F.gelu(y) if gelu else y


def in_float64(made, x, activation="none", residual=None):
    y = emulated(x, made, activation == "gelu")
    y = y.relu() if activation == "relu" else y
    return y if residual is None else y + residual


def in_int8(made, x, **options):
    with fast_inference(in_int8=True):
        return made(x, **options)


@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (1, 24), (0, 24), (int8.ROWS_AT_ONCE * 2 + 3, 24)], ids=str)
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_as_in_float64(shape, gelu, bias):
    x, made = draw(*shape) * 10 ** draw(*shape[:-1], 1, seed=2), layer(bias=bias)
    found, expected = in_int8(made, x, activation="gelu" if gelu else "none"), emulated(x, made, gelu)
    assert found.dtype == torch.float32 and found.shape == (*shape[:-1], 10)
    size = x.abs().amax(-1, keepdim=True).double() + 1
    assert ((found - expected).abs() <= 2e-6 * size).all()
    exact = F.gelu(F.linear(x, made.weight, made.bias)) if gelu else F.linear(x, made.weight, made.bias)
    if x.numel():
        assert 1e-4 < ((found - exact).abs() / size).max() < 0.2  # it was rounded, and not by much


def test_rows_of_zeros_and_numbers_that_are_not_finite():
    x, made = draw(5, 24), layer()
    x[1], x[2, 3], x[3, 4], x[4] = 0, torch.nan, torch.inf, x[4] * 1e-34
    y = in_int8(made, x)
    assert torch.equal(y[1], made.bias) and torch.isnan(y[2]).all() and not torch.isfinite(y[3]).any()
    torch.testing.assert_close(y[[0, 4]], emulated(x[[0, 4]], made).float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("n_rows", [3, int8.ROWS_AT_ONCE + 1])
def test_other_types(dtype, n_rows):
    x, made = draw(n_rows, 24).to(dtype), layer()
    found, expected = in_int8(made.to(dtype), x), emulated(x, made)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=0.1)  # ties may fall to either side


def test_several_layers_from_one_product():
    x, layers = draw(2, 7, 24), [layer(seed=n) for n in range(3)]
    with fast_inference(in_int8=True):
        found = together(layers, x)
        for y, each in zip(found, layers, strict=True):
            assert torch.equal(y, each(x))


@pytest.mark.parametrize("n_inputs", [24, 25, 768])
def test_the_output_of_a_row_is_its_own_to_the_last_bit(n_inputs):
    x, made = draw(int8.ROWS_AT_ONCE + 90, n_inputs), layer(n_inputs, 33)
    together_ = in_int8(made, x, activation="gelu")
    for rows in ([0], [1, 0], [300, 5, 280], range(17, 50), range(255, 257), torch.randperm(len(x)).tolist()):
        assert torch.equal(in_int8(made, x[list(rows)], activation="gelu"), together_[list(rows)])


@pytest.mark.parametrize("activation", ["relu", "gelu_new", "gelu_pytorch_tanh"])
@pytest.mark.parametrize("n_rows", [9, int8.ROWS_AT_ONCE + 9])
def test_activations(activation, n_rows):
    x, made = draw(n_rows, 24), layer()
    expected = ACTIVATIONS[activation][0](in_int8(made, x))
    torch.testing.assert_close(in_int8(made, x, activation=activation), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("shape", [(9,), (2, int8.ROWS_AT_ONCE)])
def test_residual(shape):
    x, residual, made = draw(*shape, 24), draw(*shape, 10, seed=4), layer()
    kept = residual.clone()
    assert torch.equal(in_int8(made, x, residual=residual), in_int8(made, x) + residual)
    assert torch.equal(residual, kept)


def test_halves_of_layers_take_some_rows_at_a_time():
    seen, x, residual = [], draw(2, int8.ROWS_AT_ONCE, 8), draw(2, int8.ROWS_AT_ONCE, 4)

    def half(x, residual):
        seen.append(len(x))
        return x[..., :4] + residual

    expected = half(x, residual)
    assert torch.equal(row_by_row(half, x, residual), expected)
    with fast_inference(in_int8=True):
        assert torch.equal(row_by_row(half, x, residual), expected)
        assert row_by_row(half, x[:, :0], residual[:, :0]).shape == (2, 0, 4)
    assert seen == [2, 2, int8.ROWS_AT_ONCE, int8.ROWS_AT_ONCE]


# Weights --------------------------------------------------------------------------------------------------------------


def double(made):
    made.weight.detach().mul_(2)


def double_bias(made):
    made.bias.detach().add_(1)


def double_through_data(made):
    made.weight.data.mul_(2)


def double_through_numpy(made):
    made.weight.detach().numpy()[...] *= 2


def load(made):
    made.load_state_dict(layer(seed=7).state_dict())


def replace(made):
    made.weight = layer(seed=8).weight


def step(made):
    made.weight.grad = torch.ones_like(made.weight)
    torch.optim.SGD([made.weight], 0.5).step()


@pytest.mark.parametrize(
    "change", [double, double_bias, double_through_data, double_through_numpy, load, replace, step]
)
def test_changed_weights_are_rounded_anew(change):
    x, made = draw(7, 24), layer()
    before = in_int8(made, x)
    change(made)
    after = in_int8(made, x)
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, emulated(x, made).float(), rtol=0, atol=1e-4)


def test_a_change_in_one_of_several_layers():
    x, layers = draw(7, 24), [layer(seed=n) for n in range(3)]
    with fast_inference(in_int8=True):
        before = together(layers, x)[2].clone()
    double(layers[2])
    with fast_inference(in_int8=True):
        assert not torch.equal(together(layers, x)[2], before)


def test_weights_that_count_no_changes_are_rounded_in_each_call():
    with torch.inference_mode():
        x, made = draw(7, 24), layer()
        before = in_int8(made, x)
        made.weight[:, 0] += 1
        assert not torch.equal(in_int8(made, x), before)


def test_weights_are_rounded_once(monkeypatch):
    n_made = []
    prepack = torch.ops.onednn.qlinear_prepack
    monkeypatch.setattr(torch.ops.onednn, "qlinear_prepack", lambda *args: n_made.append(1) or prepack(*args))
    x, layers = draw(7, 24), [layer(seed=n) for n in range(3)]
    for _ in range(3):
        in_int8(layers[0], x)
    assert len(n_made) == 1
    for _ in range(3):
        with fast_inference(in_int8=True):
            together(layers[1:], x)
    assert len(n_made) == 2


def test_no_copy_or_file_holds_them():
    made, x = layer(), draw(7, 24)
    size, names = len(pickle.dumps(made)), set(vars(made))
    expected = in_int8(made, x)
    assert len(pickle.dumps(made)) == size and set(vars(made)) == names and set(made.state_dict()) == {"weight", "bias"}
    copied = copy.deepcopy(made)
    double(copied)
    assert not torch.equal(in_int8(copied, x), expected) and torch.equal(in_int8(made, x), expected)


def test_they_go_with_the_layer():
    made = layer()
    in_int8(made, draw(7, 24))
    gc.collect()
    n_kept = len(_kept)
    del made
    gc.collect()
    assert len(_kept) == n_kept - 1


# Where ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("model_type", "task"), ROWS)
def test_only_dense_layers_of_the_layers_of_encoders(model_type, task):
    module = module_of(model_type, task)
    of_layers = {part for block in module.backbone.blocks[1:] for part in block.modules() if isinstance(part, Linear)}
    assert of_layers == {part for part in module.modules() if isinstance(part, LayerLinear)} != set()


def test_a_plain_layer_and_other_blocks_compute_in_float32():
    x, made, plain = draw(7, 24), layer(), Linear(24, 10)
    plain.load_state_dict(made.state_dict())
    with fast_inference():
        expected = plain(x)
        assert torch.equal(made(x), expected)
    with fast_inference(in_int8=True):
        assert torch.equal(plain(x), expected)
        with fast_kernels():  # as for the states of frozen layers
            assert torch.equal(made(x), expected)
        assert not torch.equal(made(x), expected)
    with torch.no_grad():
        torch.testing.assert_close(made(x), expected, rtol=0, atol=1e-5)
    assert not torch.equal(made(x), in_int8(made, x))


def cosines(found, expected):
    return torch.cosine_similarity(found.double().flatten(0, -2), expected.double().flatten(0, -2))


@families
@pytest.mark.parametrize("form", ["packed", "left"])
def test_an_encoder_is_near_the_same_rounding_in_float64_and_near_float32(family, form, monkeypatch):
    encoder = make_encoder(family)
    with fast_inference():
        exact = run(encoder, form).last_hidden_state
    with fast_inference(in_int8=True):
        found = run(encoder, form).last_hidden_state
    monkeypatch.setattr(LayerLinear, "forward", in_float64)
    with torch.no_grad():
        expected = run(encoder.double(), form).last_hidden_state
    is_token = expected.flatten(0, -2).norm(dim=1) > 0  # XLM puts zeros in place of padding
    # where float32 and float64 round a number to neighbours, the steps are seen
    assert cosines(found, expected)[is_token].min() > 0.9999
    assert cosines(found, exact)[is_token].min() > 0.99
    assert not torch.allclose(found, exact, rtol=0, atol=1e-4)


def test_frozen_layers_are_computed_in_float32():
    encoder, (ids, layout) = make_encoder("XLM-R"), packed(*make_rows(TINY, LENGTHS))
    expected = lowest_states(encoder, ids, layout, 2)
    with fast_inference(in_int8=True):
        assert torch.equal(lowest_states(encoder, ids, layout, 2), expected)


@other_defaults
def test_copies_are_made_whatever_the_defaults(other):
    made, x = layer(), draw(5, 24)
    expected = in_int8(made, x)
    with other():
        assert torch.equal(in_int8(copy.deepcopy(made), x), expected)
