"""The linear layer of a fit on a CPU: values and gradients of float64, in both precisions, whatever the shapes."""

from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from skxlmr.nn import TokenLayout
from skxlmr.nn.kernels import onednn, trained
from skxlmr.nn.kernels.linear import LayerLinear, Linear, fast_inference, linear, together
from skxlmr.nn.kernels.trained import fast_training
from skxlmr.nn.lora import LoraLinear
from tests.nn.reference import TINY, make_pair
from tests.processors import BFLOAT16, ONEDNN

pytestmark = ONEDNN
CACHED = {name: getattr(onednn, name).__wrapped__ for name in ("blas_is_as_fast", "blas_trains_faster")}


@pytest.fixture(autouse=True)
def any_processor(monkeypatch):
    """As on a processor whose BLAS is slower than oneDNN."""
    monkeypatch.setattr(onednn, "blas_trains_faster", lambda: False)


both_precisions = pytest.mark.parametrize(
    ("precision", "tolerance"), [(None, 1e-6), pytest.param(torch.bfloat16, 2e-2, marks=BFLOAT16)]
)


def draw(*shape, seed=0):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def precise(precision):
    return nullcontext() if precision is None else torch.autocast("cpu", precision)


def results(operands, slope, gelu=False, learns=(True, True, True)):
    """Value of the layer, and its gradients."""
    leaves = [x if x is None else x.detach().requires_grad_(does) for x, does in zip(operands, learns, strict=True)]
    value = linear(*leaves, "gelu" if gelu else "none")
    value.backward(slope.to(value.dtype))
    return [value.detach(), *(None if leaf is None else leaf.grad for leaf in leaves)]


def assert_near(found, expected, tolerance):
    """Relative to the norm."""
    for ours, exact in zip(found, expected, strict=True):
        assert (ours is None) == (exact is None)
        if ours is not None:
            assert ours.shape == exact.shape
            assert (ours.double() - exact).norm() <= tolerance * exact.norm()


def single(operands):
    return [None if x is None else x.float() for x in operands]


@both_precisions
@pytest.mark.parametrize("shape", [(1, 24), (2, 24), (16, 24), (37, 24), (300, 24), (3, 5, 24)], ids=str)
@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
def test_values_and_gradients_are_those_of_float64(precision, tolerance, shape, gelu, has_bias):
    operands = [draw(*shape), draw(11, 24, seed=1), draw(11, seed=2) if has_bias else None]
    slope = draw(*shape[:-1], 11, seed=3)
    with fast_training(), precise(precision):
        found = results(single(operands), slope, gelu)
    assert found[0].dtype == (precision or torch.float32)
    assert {x.dtype for x in found[1:] if x is not None} == {torch.float32}
    assert_near(found, results(operands, slope, gelu), tolerance)


@both_precisions
@pytest.mark.parametrize("learns", [(True, False, False), (False, True, False), (False, False, True)])
def test_what_does_not_learn_has_no_gradient(precision, tolerance, learns):
    operands, slope = [draw(21, 24), draw(11, 24, seed=1), draw(11, seed=2)], draw(21, 11, seed=3)
    with fast_training(), precise(precision):
        found = results(single(operands), slope, learns=learns)
    assert_near(found, results(operands, slope, learns=learns), tolerance)


def results_together(layers, x, slopes):
    """Outputs of layers with the same inputs, and the gradients of the inputs and of what learns."""
    x = x.detach().requires_grad_()
    outputs = together(layers, x)
    sum((y * slope.to(y.dtype)).sum() for y, slope in zip(outputs, slopes, strict=True)).backward()
    parameters = [p for layer in layers for p in (layer.weight, layer.bias) if p is not None]
    return [*(y.detach() for y in outputs), x.grad, *(p.grad for p in parameters)]


@both_precisions
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(
    "frozen", [(), ("0.weight", "1.bias"), ("0.weight", "1.weight", "2.weight"), ("0.bias", "1.bias", "2.bias")]
)
def test_layers_with_the_same_inputs(precision, tolerance, has_bias, frozen):
    """In bfloat16 they are one product, forwards and backwards."""
    layers = torch.nn.ModuleList(Linear(24, 11, bias=has_bias) for _ in range(3))
    for name, parameter in layers.named_parameters():
        parameter.requires_grad_(name not in frozen)
    exact, x, slopes = deepcopy(layers).double(), draw(37, 24), [draw(37, 11, seed=seed) for seed in (1, 2, 3)]
    products = Products()
    with products, fast_training(), precise(precision):
        found = results_together(layers, x.float(), slopes)
    assert_near(found, results_together(exact, x, slopes), tolerance)
    assert {y.dtype for y in found[:3]} == {precision or torch.float32}
    if precision is not None:
        assert products.count == 2 + ("2.weight" not in frozen)


@pytest.mark.parametrize(
    "register",
    [
        lambda layer, hook: layer.register_forward_hook(hook),
        lambda layer, hook: layer.register_forward_pre_hook(hook),
        lambda layer, hook: layer.register_full_backward_hook(hook),
        lambda layer, hook: layer.register_full_backward_pre_hook(hook),
        lambda layer, hook: torch.nn.modules.module.register_module_forward_hook(hook),
        lambda layer, hook: torch.nn.modules.module.register_module_full_backward_hook(hook),
    ],
)
def test_hooks_of_one_of_the_layers_are_called(register):
    layers, x, calls = [Linear(24, 11) for _ in range(3)], draw(37, 24).float(), []
    handle = register(layers[1], lambda module, *_: calls.append(module))
    try:
        with fast_training(), precise(torch.bfloat16):
            results_together(layers, x, [draw(37, 11)] * 3)
    finally:
        handle.remove()
    assert layers[1] in calls


@both_precisions
def test_strided_operands(precision, tolerance):
    """Rows out of the middle, a transposed input, and a slope that is one number spread out, as that of a sum is."""
    slope = torch.ones(1, 1, dtype=torch.float64).expand(7, 11)
    for x in (draw(24, 7).T, draw(7, 5, 24)[:, 2]):
        operands = [x, draw(11, 24, seed=1), None]
        with fast_training(), precise(precision):
            found = results([x.float().T.contiguous().T, operands[1].float(), None], slope)
        assert_near(found, results(operands, slope), tolerance)


@both_precisions
def test_gradients_add_up_and_are_repeated_by_checkpoints(precision, tolerance):
    layer, exact, x = Linear(24, 24), Linear(24, 24).double(), draw(9, 24)
    exact.load_state_dict(layer.state_dict())
    with fast_training(), precise(precision):
        for part in x.float().split(3):
            checkpoint(lambda x: layer(layer(x)), part, use_reentrant=False).sum().backward()
    exact(exact(x)).sum().backward()
    assert_near([layer.weight.grad, layer.bias.grad], [exact.weight.grad, exact.bias.grad], tolerance)


@both_precisions
def test_there_is_no_second_gradient(precision, tolerance):
    x, weight = draw(5, 24).float().requires_grad_(), draw(11, 24, seed=1).float().requires_grad_()
    with fast_training(), precise(precision):
        (slope,) = torch.autograd.grad(linear(x, weight, None).square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
    (slope,) = torch.autograd.grad(linear(x, weight, None).square().sum(), weight, create_graph=True)
    slope.sum().backward()  # outside a fit there is


@both_precisions
def test_a_weight_may_not_change_before_the_backward_pass(precision, tolerance):
    x, weight = draw(5, 24).float().requires_grad_(), draw(11, 24, seed=1).float().requires_grad_()
    with fast_training(), precise(precision):
        value = linear(x, weight, None).sum()
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        value.backward()


def test_where_it_applies(monkeypatch):
    monkeypatch.setattr(onednn, "knows_bfloat16", lambda: True)
    single, double, half = (draw(5, 24).to(dtype) for dtype in (torch.float32, torch.float64, torch.bfloat16))
    assert not trained.is_trained(single, single)
    with fast_training():
        assert trained.is_trained(single, single)
        assert not any(trained.is_trained(*pair) for pair in ((double, double), (half, half), (single[:0], single)))
        with fast_inference():  # as the frozen layers of a fit, which have no graph
            assert "trained" not in str(linear(single, single, None).grad_fn)
        with torch.autocast("cpu", torch.bfloat16):
            assert trained.is_trained(half, single) and not trained.is_trained(double, single)
            monkeypatch.setattr(onednn, "knows_bfloat16", lambda: False)
            assert not trained.is_trained(single, single)
        with torch.autocast("cpu", torch.float16):
            assert not trained.is_trained(single, single)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        assert not trained.is_trained(single, single)


def test_float32_is_left_to_a_blas_that_is_faster(monkeypatch):
    single = draw(5, 24).float()
    monkeypatch.setattr(onednn, "blas_trains_faster", lambda: True)
    with fast_training():
        assert not trained.is_trained(single, single)
        with torch.autocast("cpu", torch.bfloat16):
            assert trained.is_trained(single, single) == onednn.knows_bfloat16()


@pytest.mark.parametrize(
    ("vendor", "capability", "is_as_fast", "trains_faster"),
    [
        ("GenuineIntel", "AVX512", True, True),
        ("GenuineIntel", "AVX2", True, True),
        ("AuthenticAMD", "AVX512", False, False),
        ("AuthenticAMD", "AVX2", False, True),
        ("AuthenticAMD", "DEFAULT", False, False),
        ("HygonGenuine", "AVX2", False, False),
    ],
)
@pytest.mark.parametrize("has_mkl", [False, True])
def test_whose_blas_is_fast(monkeypatch, tmp_path, vendor, capability, has_mkl, is_as_fast, trains_faster):
    (tmp_path / "cpuinfo").write_text(f"vendor_id : {vendor}\n")
    monkeypatch.setattr(onednn, "Path", lambda _: tmp_path / "cpuinfo")
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: has_mkl)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    found = {}
    for name, of_this_processor in CACHED.items():
        monkeypatch.setattr(onednn, name, of_this_processor)
        found[name] = of_this_processor()
    expected = {"blas_is_as_fast": is_as_fast, "blas_trains_faster": trains_faster}
    assert found == {name: has_mkl and is_so for name, is_so in expected.items()}


def test_the_kernel_meets_few_numbers_of_rows():
    """It keeps 2 MB of code for each number and gradient of a weight, and a third of it for each of the other products."""
    x = torch.zeros(4096, 1)
    found = [[len(rows) for rows in trained._with_spare_rows(x[:n])] for n in range(1, 4097)]
    few, more = (set(column) for column in zip(*found, strict=True))
    assert len(few) <= 30 and len(more) <= 50
    assert all(n <= rows <= some <= max(16, 1.25 * n) or n < 64 for n, (some, rows) in enumerate(found, 1))


class Products(TorchDispatchMode):
    """Counts all products, and keeps the sizes of their operands."""

    def __init__(self):
        super().__init__()
        self.count, self.sizes = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.__name__.split(".")[0] in ("mm", "addmm", "linear", "_linear_pointwise"):
            self.count += 1
            self.sizes.update(size for x in args if isinstance(x, torch.Tensor) for size in x.shape)
        return function(*args, **kwargs or {})


@both_precisions
def test_no_product_has_another_number_of_rows(precision, tolerance):
    """Neither forwards nor backwards: 46 numbers of rows become three."""
    products, weight = Products(), draw(11, 13, seed=1).float().requires_grad_()
    for n_rows in range(65, 111):
        x = draw(n_rows, 13).float().requires_grad_()
        with products, fast_training(), precise(precision):
            linear(x, weight, None).sum().backward()
    assert products.sizes == {11, 13, 80, 96, 112}


class Gelus(TorchDispatchMode):
    """Keeps whether what GELU and its gradient are given lies in the order of its rows: then they are oneDNN's, if exact."""

    def __init__(self):
        super().__init__()
        self.by_rows = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.__name__.split(".")[0] in ("gelu", "gelu_backward"):
            self.by_rows.append(all(x.is_contiguous() for x in args[:2] if isinstance(x, torch.Tensor)))
        return function(*args, **kwargs or {})


@pytest.mark.parametrize("shape", [(7, 24), (2, 5, 24), (0, 24), (24,)], ids=str)
@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "relu"])
@pytest.mark.parametrize("is_strided", [False, True])
def test_gelu_in_a_fit_needs_no_code_for_each_number_of_rows(monkeypatch, shape, activation, is_strided):
    monkeypatch.setattr(onednn, "blas_trains_faster", lambda: True)
    layer, x, slope = Linear(24, 10), draw(*shape), draw(*shape[:-1], 10, seed=3)
    exact_x = x.clone().requires_grad_()
    exact = linear(exact_x, layer.weight.double(), layer.bias.double(), activation)
    exact.backward(slope)
    x = x.float().mT.contiguous().mT if is_strided and len(shape) > 1 else x.float()
    watch = Gelus()
    with watch, fast_training():
        found = layer(x.requires_grad_(), activation)
        found.backward(slope.float())
    assert found.shape == exact.shape and found.is_contiguous()
    assert_near([found.detach(), x.grad], [exact.detach(), exact_x.grad], 1e-6)
    if shape == (7, 24):
        assert watch.by_rows == [activation != "gelu"] * 2 * (activation != "relu")
        watch.by_rows.clear()
        with watch:  # outside a fit, and in other types, it is as it was
            layer(x, activation).backward(slope.float())
            with fast_training():
                deepcopy(layer).double()(x.double(), activation)
        assert watch.by_rows == [True, True, True] * (activation != "relu")


@pytest.mark.parametrize("plain", [LayerLinear(24, 10), Linear(24, 10)], ids=["layer", "pooler"])
def test_gelu_of_an_adapted_layer_neither(plain):
    layer, watch = LoraLinear(plain, rank=2, alpha=4, dropout=0.0), Gelus()
    with watch, fast_training():
        layer(draw(7, 24).float(), "gelu").sum().backward()
    assert watch.by_rows == [False, False]


@both_precisions
def test_an_encoder_has_the_gradients_of_the_reference(precision, tolerance):
    """Every parameter, with all weights perturbed; the reference computes in float64."""
    ours, theirs = make_pair("seqcls", TINY)
    theirs = theirs.double()
    ids, lengths = torch.randint(5, 100, (23,), generator=torch.Generator().manual_seed(0)), [9, 8, 6]
    labels = torch.tensor([0, 2, 1])
    with fast_training():
        with precise(precision):
            logits = ours(ids, TokenLayout(lengths))
        torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    padded = torch.nn.utils.rnn.pad_sequence(ids.split(lengths), batch_first=True, padding_value=1)
    theirs(padded, attention_mask=(padded != 1).long(), labels=labels).loss.backward()
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        exact = expected[name].grad
        if exact.norm() > 1e-8:  # that of the keys' biases is zero but for rounding
            assert (parameter.grad - exact).norm() <= (1e-5 if precision is None else 0.1) * exact.norm(), name
