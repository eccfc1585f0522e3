"""The only attention, and the only place that chooses a kernel.

Shape legend: T packed tokens, N sequences, S tokens of a padded row, H heads, d head size, C = H * d.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from skxlmr.nn.layout import TokenLayout

# Up to this many tokens a row two matrix products beat the fused kernel in float32 on two CPU cores.
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
) -> tuple[Tensor, Tensor | None]:
    """Scaled dot-product self-attention inside each sequence of a batch.

    Parameters
    ----------
    q, k, v : Tensor
        Projections, (T, C) for a packed layout and (N, S, C) for a padded one.
    layout : TokenLayout
        Where the sequences lie.
    head_size : int
        Width of one head.
    dropout : float
        Probability of dropping an attention weight; the caller passes 0 outside training.
    head_mask : Tensor of shape (H,), optional
        Factor for each head's weights.
    need_weights : bool
        Return the attention weights too, (N, H, S, S); padded layouts only.

    Returns
    -------
    context : Tensor of q's shape
    weights : Tensor or None
    """
    if layout.is_padded:
        assert layout.mask_NS is not None
        q, k, v = (_heads(x, head_size) for x in (q, k, v))
        mask = None if _all_true(layout.mask_NS) else layout.mask_NS[:, None, None, :]
        if need_weights or head_mask is not None:
            context, weights = _attend_explicitly(q, k, v, mask, dropout, head_mask)
            return _merge(context), weights
        return _merge(_attend_rectangle(q, k, v, mask, dropout)), None
    if need_weights or head_mask is not None:
        raise ValueError("attention weights and head_mask need a padded batch: pass ids of shape (rows, tokens)")
    if q.is_cuda and dropout == 0 and q.dtype in (torch.bfloat16, torch.float16) and head_size % 8 == 0:
        return _attend_varlen(q, k, v, layout, head_size), None
    return _attend_groups(q, k, v, layout, head_size, dropout), None


def _heads(x: Tensor, head_size: int) -> Tensor:
    """Split (N, S, C) into (N, H, S, d)."""
    return x.unflatten(-1, (-1, head_size)).transpose(1, 2)


def _merge(x_NHSd: Tensor) -> Tensor:
    """Join (N, H, S, d) to (N, S, C)."""
    return x_NHSd.transpose(1, 2).flatten(2)


def _all_true(mask: Tensor) -> bool:
    # On a GPU the answer would cost a synchronisation, so there the mask is always passed on.
    return not mask.is_cuda and bool(mask.all())


def _attend_rectangle(q_NHSd, k_NHSd, v_NHSd, mask, dropout):
    """Context (N, H, S, d) by the fastest kernel for a rectangle.

    On a CPU two matrix products win over the fused kernel for short rows, for bfloat16 (which the fused kernel does not
    compute with at full rate) and with dropout (which it does not have).
    """
    width = q_NHSd.shape[2]
    if not q_NHSd.is_cuda and (width <= SHORT_ROW or dropout or q_NHSd.dtype == torch.bfloat16):
        return _attend_explicitly(q_NHSd, k_NHSd, v_NHSd, mask, dropout, None)[0]
    return F.scaled_dot_product_attention(q_NHSd, k_NHSd, v_NHSd, attn_mask=mask, dropout_p=dropout)


def _attend_explicitly(q_NHSd, k_NHSd, v_NHSd, mask, dropout, head_mask):
    """Context (N, H, S, d) and attention weights (N, H, S, S)."""
    scores_NHSS = (q_NHSd * q_NHSd.shape[-1] ** -0.5) @ k_NHSd.transpose(-1, -2)
    if mask is not None:
        scores_NHSS = scores_NHSS.masked_fill(~mask, torch.finfo(scores_NHSS.dtype).min)
    weights_NHSS = scores_NHSS.softmax(-1)
    if dropout:
        weights_NHSS = F.dropout(weights_NHSS, dropout)
    if head_mask is not None:
        weights_NHSS = weights_NHSS * head_mask.view(1, -1, 1, 1)
    return weights_NHSS @ v_NHSd, weights_NHSS


def _attend_groups(q, k, v, layout, head_size, dropout):
    """Rectangles of like length, one call each: hardly any padding, and none outside the kernel."""
    outputs = []
    for group in layout.groups:
        q_NHSd, k_NHSd, v_NHSd = (_to_rectangle(x[group.tokens], group, head_size) for x in (q, k, v))
        mask = None if group.mask_NS is None else group.mask_NS[:, None, None, :]
        out = _merge(_attend_rectangle(q_NHSd, k_NHSd, v_NHSd, mask, dropout)).flatten(0, 1)
        outputs.append(out if group.place_of_token is None else out.index_select(0, group.place_of_token))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def _to_rectangle(x_TC, group, head_size):
    """Tokens of a group as (N, H, S, d)."""
    x = x_TC if group.token_of_place is None else x_TC.index_select(0, group.token_of_place)
    return _heads(x.view(group.count, group.width, -1), head_size)


def _attend_varlen(q, k, v, layout, head_size):
    """Flash attention over packed sequences (CUDA, half precision)."""
    from torch.nn.attention.varlen import varlen_attn

    q_THd, k_THd, v_THd = (x.unflatten(-1, (-1, head_size)) for x in (q, k, v))
    longest = max(layout.lengths)
    out = varlen_attn(q_THd, k_THd, v_THd, layout.bounds, layout.bounds, longest, longest)
    assert isinstance(out, torch.Tensor)
    return out.flatten(1)
