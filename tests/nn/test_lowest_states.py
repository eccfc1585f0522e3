"""States after the lowest layers: those of a row are its own, to the last bit, whatever rows are computed with it."""

import numpy as np
import pytest
import torch

from skxlmr.nn import TokenLayout, XLMRobertaEncoder, config_of
from skxlmr.nn.backbone import lowest_states, starting_from
from skxlmr.nn.kernels.linear import fast_kernels, linear
from skxlmr.nn.xlm_roberta import init_weights
from tests.nn.test_run_layers import LENGTHS, families, make_encoder

PRECISIONS = pytest.mark.parametrize("precision", [None, torch.bfloat16], ids=["float32", "bfloat16"])
N_ROWS = 50


class Kept:
    """Returns the states that it was given."""

    def __init__(self, backbone, n_layers, states):
        self.backbone, self.n_layers, self.given = backbone, n_layers, states

    def states(self, ids, layout):
        return self.given


def encoder_of(width, n_heads, inner, n_layers, activation):
    sizes = {
        "hidden_size": width,
        "num_attention_heads": n_heads,
        "intermediate_size": inner,
        "num_hidden_layers": n_layers,
    }
    about = {"model_type": "xlm-roberta", "vocab_size": 1000, "max_position_embeddings": 514, "hidden_act": activation}
    encoder = XLMRobertaEncoder(config_of(about | sizes))
    init_weights(encoder, 0.3, torch.Generator().manual_seed(0))
    return encoder.eval()


def rows_up_to(longest):
    """Rows of random ids, some of equal and of few tokens, some too long for the simple attention."""
    rng = np.random.default_rng(1)
    lengths = [*rng.integers(3, longest, N_ROWS - 11), 3, 3, 4, 12, 12, 16, 16, 32, 70, 70, 130]
    return [rng.integers(5, 1000, n) for n in lengths]


def states_of(encoder, rows, numbers, precision, n_layers=None):
    """States of each of these rows, computed together."""
    some = [rows[number] for number in numbers]
    layout = TokenLayout([len(row) for row in some])
    n_layers = len(encoder.layers) if n_layers is None else n_layers
    with torch.autocast("cpu", precision, enabled=precision is not None):
        states = lowest_states(encoder, torch.from_numpy(np.concatenate(some)), layout, n_layers)
    return dict(zip(numbers, states.split(layout.lengths), strict=True))


def n_that_differ(encoder, rows, n_batches, precision, seed=0):
    """Rows of random batches, in random order or the longest first, whose states are not those of the row alone."""
    rng = np.random.default_rng(seed)
    alone = {number: states_of(encoder, rows, [number], precision)[number] for number in range(len(rows))}
    n_different = 0
    for _ in range(n_batches):
        numbers = rng.permutation(len(rows))[: rng.integers(1, 30)].tolist()
        if rng.random() < 0.5:
            numbers.sort(key=lambda number: -len(rows[number]))
        found = states_of(encoder, rows, numbers, precision)
        n_different += sum(not torch.equal(states, alone[number]) for number, states in found.items())
    return n_different


# 36 and 20 numbers are no multiple of what processors load at once: rows then lie differently in memory
GEOMETRIES = [(32, 2, 64, 2, "gelu"), (36, 3, 52, 2, "gelu_new"), (20, 5, 35, 1, "gelu_new"), (96, 2, 192, 1, "relu")]


@PRECISIONS
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_states_of_a_row_are_its_own(geometry, precision):
    assert n_that_differ(encoder_of(*geometry), rows_up_to(60), 15, precision) == 0


@PRECISIONS
@pytest.mark.parametrize("geometry", [(192, 6, 768, 1, "gelu"), (512, 8, 640, 1, "gelu")], ids=str)
def test_states_of_a_row_are_its_own_with_long_sums(geometry, precision):
    """With AMX, a sum of more than some 400 products in bfloat16 has another order with another number of rows."""
    assert n_that_differ(encoder_of(*geometry), rows_up_to(60), 8, precision) == 0


@pytest.mark.parametrize("number", [-3.140625, -3.8125, -4.40625])
def test_gelu_of_a_number_is_one_number(number):
    """PyTorch's own in bfloat16 is another one without AVX512, at the end of what each of three threads computes."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with torch.no_grad(), fast_kernels(alone=True), torch.autocast("cpu", torch.bfloat16):
            found = linear(torch.full((304, 1), number), torch.ones(64, 1), None, "gelu")
    finally:
        torch.set_num_threads(before)
    assert found.dtype == torch.bfloat16 and len(found.unique()) == 1


@pytest.mark.skipif(
    not torch.cpu._is_amx_tile_supported(), reason="only with AMX sums depend on the number of rows or threads"
)
def test_rows_are_computed_in_parts_of_one_size_with_amx(monkeypatch):
    """So that the tests would see it: all rows of a product at once."""
    monkeypatch.setattr("skxlmr.nn.kernels.linear.ROWS_AT_A_TIME", 0)
    assert n_that_differ(encoder_of(192, 6, 768, 1, "gelu"), rows_up_to(60), 8, torch.bfloat16) > 0


def test_without_the_rules_rows_depend_on_each_other(monkeypatch):
    """So that the tests would see it: rectangles with padding, as in training."""
    monkeypatch.setattr(TokenLayout, "groups", property(lambda layout: layout.padded_groups))
    assert n_that_differ(encoder_of(64, 2, 64, 1, "gelu"), rows_up_to(60), 15, None) > 0


@pytest.mark.slow
@PRECISIONS
@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize(
    "geometry",
    [
        *((768, 12, 3072, 2, "gelu"), (1024, 16, 4096, 1, "gelu"), (384, 12, 1536, 3, "gelu_new")),
        *((768, 12, 3072, 1, "gelu_pytorch_tanh"), *GEOMETRIES),
    ],
    ids=str,
)
def test_states_of_a_row_are_its_own_in_thousands_of_batches(geometry, n_threads, precision):
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        encoder, rows = encoder_of(*geometry), rows_up_to(60)
        assert n_that_differ(encoder, rows, 40 if geometry[0] > 100 else 500, precision, seed=n_threads) == 0
    finally:
        torch.set_num_threads(before)


@families
@PRECISIONS
def test_every_family_goes_on_from_them(family, precision):
    encoder = make_encoder(family).eval()
    if hasattr(encoder, "lang_ids"):
        encoder.lang_ids = (0, 1)
    seconds = [length // 2 + 1 for length in LENGTHS] if family in ("BERT", "XLM") else None
    layout = TokenLayout(LENGTHS, second_starts=seconds)
    ids = torch.randint(5, 50, (sum(LENGTHS),), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", precision, enabled=precision is not None):
        expected = encoder(ids, layout)
        for n_layers in range(1, len(encoder.layers) + 1):
            states = lowest_states(encoder, ids, layout, n_layers)
            one = TokenLayout(LENGTHS[1:2], second_starts=seconds and seconds[1:2])
            start = LENGTHS[0]
            assert torch.equal(
                states[start : start + LENGTHS[1]],
                lowest_states(encoder, ids[start : start + LENGTHS[1]], one, n_layers),
            )
            with starting_from(Kept(encoder, n_layers, states)):
                found = encoder(ids, layout)
            close = {"rtol": 1e-4, "atol": 1e-5} if precision is None else {"rtol": 0.1, "atol": 0.1}
            torch.testing.assert_close(found.last_hidden_state, expected.last_hidden_state, **close)
            with starting_from(Kept(encoder, n_layers, states.roll(1, 0))):  # a planted fault
                other = encoder(ids, layout)
            assert (other.last_hidden_state - expected.last_hidden_state).abs().max() > 0.2


def test_they_are_of_one_encoder_in_one_thread_and_of_plain_packed_batches():
    encoder, other = make_encoder("XLM-R").eval(), make_encoder("XLM-R").eval()
    ids, layout = torch.arange(5, 15), TokenLayout([4, 6])
    with torch.no_grad():
        expected = encoder(ids, layout).last_hidden_state
        with starting_from(Kept(encoder, 1, torch.full((10, encoder.config.hidden_size), 2.0))):
            assert not torch.equal(encoder(ids, layout).last_hidden_state, expected)
            assert torch.equal(other(ids, layout).last_hidden_state, expected)
            assert torch.equal(encoder(ids, layout, output_hidden_states=True).last_hidden_state, expected)
            assert torch.equal(encoder(ids, layout, position_ids=layout.places + 2).last_hidden_state, expected)
            assert encoder(ids, layout, n_layers=0).last_hidden_state.shape == expected.shape
            assert encoder(ids[None, :4]).last_hidden_state.shape == (1, 4, encoder.config.hidden_size)
        assert torch.equal(encoder(ids, layout).last_hidden_state, expected)


def test_they_have_no_graph_and_may_be_trained_on():
    encoder = make_encoder("XLM-R")
    ids, layout = torch.arange(5, 15), TokenLayout([4, 6])
    states = lowest_states(encoder.eval(), ids, layout, 1)
    assert not states.requires_grad and not states.is_inference()
    with starting_from(Kept(encoder, 1, states)):
        encoder(ids, layout).last_hidden_state.sum().backward()
    has_gradient = [parameter.grad is not None for parameter in encoder.encoder.layer[0].parameters()]
    assert not any(has_gradient)
    assert encoder.encoder.layer[1].output.dense.weight.grad is not None


@pytest.mark.parametrize("activation", ["gelu", "gelu_new", "gelu_pytorch_tanh", "relu"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-5), (torch.float64, 1e-12)], ids=str)
def test_every_activation_is_that_of_the_encoder(activation, dtype, tolerance):
    encoder = encoder_of(32, 4, 64, 2, activation).to(dtype)
    lengths = [3, 9, 1, 20]
    ids, layout = (
        torch.randint(5, 1000, (sum(lengths),), generator=torch.Generator().manual_seed(1)),
        TokenLayout(lengths),
    )
    with torch.no_grad():
        expected = encoder(ids, layout).last_hidden_state
    torch.testing.assert_close(lowest_states(encoder, ids, layout, 2), expected, atol=tolerance, rtol=0)
