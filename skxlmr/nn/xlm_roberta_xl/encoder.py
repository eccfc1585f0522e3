"""The encoder of XLM-RoBERTa-XL. Its embeddings have no layer norm; positions are XLM-R's."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from skxlmr.nn import layers
from skxlmr.nn.backbone import LayerCall
from skxlmr.nn.config import ModelConfig
from skxlmr.nn.decoding.cache import DecoderContext
from skxlmr.nn.kernels.linear import LayerLinear, row_by_row
from skxlmr.nn.layers import CrossAttention, Dropout, EmbeddingSum, Intermediate, SelfAttention, with_residual
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.xlm_roberta import XLMRobertaEncoder


class Embeddings(EmbeddingSum):
    """The sum of the embeddings, dropout."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, *inputs: Any, **further: Any) -> Tensor:
        """The arguments are those of :class:`EmbeddingSum`."""
        return self.dropout(super().forward(*inputs, **further))


class Output(nn.Module):
    """Dense layer, dropout, residual: the end of each half of a layer."""

    def __init__(self, config: ModelConfig, n_inputs: int, dropout: float = 0.0):
        super().__init__()
        self.dense = LayerLinear(n_inputs, config.hidden_size)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        return with_residual(self.dense, self.dropout, x, residual)


class Attention(nn.Module):
    """First half of a layer; cross-attention has the same form."""

    def __init__(self, config: ModelConfig, attention: type[SelfAttention] = SelfAttention):
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.self = attention(config)
        self.output = Output(config, config.hidden_size, config.hidden_dropout_prob)

    def forward(self, x: Tensor, *inputs: Any, **further: Any) -> tuple[Tensor, Tensor | None]:
        attended, weights = self.self(self.self_attn_layer_norm(x), *inputs, **further)
        return self.output(attended, x), weights


class Layer(nn.Module):
    """One pre-layer-norm transformer layer. Unlike the first half, the second ends without dropout."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.attention = Attention(config)
        self.crossattention = Attention(config, CrossAttention) if config.add_cross_attention else None
        self.intermediate = Intermediate(config)
        self.output = Output(config, config.intermediate_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        x: Tensor,
        layout: TokenLayout,
        need_weights: bool = False,
        head_mask: Tensor | None = None,
        context: DecoderContext | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        x, weights = self.attention(x, layout, need_weights, head_mask, context)
        if context is not None and context.source_NKD is not None:
            assert self.crossattention is not None
            x, _ = self.crossattention(x, layout, context=context)
        return row_by_row(self._feed_forward, x), weights

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.output(self.intermediate(self.LayerNorm(x)), x)


class LayerStack(layers.LayerStack):
    """The layers and the layer norm after them, under Hugging Face's names."""

    layer_class = Layer

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def top(self, x: Tensor, *inputs: Any) -> tuple[Tensor, Tensor | None]:
        """Run the highest layer, then the norm after it."""
        x, weights = self.layer[-1](x, *inputs)
        return self.LayerNorm(x), weights


class XLMRobertaXLEncoder(XLMRobertaEncoder):
    """The encoder.

    The last layer norm belongs to the highest layer. So, as in the reference, the vectors of lower layers (``hidden_states``,
    ``n_layers``) are those before any norm, and only those of the highest layer are normalised.
    """

    embeddings_class = Embeddings
    stack_class = LayerStack
    encoder: LayerStack

    @property
    def layers(self) -> Sequence[LayerCall]:
        """The layers, from the lowest to the highest."""
        return [*self.encoder.layer[:-1], self.encoder.top]

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The embeddings, then each layer; the last layer norm goes with the highest."""
        *lower, highest = self.encoder.layer
        return [self.embeddings, *lower, nn.ModuleList([highest, self.encoder.LayerNorm])]
