"""The parts of the encoder: embeddings, the two halves of a layer, pooler; and cross-attention, for decoders.

Shape legend: T packed tokens, N sequences, S tokens of a padded row (K of another one), D hidden size.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skxlmr.nn.attention import attend
from skxlmr.nn.config import ModelConfig
from skxlmr.nn.decoding.cache import DecoderContext
from skxlmr.nn.kernels.linear import LayerLinear, Linear, TextLinear, is_plain, of_texts, row_by_row, together
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.randomness import dropout


class Dropout(nn.Dropout):
    """``torch.nn.Dropout`` through :func:`dropout`."""

    def forward(self, input: Tensor) -> Tensor:
        return dropout(input, self.p) if self.training else input


class EmbeddingSum(nn.Module):
    """Sum of word, position and token-type embeddings."""

    has_token_types: ClassVar[bool] = True

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.padding_idx = config.pad_token_id
        self.max_positions = config.max_position_embeddings
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=self.padding_idx)
        self.position_embeddings = nn.Embedding(self.max_positions, config.hidden_size, padding_idx=self.padding_idx)
        if self.has_token_types:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)

    def forward(
        self,
        input_ids: Tensor | None,
        layout: TokenLayout,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        n_cached: int = 0,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            position_ids = self._position_ids(input_ids, x, layout, n_cached)
        types = self._token_types(layout, token_type_ids)
        x = x if types is None else x + types
        return x + self.position_embeddings(position_ids)

    def _token_types(self, layout: TokenLayout, token_type_ids: Tensor | None) -> Tensor | None:
        """Embeddings of the token types; None if there are none."""
        # Published checkpoints have one token type; for others type 0 is the reference's default.
        types = self.token_type_embeddings
        return types.weight[0] if token_type_ids is None else types(token_type_ids)

    def _position_ids(self, input_ids: Tensor | None, x: Tensor, layout: TokenLayout, n_cached: int) -> Tensor:
        """Positions count the tokens from after the padding index; padding itself has that index.

        As in the reference, they count every place of a cache, padding included: pass your own where this is not wanted.
        """
        longest = layout.longest + n_cached
        n_positions = self.max_positions - self.padding_idx - 1
        if longest > n_positions and layout.is_padded and input_ids is not None:
            longest = int((input_ids != self.padding_idx).sum(1).max()) + n_cached  # padding takes no position
        if longest > n_positions:
            raise ValueError(f"a sequence of {longest} tokens is longer than the {n_positions} positions of the model")
        if not layout.is_padded:
            return self._packed_position_ids(input_ids, layout)
        if input_ids is None:
            positions_S = torch.arange(x.shape[1], device=x.device) + (n_cached + self.padding_idx + 1)
            return positions_S.expand(x.shape[:2])
        mask_NS = (input_ids != self.padding_idx).long()
        return (mask_NS.cumsum(1) + n_cached) * mask_NS + self.padding_idx

    def _packed_position_ids(self, input_ids: Tensor | None, layout: TokenLayout) -> Tensor:
        """The same for a packed batch, in which a padding token is one that a text spells."""
        positions_T = layout.positions_T + (self.padding_idx + 1)
        padding_idx = self.word_embeddings.padding_idx  # a compact vocabulary has its own, or none
        if input_ids is None or padding_idx is None:
            return positions_T
        is_padding_T = input_ids == padding_idx
        on_host = is_padding_T.device.type == "cpu" and not torch.compiler.is_compiling()
        if on_host and not is_padding_T.any():  # a GPU would have to be waited for
            return positions_T
        return torch.where(is_padding_T, self.padding_idx, positions_T - layout.running_sum(is_padding_T))


class Embeddings(EmbeddingSum):
    """The sum of the embeddings, layer norm, dropout."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, *inputs: Any, **further: Any) -> Tensor:
        """The arguments are those of :class:`EmbeddingSum`."""
        return self.dropout(self.LayerNorm(super().forward(*inputs, **further)))


class SelfAttention(nn.Module):
    """Projections and attention of one layer."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.head_size = config.head_size
        self.dropout = config.attention_probs_dropout_prob
        self.causal = config.is_decoder
        self.query = LayerLinear(config.hidden_size, config.hidden_size)
        self.key = LayerLinear(config.hidden_size, config.hidden_size)
        self.value = LayerLinear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        x: Tensor,
        layout: TokenLayout,
        need_weights: bool = False,
        head_mask: Tensor | None = None,
        context: DecoderContext | None = None,
        from_first: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v, keys = self._project(x, context)
        return attend(
            layout.first(q) if from_first else q,
            k,
            v,
            layout,
            head_size=self.head_size,
            dropout=self.dropout if self.training else 0.0,
            head_mask=head_mask,
            need_weights=need_weights,
            causal=self.causal,
            keys=keys,
            from_first=from_first,
        )

    def _project(self, x: Tensor, context: DecoderContext | None) -> tuple[Tensor, Tensor, Tensor, TokenLayout | None]:
        """Queries of ``x``, keys and values of this text up to its last token, and their layout if it is not that of ``x``."""
        q, k, v = together((self.query, self.key, self.value), x)
        if context is None or context.past is None:
            return q, k, v, None
        return q, *context.past.extend(k, v), context.keys


class CrossAttention(SelfAttention):
    """Attention to the vectors of another text, to all of them; a cache keeps their keys and values."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.causal = False

    def _project(self, x: Tensor, context: DecoderContext | None) -> tuple[Tensor, Tensor, Tensor, TokenLayout | None]:
        assert context is not None
        q, source_NKD, past = self.query(x), context.source_NKD, context.past
        if past is None or past.source is None:
            assert source_NKD is not None
            k, v = together((self.key, self.value), source_NKD)
        else:
            k, v = past.source
        if past is not None:
            past.source = k, v
        return q, k, v, context.source


def with_residual(dense: Linear, dropout: Dropout, x: Tensor, residual: Tensor) -> Tensor:
    """Dense layer, dropout, residual; in one step where nothing is dropped."""
    drops = dropout.training and dropout.p
    return dense(x, residual=residual) if is_plain(dense) and not drops else dropout(dense(x)) + residual


class ResidualOutput(nn.Module):
    """Dense layer, dropout, residual, layer norm: the end of each half of a layer."""

    def __init__(self, config: ModelConfig, n_inputs: int):
        super().__init__()
        self.dense = LayerLinear(n_inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(with_residual(self.dense, self.dropout, x, residual))


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
        self.activation = config.hidden_act
        self.dense = LayerLinear(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x, self.activation)


class Layer(nn.Module):
    """One post-layer-norm transformer layer. With ``from_first`` it returns the vectors (N, D) of the first tokens alone."""

    knows_from_first = True

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
        need_weights: bool = False,
        head_mask: Tensor | None = None,
        context: DecoderContext | None = None,
        from_first: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        attended, weights = self.attention.self(x, layout, need_weights, head_mask, context, from_first)
        if from_first:
            return of_texts(self._after_attention, attended, layout.first(x)), weights
        x = row_by_row(self.attention.output, attended, x)
        if context is not None and context.source_NKD is not None:
            assert self.crossattention is not None
            attended, _ = self.crossattention.self(x, layout, context=context)
            x = row_by_row(self.crossattention.output, attended, x)
        return row_by_row(self._feed_forward, x), weights

    def _after_attention(self, attended: Tensor, x: Tensor) -> Tensor:
        return row_by_row(self._feed_forward, row_by_row(self.attention.output, attended, x))

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.output(self.intermediate(x), x)


class LayerStack(nn.Module):
    """The layers, under the name that Hugging Face gives their list."""

    layer_class: ClassVar[type[nn.Module]] = Layer
    layer: nn.ModuleList

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.layer = nn.ModuleList(self.layer_class(config) for _ in range(config.num_hidden_layers))


class Pooler(nn.Module):
    """Dense layer and tanh on the vector of ``<s>``."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = TextLinear(config.hidden_size, config.hidden_size)

    def forward(self, first_ND: Tensor) -> Tensor:
        return self.dense(first_ND).tanh()
