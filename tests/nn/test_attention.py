"""Attention over packed batches: how sequences are grouped into rectangles, and that this changes nothing."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from skxlmr.nn import attention
from skxlmr.nn.attention import SHORT_ROW, attend
from skxlmr.nn.kernels import onednn
from skxlmr.nn.layout import GROUP_FILL, GROUP_TOKENS, TokenLayout

HEAD_SIZE, N_HEADS = 4, 2
lengths_lists = st.lists(st.integers(1, 90), min_size=1, max_size=14)


def projections(n_tokens, seed=0, requires_grad=False):
    generator = torch.Generator().manual_seed(seed)
    shape = (n_tokens, HEAD_SIZE * N_HEADS)
    return [
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_(requires_grad) for _ in range(3)
    ]


def attend_one_by_one(q, k, v, lengths, causal=False):
    """Each sequence alone, through torch's own attention."""
    rows = []
    for parts in zip(*(x.split(lengths) for x in (q, k, v)), strict=True):
        q_HSd, k_HSd, v_HSd = (x.unflatten(1, (N_HEADS, HEAD_SIZE)).transpose(0, 1) for x in parts)
        rows.append(F.scaled_dot_product_attention(q_HSd, k_HSd, v_HSd, is_causal=causal).transpose(0, 1).flatten(1))
    return torch.cat(rows)


def check_groups(lengths, groups):
    """The rectangles hold every token once and in order, none mixes lengths beyond the limit, and the maps are inverse."""
    end, row = 0, 0
    for group in groups:
        own = lengths[row : row + group.count]
        assert group.tokens == slice(end, end + sum(own)) and group.width == max(own)
        if len(set(own)) == 1:
            assert group.mask_NS is group.token_of_place is group.place_of_token is None
        else:
            assert min(own) >= GROUP_FILL * max(own)
            assert group.mask_NS.sum(1).tolist() == own
            tokens = group.token_of_place[group.place_of_token]
            assert torch.equal(tokens, torch.arange(sum(own)))
            assert torch.equal(group.token_of_place[group.mask_NS.flatten()], tokens)
        end, row = end + sum(own), row + group.count
    assert (end, row) == (sum(lengths), len(lengths))
    return groups


@given(lengths=lengths_lists, in_order=st.booleans())
@settings(deadline=None, max_examples=60, derandomize=True)
def test_packed_attention_equals_attention_row_by_row(lengths, in_order):
    lengths = sorted(lengths, reverse=True) if in_order else lengths
    layout = TokenLayout(lengths)
    check_groups(lengths, layout.padded_groups)
    check_groups(lengths, layout.groups)
    assert all(group.mask_NS is None for group in layout.groups)
    q, k, v = projections(sum(lengths))
    expected = attend_one_by_one(q, k, v, lengths)
    for way in (torch.enable_grad, torch.no_grad):  # which have groups of their own
        with way():
            found, weights = attend(q, k, v, layout, head_size=HEAD_SIZE)
        assert weights is None
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("lengths", "counts"),
    [
        ([7, 7, 7], [3]),
        ([8, 7, 6], [3]),
        ([8, 5], [1, 1]),
        ([8, 7, 6, 5], [3, 1]),
        ([6, 7, 8], [3]),
        ([3, 40, 3, 40], [1, 1, 1, 1]),
        ([90, 90, 3, 3, 3], [2, 3]),
        ([1], [1]),
        ([64] * 9, [9]),  # sequences of one length stay together, however many tokens they have
        ([64] * (GROUP_TOKENS // 64) + [63], [GROUP_TOKENS // 64, 1]),
        ([64] * (GROUP_TOKENS // 64 - 1) + [63], [GROUP_TOKENS // 64]),
    ],
    ids=str,
)
def test_groups(lengths, counts):
    assert [group.count for group in check_groups(lengths, TokenLayout(lengths).padded_groups)] == counts


@pytest.mark.parametrize(
    "lengths",
    [[8, 7, 6, 30, 30, 1], [5, 5, 5], [SHORT_ROW + 20, SHORT_ROW + 10, SHORT_ROW]],
    ids=["mixed", "uniform", "long"],
)
def test_gradients_of_packed_attention(lengths):
    expected_inputs, found_inputs = (
        projections(sum(lengths), requires_grad=True),
        projections(sum(lengths), requires_grad=True),
    )
    attend_one_by_one(*expected_inputs, lengths).sin().sum().backward()
    attend(*found_inputs, TokenLayout(lengths), head_size=HEAD_SIZE)[0].sin().sum().backward()
    for found, expected in zip(found_inputs, expected_inputs, strict=True):
        torch.testing.assert_close(found.grad, expected.grad, rtol=0, atol=1e-12)


@pytest.fixture
def fused(monkeypatch):
    """Widths of the rectangles that the fused kernel was called for."""
    widths, kernel = [], F.scaled_dot_product_attention

    def watched(q, *args, **options):
        widths.append(q.shape[2])
        return kernel(q, *args, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    return widths


def on_processor(monkeypatch, fast_blas, amx):
    monkeypatch.setattr(onednn, "blas_is_as_fast", lambda: fast_blas)
    monkeypatch.setattr(onednn, "sums_by_rows", lambda: amx)


@pytest.mark.parametrize("fast_blas", [False, True])
@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("length", [1, 9, SHORT_ROW - 1, SHORT_ROW, SHORT_ROW + 1])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_both_kernels_agree(monkeypatch, fused, dtype, length, amx, fast_blas):
    q, k, v = (x.to(dtype) for x in projections(2 * length))
    expected = attend_one_by_one(q.double(), k.double(), v.double(), [length, length])
    on_processor(monkeypatch, fast_blas, amx)
    fused.clear()
    found, _ = attend(q, k, v, TokenLayout([length, length]), head_size=HEAD_SIZE)
    assert found.dtype == dtype
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.bfloat16: 2e-2}[dtype]
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=tolerance)
    is_fused = amx if dtype == torch.bfloat16 else length > SHORT_ROW or (fast_blas and dtype == torch.float32)
    assert fused == [length] * is_fused


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("learns", [None, 0, 1, 2])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("form", ["packed", "padded", "dropout"])
def test_where_the_fused_kernel_is_used(monkeypatch, fused, dtype, learns, causal, form):
    """For rows without padding, dropout and gradients: those of q, k or v have gradients of their own."""
    on_processor(monkeypatch, fast_blas=True, amx=True)
    inputs = [x.to(dtype).requires_grad_(i == learns) for i, x in enumerate(projections(18))]
    layout, dropout = TokenLayout([9, 9]), 0.5 if form == "dropout" else 0.0
    if form == "padded":
        layout = TokenLayout.padded((2, 9), torch.arange(9) < torch.tensor([[9], [4]]))
    q, k, v = (x.view(2, 9, -1) if form == "padded" else x for x in inputs)
    found, _ = attend(q, k, v, layout, head_size=HEAD_SIZE, dropout=dropout, causal=causal)
    assert fused == [9] * (form == "packed" and learns is None)
    if learns is not None:
        (slope,) = torch.autograd.grad(found.float().square().sum(), inputs[learns], create_graph=True)
        slope.float().square().sum().backward()
        assert inputs[learns].grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_row_that_is_masked_entirely(monkeypatch, dtype):
    """It attends to all places alike, as the reference's eager attention does, whatever the processor."""
    on_processor(monkeypatch, fast_blas=True, amx=True)
    q, k, v = (x.to(dtype).view(2, 9, -1) for x in projections(18))
    layout = TokenLayout.padded((2, 9), torch.tensor([[True], [False]]).expand(2, 9))
    found, _ = attend(q, k, v, layout, head_size=HEAD_SIZE)
    expected = v[1].float().mean(0).expand(9, -1)
    torch.testing.assert_close(found[1].float(), expected, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-2)


def test_no_rows_and_no_keys():
    empty = torch.zeros(0, 5, 8)
    assert attend(empty, empty, empty, TokenLayout.padded((0, 5)), head_size=HEAD_SIZE)[0].shape == (0, 5, 8)
    q, k = torch.ones(3, 5, 8), torch.zeros(3, 0, 8)
    layout, keys = TokenLayout.padded((3, 5)), TokenLayout.padded((3, 0))
    found, weights = attend(q, k, k, layout, head_size=HEAD_SIZE, keys=keys, need_weights=True)
    assert found.shape == (3, 5, 8) and not found.any() and weights.shape == (3, N_HEADS, 5, 0)


def test_padded_attention_ignores_masked_places():
    lengths = [5, 2, 4]
    mask = torch.arange(5) < torch.tensor(lengths)[:, None]
    rectangles = [
        torch.randn(3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(i)) for i in range(3)
    ]
    layout = TokenLayout.padded((3, 5), mask)
    found, weights = attend(*rectangles, layout, head_size=HEAD_SIZE, need_weights=True)
    expected = attend_one_by_one(*(x[mask] for x in rectangles), lengths)
    torch.testing.assert_close(found[mask], expected, rtol=0, atol=1e-12)
    assert weights.shape == (3, N_HEADS, 5, 5)
    assert not weights.masked_select(~mask[:, None, None]).any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, N_HEADS, 5, dtype=torch.float64))


@pytest.mark.parametrize("padded", [False, True])
def test_dropout_drops_that_share_of_the_weights(padded):
    """With values of one, a token's context is the sum of its surviving weights."""
    size, rate = 60, 0.3
    q = torch.zeros(size, 8, dtype=torch.float64)
    layout = TokenLayout.padded((1, size)) if padded else TokenLayout([size])
    inputs = [x[None] if padded else x for x in (q, q, torch.ones_like(q))]
    torch.manual_seed(0)
    context, _ = attend(*inputs, layout, head_size=HEAD_SIZE, dropout=rate)
    survivors = context[..., ::HEAD_SIZE] * (1 - rate)
    assert survivors.mean().item() == pytest.approx(1 - rate, abs=0.02)
    assert survivors.std() > 0.01


def stand_in_for_varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size=(-1, -1)):
    """What torch's CUDA kernel computes from its documented arguments, sequence by sequence."""
    assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32 and window_size in [(-1, -1), (-1, 0)]
    outputs = []
    for start, end, start_k, end_k in zip(cu_seq_q, cu_seq_q[1:], cu_seq_k, cu_seq_k[1:], strict=False):
        assert end - start <= max_q and end_k - start_k <= max_k
        q_HSd, k_HSd, v_HSd = (x.transpose(0, 1) for x in (query[start:end], key[start_k:end_k], value[start_k:end_k]))
        context = F.scaled_dot_product_attention(q_HSd, k_HSd, v_HSd, is_causal=window_size[1] == 0)
        outputs.append(context.transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("causal", [False, True])
def test_arguments_of_the_kernel_for_packed_rows(monkeypatch, causal):
    """The path of a batch on a GPU in half precision; the kernel itself is torch's."""
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", stand_in_for_varlen_attn)
    monkeypatch.setattr(attention, "_flash_applies", lambda q, head_size: True)
    lengths = [7, 1, 30, 7]
    q, k, v = projections(sum(lengths))
    found, _ = attend(q, k, v, TokenLayout(lengths), head_size=HEAD_SIZE, causal=causal)
    torch.testing.assert_close(found, attend_one_by_one(q, k, v, lengths, causal), rtol=0, atol=1e-12)


def test_the_kernel_for_packed_rows_takes_these_arguments():
    from inspect import signature

    from torch.nn.attention.varlen import varlen_attn

    found, expected = signature(varlen_attn).parameters, signature(stand_in_for_varlen_attn).parameters
    assert [(name, found[name].kind) for name in expected] == [(name, p.kind) for name, p in expected.items()]
    assert found["window_size"].default == expected["window_size"].default


@pytest.mark.parametrize("n_cached", [0, 3])
def test_no_query_of_a_causal_rectangle_is_without_keys(monkeypatch, n_cached):
    """Rows padded on the left: the fused kernel returns the same except at the padding."""
    n_queries = SHORT_ROW + 6  # long enough for the fused kernel
    n_keys = n_cached + n_queries
    mask_NK = torch.arange(n_keys) >= torch.tensor([[0], [5], [n_keys - 1]])
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(3, n, 8, dtype=torch.float64, generator=generator) for n in (n_queries, n_keys, n_keys))
    layout, keys = TokenLayout.padded((3, n_queries), mask_NK[:, n_cached:]), TokenLayout.padded((3, n_keys), mask_NK)
    expected, _ = attend(q, k, v, layout, head_size=HEAD_SIZE, causal=True, keys=keys, need_weights=True)

    kernel = F.scaled_dot_product_attention

    def watched(*args, attn_mask, **options):
        assert attn_mask.expand(3, 1, n_queries, n_keys).any(-1).all()
        return kernel(*args, attn_mask=attn_mask, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", watched)
    found, _ = attend(q, k, v, layout, head_size=HEAD_SIZE, causal=True, keys=keys)
    real = mask_NK[:, n_cached:]
    torch.testing.assert_close(found[real], expected[real], rtol=0, atol=1e-12)


class SizesOfAdditions(TorchDispatchMode):
    """Number of elements of each tensor that is added to in place."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func in (torch.ops.aten.add_.Tensor, torch.ops.aten.add.Tensor):
            self.sizes.append(args[0].numel())
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("from_first", [False, True])
def test_backward_pass_adds_no_tensor_of_the_whole_batch_for_each_group(from_first):
    """Slices would: each makes a gradient of the size of the batch, nearly all zeros, and all of them are added."""
    lengths = [80, 60, 40, 25, 12, 5, 2]
    assert len(TokenLayout(lengths).padded_groups) > 4
    q, k, v = projections(sum(lengths), requires_grad=True)
    if from_first:
        q = q[: len(lengths)].detach().requires_grad_(True)
    out, _ = attend(q, k, v, TokenLayout(lengths), head_size=HEAD_SIZE, from_first=from_first)
    with SizesOfAdditions() as added:
        out.sum().backward()
    assert k.grad.shape == k.shape and k.grad.abs().sum() > 0
    assert added.sizes == []
