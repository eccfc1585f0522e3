"""Positions, pooling and bounds of packed and padded layouts against numpy."""

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

from skxlmr.nn import TokenLayout, losses
from skxlmr.nn.sentence.pooling import POOLINGS, pool

from .reference import TINY, make_pair, make_rows

LENGTHS = [3, 1, 6]


@pytest.fixture
def vectors():
    return torch.randn(sum(LENGTHS), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def padded(vectors, side):
    width = max(LENGTHS)
    x = torch.full((len(LENGTHS), width, 5), 1e3, dtype=torch.float64)  # would change any mean or maximum
    places = torch.arange(width)
    mask = places < torch.tensor(LENGTHS)[:, None]
    mask = mask if side == "right" else mask.flip(1)
    x[mask] = vectors
    return x, TokenLayout.padded(mask.shape, mask.long())


def test_packed_layout():
    layout = TokenLayout(LENGTHS)
    assert not layout.is_padded and layout.n_tokens == 10
    assert layout.bounds.tolist() == [0, 3, 4, 10] and layout.bounds.dtype == torch.int32
    assert layout.positions_T.tolist() == [0, 1, 2, 0, 0, 1, 2, 3, 4, 5]
    assert layout.lengths_N.tolist() == LENGTHS


def test_padded_layout():
    layout = TokenLayout.padded((2, 4))
    assert layout.is_padded and layout.lengths == [4, 4] and layout.mask_NS.dtype == torch.bool and layout.mask_NS.all()
    with pytest.raises(ValueError, match=r"must have shape \(2, 4\), got \(4, 2\)"):
        TokenLayout.padded((2, 4), torch.ones(4, 2))


@pytest.mark.parametrize("how", ["mean", "max", "first"])
def test_packed_pooling(vectors, how):
    rows = np.split(vectors.numpy(), np.cumsum(LENGTHS)[:-1])
    expected = {"mean": lambda x: x.mean(0), "max": lambda x: x.max(0), "first": lambda x: x[0]}[how]
    np.testing.assert_allclose(
        getattr(TokenLayout(LENGTHS), how)(vectors), np.stack(list(map(expected, rows))), atol=1e-14
    )


@pytest.mark.parametrize(
    ("how", "side"), [("mean", "right"), ("mean", "left"), ("max", "right"), ("max", "left"), ("first", "right")]
)
def test_padded_pooling_equals_packed(vectors, how, side):
    x, layout = padded(vectors, side)
    torch.testing.assert_close(getattr(layout, how)(x), getattr(TokenLayout(LENGTHS), how)(vectors), rtol=0, atol=1e-14)


def test_means_of_half_precision_are_added_up_in_float32():
    x = torch.full((4096, 1), 1.0, dtype=torch.bfloat16)  # bfloat16 cannot count beyond 256
    mean = TokenLayout([4096]).mean(x)
    assert mean.dtype == torch.float32 and mean.item() == 1.0


def weighted_mean(row, first=0):
    return np.average(row, axis=0, weights=np.arange(first, first + len(row)) + 1)


REDUCE = {
    "mean": lambda row: row.mean(0),
    "max": lambda row: row.max(0),
    "cls": lambda row: row[0],
    "lasttoken": lambda row: row[-1],
    "weightedmean": weighted_mean,
    "mean_sqrt_len_tokens": lambda row: row.sum(0) / np.sqrt(len(row)),
}


def pool_in_numpy(encoder, ids, mask, pooling, layers):
    with torch.no_grad():
        states = encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    features = []
    for layer in layers:
        rows = [state[real.astype(bool)] for state, real in zip(states[layer].numpy(), mask.numpy(), strict=True)]
        if pooling in REDUCE:
            features.append([REDUCE[pooling](row) for row in rows])
        else:
            dense = encoder.pooler.dense
            weight, bias = dense.weight.detach().numpy(), dense.bias.detach().numpy()
            features.append([np.tanh(weight @ row[0] + bias) for row in rows])
    matrix = np.concatenate(features, axis=1)
    return matrix


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("layers", [[3], [0], [1, 3], [3, 0, 2]], ids=str)
def test_pool(pooling, layers):
    encoder, _ = make_pair("base", dtype=torch.float64)
    ids, mask = make_rows(TINY, [9, 4, 6])
    layout = TokenLayout(mask.sum(1).tolist())
    with torch.no_grad():
        features = pool(encoder, ids[mask.bool()], layout, pooling, layers)
    expected = pool_in_numpy(encoder, ids, mask, pooling, layers)
    assert features.shape == (3, TINY.hidden_size * len(layers)) and features.dtype == torch.float64
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-12)


def test_pool_runs_only_the_layers_it_needs():
    encoder, _ = make_pair("base")
    encoder.encoder.layer[2].register_forward_hook(lambda *_: pytest.fail("layer 3 was run"))
    ids, _ = make_rows(TINY, [5])
    with torch.no_grad():
        assert pool(encoder, ids[0], TokenLayout([5]), "mean", [0, 2]).dtype == torch.float32


def test_second_texts_count_their_own_positions():
    layout = TokenLayout([3, 1, 2], second_starts=[2, 1, 0])
    for same in (layout, layout.to(torch.device("cpu"))):
        assert same.positions_T.tolist() == [0, 1, 0, 0, 0, 1]
        assert same.second_T.tolist() == [False, False, True, False, True, True]
        assert same.longest_text == 2
    assert TokenLayout([3, 1]).second_T is None and TokenLayout([3, 1]).longest_text == 3


def test_last_token(vectors):
    expected = vectors[np.cumsum(LENGTHS) - 1]
    assert torch.equal(TokenLayout(LENGTHS).last(vectors), expected)
    for side in ("left", "right"):
        x, layout = padded(vectors, side)
        assert torch.equal(layout.last(x), expected)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("pooling", ["mean", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens"])
def test_pool_of_padded_batches(pooling, side):
    encoder, _ = make_pair("base", dtype=torch.float64)
    ids, mask = make_rows(TINY, [9, 4, 6], side)
    with torch.no_grad():
        features = pool(encoder, ids, TokenLayout.padded(mask.shape, mask), pooling, [3])
    np.testing.assert_allclose(features, pool_in_numpy(encoder, ids, mask, pooling, [3]), rtol=0, atol=1e-12)


def test_pool_several_without_the_first_tokens():
    encoder, _ = make_pair("base", dtype=torch.float64)
    ids, mask = make_rows(TINY, [9, 4, 6])
    tokens, layout = ids[mask.bool()], TokenLayout(mask.sum(1).tolist())
    words = list(POOLINGS)
    with torch.no_grad():
        whole = pool(encoder, tokens, layout, words, [1, 3])
        states = encoder(tokens, layout, output_hidden_states=True).hidden_states
        features = pool(encoder, tokens, layout, words, [1, 3], n_skipped=3)
    assert whole.shape == features.shape == (3, 2 * len(words) * TINY.hidden_size)
    one_by_one = [pool(encoder, tokens, layout, word, [layer]).detach() for layer in (1, 3) for word in words]
    np.testing.assert_allclose(whole, torch.cat(one_by_one, 1), rtol=0, atol=1e-12)
    expected = []
    for layer in (1, 3):
        rows = [x.numpy()[3:] for x in states[layer].split(layout.lengths)]
        for word in words[:-1]:
            reduce = REDUCE[word] if word != "weightedmean" else lambda row: weighted_mean(row, 3)  # places stay
            expected.append(np.array([reduce(row) for row in rows]))
        with torch.no_grad():
            expected.append(pool(encoder, tokens, layout, "pooler", [layer]).numpy())  # which reads the first token
    np.testing.assert_allclose(features, np.concatenate(expected, 1), rtol=0, atol=1e-12)


def test_the_last_token_is_never_skipped():
    kept, layout = TokenLayout([3, 5, 1]).without_first(4)
    assert kept.tolist() == [False, False, True, *[False] * 4, True, True] and layout.lengths == [1, 1, 1]


class AppleGPU(TorchFunctionMode):
    """Makes tensors seem to lie on an Apple GPU, whose kernels have no ``segment_reduce``, until they are copied to the CPU."""

    def __init__(self):
        self.on_cpu = []  # kept, so that no other tensor gets their ids

    @property
    def hosted(self):
        return set(map(id, self.on_cpu))

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function == torch.Tensor.device.__get__:
            return torch.device("cpu" if id(args[0]) in self.hosted else "mps")
        if function == torch.segment_reduce:
            assert {id(args[0]), id(kwargs["lengths"])} <= self.hosted, "no such kernel"
        if function not in (torch.Tensor.cpu, torch.Tensor.to):
            return function(*args, **kwargs or {})
        copy = args[0].clone()
        self.on_cpu += [copy] * (function == torch.Tensor.cpu or torch.device(args[1]).type == "cpu")
        return copy


@pytest.mark.parametrize(
    "reduced",
    [
        lambda x_TD, lengths_N: TokenLayout(LENGTHS).mean(x_TD),
        lambda x_TD, lengths_N: TokenLayout(LENGTHS).max(x_TD),
        lambda x_TD, lengths_N: losses.span_cross_entropy(x_TD[:, :2], lengths_N, torch.zeros(3, 2, dtype=torch.int64)),
    ],
    ids=["mean", "max", "span"],
)
def test_the_cpu_reduces_what_lies_on_an_apple_gpu(vectors, reduced):
    vectors.requires_grad_()
    expected = reduced(vectors, torch.tensor(LENGTHS))
    (slope,) = torch.autograd.grad(expected.sum(), vectors)
    lengths_N = torch.tensor(LENGTHS)
    with AppleGPU():
        found = reduced(vectors, lengths_N)
    assert torch.equal(found, expected)
    assert torch.equal(torch.autograd.grad(found.sum(), vectors)[0], slope)
