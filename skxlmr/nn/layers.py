"""The parts of the encoder: embeddings, the two halves of a layer, pooler; and cross-attention, for the use as a decoder.

Shape legend: T packed tokens, N sequences, S tokens of a padded row (K of another one), D hidden size.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skxlmr.nn.attention import attend
from skxlmr.nn.cache import LayerCache
from skxlmr.nn.config import ModelConfig
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.linear import Linear

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


@dataclass(frozen=True)
class DecoderContext:
    """What a layer of a decoder sees beside its input.

    Attributes
    ----------
    past : LayerCache, or None
        Keys and values of the tokens before the input.
    keys : TokenLayout, or None
        Where those tokens and the input's lie together.
    source_NKD : Tensor, or None
        Vectors of another text, which cross-attention looks at.
    source : TokenLayout, or None
        Where these lie.
    """

    past: LayerCache | None
    keys: TokenLayout | None
    source_NKD: Tensor | None
    source: TokenLayout | None


class Embeddings(nn.Module):
    """Word, position and token-type embeddings, layer norm, dropout."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.padding_idx = config.pad_token_id
        self.max_positions = config.max_position_embeddings
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=self.padding_idx)
        self.position_embeddings = nn.Embedding(self.max_positions, config.hidden_size, padding_idx=self.padding_idx)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: Tensor | None,
        layout: TokenLayout,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        n_cached: int = 0,
    ) -> Tensor:
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            position_ids = self._position_ids(input_ids, x, layout, n_cached)
        # One row of token types in all published checkpoints; type 0 is the reference's default for the others.
        x = x + self.token_type_embeddings.weight[0] + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(x))

    def _position_ids(self, input_ids: Tensor | None, x: Tensor, layout: TokenLayout, n_cached: int) -> Tensor:
        """Positions count the non-padding tokens and start after the padding index; padding itself keeps that index.

        Like the reference's, they count every place of a cache, padding too: pass others where that is not meant.
        """
        longest = max(layout.lengths, default=0) + n_cached
        n_positions = self.max_positions - self.padding_idx - 1
        if longest > n_positions and layout.is_padded and input_ids is not None:
            longest = int((input_ids != self.padding_idx).sum(1).max()) + n_cached  # padding takes none
        if longest > n_positions:
            raise ValueError(f"a sequence of {longest} tokens is longer than the {n_positions} positions of the model")
        if not layout.is_padded:
            return layout.positions_T + (self.padding_idx + 1)
        if input_ids is None:
            positions_S = torch.arange(x.shape[1], device=x.device) + (n_cached + self.padding_idx + 1)
            return positions_S.expand(x.shape[:2])
        mask_NS = (input_ids != self.padding_idx).long()
        return (mask_NS.cumsum(1) + n_cached) * mask_NS + self.padding_idx


class SelfAttention(nn.Module):
    """Projections and attention of one layer."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.head_size = config.head_size
        self.dropout = config.attention_probs_dropout_prob
        self.causal = config.is_decoder
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        x: Tensor,
        layout: TokenLayout,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        context: DecoderContext | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v, keys = self.query(x), self.key(x), self.value(x), None
        if context is not None and context.past is not None:
            k, v = context.past.extend(k, v)
            keys = context.keys
        return attend(
            q,
            k,
            v,
            layout,
            head_size=self.head_size,
            dropout=self.dropout if self.training else 0.0,
            head_mask=head_mask,
            need_weights=need_weights,
            causal=self.causal,
            keys=keys,
        )


class CrossAttention(SelfAttention):
    """Attention to the vectors of another text, whose keys and values a cache keeps."""

    def forward(
        self,
        x: Tensor,
        layout: TokenLayout,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        context: DecoderContext | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        assert context is not None
        source_NKD, past = context.source_NKD, context.past
        if past is None or past.source is None:
            k, v = self.key(source_NKD), self.value(source_NKD)
        else:
            k, v = past.source
        if past is not None:
            past.source = k, v
        dropout = self.dropout if self.training else 0.0
        return attend(self.query(x), k, v, layout, head_size=self.head_size, dropout=dropout, keys=context.source)


class ResidualOutput(nn.Module):
    """Dense layer, dropout, residual, layer norm: the end of both halves of a layer."""

    def __init__(self, config: ModelConfig, n_inputs: int):
        super().__init__()
        self.dense = Linear(n_inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class Attention(nn.Module):
    """First half of a layer; cross-attention has the same form."""

    def __init__(self, config: ModelConfig, attention: type[SelfAttention] = SelfAttention):
        super().__init__()
        self.self = attention(config)
        self.output = ResidualOutput(config, config.hidden_size)


class Intermediate(nn.Module):
    """First dense layer of the feed-forward half."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.activation = _ACTIVATIONS.get(config.hidden_act)  # None is exact GELU, which the linear layer brings
        self.dense = Linear(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x, gelu=True) if self.activation is None else self.activation(self.dense(x))


class Layer(nn.Module):
    """One post-layer-norm transformer layer."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention = Attention(config)
        self.crossattention = Attention(config, CrossAttention) if config.add_cross_attention else None
        self.intermediate = Intermediate(config)
        self.output = ResidualOutput(config, config.intermediate_size)

    def forward(
        self,
        x: Tensor,
        layout: TokenLayout,
        head_mask: Tensor | None = None,
        need_weights: bool = False,
        context: DecoderContext | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        attended, weights = self.attention.self(x, layout, head_mask, need_weights, context)
        x = self.attention.output(attended, x)
        if context is not None and context.source_NKD is not None:
            assert self.crossattention is not None
            attended, _ = self.crossattention.self(x, layout, context=context)
            x = self.crossattention.output(attended, x)
        return self.output(self.intermediate(x), x), weights


class LayerStack(nn.Module):
    """The layers, under Hugging Face's name for their list."""

    layer: nn.ModuleList

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.layer = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))


class Pooler(nn.Module):
    """Dense layer and tanh on the vector of ``<s>``."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, first_ND: Tensor) -> Tensor:
        return self.dense(first_ND).tanh()
