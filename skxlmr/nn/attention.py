"""The only attention, and the only place that chooses a kernel.

Shape legend: T packed tokens, N sequences, S tokens of a padded row (K of the keys' row), H heads, d head size, C = H * d.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from skxlmr.nn.kernels import onednn
from skxlmr.nn.kernels.int8 import computes_in_int8
from skxlmr.nn.layout import Group, TokenLayout
from skxlmr.nn.randomness import dropout as drop
from skxlmr.utils._devices.device import fast_half

# Up to this many tokens per row, two matrix products beat the fused kernel in float32 on two AMD cores.
SHORT_ROW = 64


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: TokenLayout,
    *,
    head_size: int,
    dropout: float = 0.0,
    head_mask: Tensor | None = None,
    need_weights: bool = False,
    causal: bool = False,
    keys: TokenLayout | None = None,
    from_first: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product attention inside each sequence of a batch.

    Parameters
    ----------
    q, k, v : Tensor
        Projections, (T, C) for a packed layout and (N, S, C) for a padded one.
    layout : TokenLayout
        Layout of the queries.
    head_size : int
        Width of one head.
    dropout : float
        Probability of dropping an attention weight; the caller passes 0 outside training.
    head_mask : Tensor of shape (H,), optional
        Factor for each head's weights.
    need_weights : bool
        Return the attention weights too, (N, H, S, K); padded layouts only.
    causal : bool
        Each token attends only to itself and to those before it. The last query has the position of the last key.
    keys : TokenLayout, optional
        Layout of the keys and values, (N, K, C), if it is not that of the queries: another text, or the same text with the
        tokens before it; padded layouts only.
    from_first : bool
        Only the first token of each sequence attends: ``q`` is (N, C). Packed layouts only, and not causal.

    Returns
    -------
    context : Tensor of q's shape
    weights : Tensor or None
    """
    if layout.is_padded:
        mask_NK = (layout if keys is None else keys).mask_NS
        if mask_NK is None:
            raise ValueError("a padded batch attends to padded keys: pass them with shape (rows, tokens, width)")
        q, k, v = (_heads(x, head_size) for x in (q, k, v))
        # On a GPU, to ask whether there is padding would cost a synchronisation; in a compiled module it would break the graph.
        may_be_padded = mask_NK.is_cuda or torch.compiler.is_compiling() or not mask_NK.all()
        mask = mask_NK[:, None, None, :] if may_be_padded else None
        if need_weights or head_mask is not None:
            context, weights = _attend_explicitly(q, k, v, mask, dropout, head_mask, causal)
            return _merge(context), weights
        return _merge(_attend_rectangle(q, k, v, mask, dropout, causal)), None
    if need_weights or head_mask is not None or keys is not None:
        raise ValueError(
            "attention weights, head_mask and attention to other keys (cross-attention, cache) need a padded batch: pass ids "
            "of shape (rows, tokens)"
        )
    if dropout == 0 and not from_first and _flash_applies(q, head_size):
        return _attend_varlen(q, k, v, layout, head_size, causal), None
    if computes_in_int8() and fast_half(q.device) == torch.bfloat16:
        halves = [x.to(torch.bfloat16) for x in (q, k, v)]
        context = _attend_groups(halves[0], halves[1], halves[2], layout, head_size, dropout, causal, from_first)
        return context.to(q.dtype), None
    return _attend_groups(q, k, v, layout, head_size, dropout, causal, from_first), None


def _heads(x: Tensor, head_size: int) -> Tensor:
    """Split (N, S, C) into (N, H, S, d)."""
    return _split_heads(x, x.shape[0], x.shape[1], head_size)


def _split_heads(x: Tensor, count: int, width: int, head_size: int) -> Tensor:
    return x.view(count, width, x.shape[-1] // head_size, head_size).transpose(1, 2)


def _merge(x_NHSd: Tensor) -> Tensor:
    """Join (N, H, S, d) to (N, S, C)."""
    return x_NHSd.transpose(1, 2).flatten(2)


def _attend_rectangle(
    q_NHSd: Tensor, k_NHKd: Tensor, v_NHKd: Tensor, mask: Tensor | None, dropout: float, causal: bool
) -> Tensor:
    """Context (N, H, S, d) by the fastest kernel for a rectangle."""
    width = q_NHSd.shape[2]
    if not q_NHSd.is_cuda and (dropout or _takes_two_products(q_NHSd, k_NHKd, v_NHKd, mask)):
        return _attend_explicitly(q_NHSd, k_NHKd, v_NHKd, mask, dropout, None, causal)[0]
    if causal and mask is None and width == k_NHKd.shape[2]:
        return F.scaled_dot_product_attention(q_NHSd, k_NHKd, v_NHKd, dropout_p=dropout, is_causal=True)
    if causal:
        mask = _with_self(_with_causal(mask, q_NHSd, k_NHKd), q_NHSd, k_NHKd)
    return F.scaled_dot_product_attention(q_NHSd, k_NHKd, v_NHKd, attn_mask=mask, dropout_p=dropout)


def _takes_two_products(q_NHSd: Tensor, k_NHKd: Tensor, v_NHKd: Tensor, mask: Tensor | None) -> bool:
    """Whether two matrix products are used outside CUDA in place of the fused kernel.

    That kernel is slow for short rows unless the BLAS is made for the processor, and in bfloat16 without AMX. For short rows
    and in bfloat16 it is left out for gradients too, whose own gradient it does not have, and for masks: a row that is masked
    entirely keeps the numbers of the reference's eager attention.
    """
    is_half, is_single = q_NHSd.dtype == torch.bfloat16, q_NHSd.dtype == torch.float32
    if torch.compiler.is_compiling():  # one graph serves all lengths
        return is_half
    if not is_half and q_NHSd.shape[2] > SHORT_ROW:
        return False
    is_fast = onednn.sums_by_rows() if is_half else is_single and onednn.blas_is_as_fast()
    return not is_fast or mask is not None or any(x.requires_grad for x in (q_NHSd, k_NHKd, v_NHKd))


def _attend_explicitly(
    q_NHSd: Tensor,
    k_NHKd: Tensor,
    v_NHKd: Tensor,
    mask: Tensor | None,
    dropout: float,
    head_mask: Tensor | None,
    causal: bool,
) -> tuple[Tensor, Tensor]:
    """Context (N, H, S, d) and attention weights (N, H, S, K)."""
    n_sequences, n_heads, n_queries, head_size = q_NHSd.shape
    q, k, v = (x.flatten(0, 1) for x in (q_NHSd, k_NHKd, v_NHKd))
    scores = torch.baddbmm(q.new_empty(1), q, k.transpose(1, 2), beta=0, alpha=head_size**-0.5)
    scores_NHSK = scores.view(n_sequences, n_heads, n_queries, k_NHKd.shape[2])
    mask = _with_causal(mask, q_NHSd, k_NHKd) if causal else mask
    if mask is not None:
        scores_NHSK = scores_NHSK.masked_fill(~mask, torch.finfo(scores_NHSK.dtype).min)
    weights_NHSK = scores_NHSK.softmax(-1)
    if dropout:
        weights_NHSK = drop(weights_NHSK, dropout)
    if head_mask is not None:
        weights_NHSK = weights_NHSK * head_mask.view(1, -1, 1, 1)
    return torch.bmm(weights_NHSK.flatten(0, 1), v).view(q_NHSd.shape), weights_NHSK


def _with_causal(mask: Tensor | None, q_NHSd: Tensor, k_NHKd: Tensor) -> Tensor | None:
    """The mask of the keys, limited to those up to each query; None if every query may attend to every key."""
    n_queries, n_keys = q_NHSd.shape[2], k_NHKd.shape[2]
    if n_queries == 1:  # the last token attends to all keys
        return mask
    past_SK = torch.ones(n_queries, n_keys, dtype=torch.bool, device=q_NHSd.device).tril(n_keys - n_queries)
    return past_SK if mask is None else mask & past_SK


def _with_self(mask: Tensor | None, q_NHSd: Tensor, k_NHKd: Tensor) -> Tensor | None:
    """The mask with each query's own key added, so that padding before a text attends to something.

    Kernels differ in what they return for a query without keys, and NaN would reach the text through the next layer's values.
    """
    if mask is None:
        return None
    places_K = torch.arange(k_NHKd.shape[2], device=q_NHSd.device)
    return mask | (places_K == places_K[-q_NHSd.shape[2] :, None])


def _attend_groups(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: TokenLayout,
    head_size: int,
    dropout: float,
    causal: bool,
    from_first: bool,
) -> Tensor:
    """One call per group of sequences of one length: what is computed for one depends on no other, to the last bit.

    In training, where each call has a backward pass as well, sequences of similar length share one, with hardly any padding,
    and none outside the kernel. Rows after the last token, which the encoder may have added, become zeros.
    """
    groups = layout.padded_groups if dropout or torch.is_grad_enabled() else layout.groups
    if len(groups) == 1:
        tokens = groups[0].tokens
        parts = [(groups[0], q if from_first else q[tokens], k[tokens], v[tokens])]
    else:  # one split of each: the backward pass of a slice fills and adds a tensor of the whole batch
        sizes = [group.tokens.stop - group.tokens.start for group in groups]
        rows = [group.count for group in groups] if from_first else sizes
        parts = list(zip(groups, _split(q, rows), _split(k, sizes), _split(v, sizes), strict=True))
    outputs = []
    for group, q_TC, k_TC, v_TC in parts:
        k_NHSd, v_NHSd = (_to_rectangle(x, group, head_size) for x in (k_TC, v_TC))
        q_NHSd = _heads(q_TC[:, None], head_size) if from_first else _to_rectangle(q_TC, group, head_size)
        # The rows of a rectangle are padded on the right, where no real token of a causal model looks.
        mask = None if group.mask_NS is None or causal else group.mask_NS[:, None, None, :]
        out = _merge(_attend_rectangle(q_NHSd, k_NHSd, v_NHSd, mask, dropout, causal)).flatten(0, 1)
        place_of_token = None if from_first else group.place_of_token
        outputs.append(out if place_of_token is None else out.index_select(0, place_of_token))
    if n_spare := 0 if from_first else len(q) - layout.n_tokens:
        outputs.append(q.new_zeros(n_spare, q.shape[1]))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _split(x_TC: Tensor, sizes: list[int]) -> tuple[Tensor, ...]:
    """Consecutive rows; those after the last size are left out."""
    n_spare = len(x_TC) - sum(sizes)
    return x_TC.split([*sizes, n_spare])[: len(sizes)]


def _to_rectangle(x_TC: Tensor, group: Group, head_size: int) -> Tensor:
    """The tokens of a group as (N, H, S, d)."""
    x = x_TC if group.token_of_place is None else x_TC.index_select(0, group.token_of_place)
    return _split_heads(x, group.count, group.width, head_size)


def _flash_applies(q: Tensor, head_size: int) -> bool:
    """Whether flash attention has a kernel for these queries: NVIDIA GPUs since Ampere, half precision, heads up to 256."""
    return (
        q.is_cuda
        and q.dtype in (torch.bfloat16, torch.float16)
        and head_size % 8 == 0
        and head_size <= 256
        and torch.cuda.get_device_capability(q.device) >= (8, 0)
    )


def _attend_varlen(q: Tensor, k: Tensor, v: Tensor, layout: TokenLayout, head_size: int, causal: bool) -> Tensor:
    """Flash attention over packed sequences (CUDA, half precision)."""
    from torch.nn.attention.varlen import varlen_attn

    q_THd, k_THd, v_THd = (x.unflatten(-1, (-1, head_size)) for x in (q, k, v))
    longest = max(layout.lengths)
    window = (-1, 0 if causal else -1)  # how far a token looks back and ahead, -1 for no limit
    out = varlen_attn(q_THd, k_THd, v_THd, layout.bounds, layout.bounds, longest, longest, window_size=window)
    assert isinstance(out, torch.Tensor)
    return out.flatten(1)
