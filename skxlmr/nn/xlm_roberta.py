"""The XLM-RoBERTa encoder and its task models (Conneau et al. 2020, arXiv:1911.02116).

Modules and parameters carry Hugging Face's names, so that a checkpoint needs no map. Every tensor of token vectors is
(T, D) when packed and (N, S, D) when padded; only attention and pooling look at the layout.

Shape legend: T packed tokens, N sequences, S tokens of a padded row, D hidden size, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from skxlmr.nn.attention import attend
from skxlmr.nn.config import ModelConfig
from skxlmr.nn.heads import LanguageModelingHead, SequenceClassificationHead
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.linear import Linear

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "gelu_pytorch_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
}


@dataclass
class EncoderOutput:
    """What the encoder returns.

    Attributes
    ----------
    last_hidden_state : Tensor of shape (T, D) or (N, S, D)
    pooler_output : Tensor of shape (N, D), or None without a pooler
    hidden_states : tuple of Tensor, the embeddings' output and each layer's, or None unless asked for
    attentions : tuple of Tensor of shape (N, H, S, S), each layer's weights, or None unless asked for
    layout : TokenLayout of the batch
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None
    layout: TokenLayout


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
    ) -> Tensor:
        x = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if position_ids is None:
            position_ids = self._position_ids(input_ids, x, layout)
        # One row of token types in all published checkpoints; type 0 is the reference's default for the others.
        x = x + self.token_type_embeddings.weight[0] + self.position_embeddings(position_ids)
        return self.dropout(self.LayerNorm(x))

    def _position_ids(self, input_ids: Tensor | None, x: Tensor, layout: TokenLayout) -> Tensor:
        """Positions count the non-padding tokens and start after the padding index; padding itself keeps that index."""
        longest = max(layout.lengths, default=0)
        n_positions = self.max_positions - self.padding_idx - 1
        if longest > n_positions:
            raise ValueError(f"a sequence of {longest} tokens is longer than the {n_positions} positions of the model")
        if not layout.is_padded:
            return layout.positions_T + (self.padding_idx + 1)
        if input_ids is None:
            positions_S = torch.arange(x.shape[1], device=x.device) + (self.padding_idx + 1)
            return positions_S.expand(x.shape[:2])
        mask_NS = (input_ids != self.padding_idx).long()
        return mask_NS.cumsum(1) * mask_NS + self.padding_idx


class SelfAttention(nn.Module):
    """Projections and attention of one layer."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.head_size = config.head_size
        self.dropout = config.attention_probs_dropout_prob
        self.query = Linear(config.hidden_size, config.hidden_size)
        self.key = Linear(config.hidden_size, config.hidden_size)
        self.value = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, layout: TokenLayout, head_mask: Tensor | None, need_weights: bool):
        return attend(
            self.query(x),
            self.key(x),
            self.value(x),
            layout,
            head_size=self.head_size,
            dropout=self.dropout if self.training else 0.0,
            head_mask=head_mask,
            need_weights=need_weights,
        )


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
    """First half of a layer."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.self = SelfAttention(config)
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
        self.intermediate = Intermediate(config)
        self.output = ResidualOutput(config, config.intermediate_size)

    def forward(
        self, x: Tensor, layout: TokenLayout, head_mask: Tensor | None = None, need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        context, weights = self.attention.self(x, layout, head_mask, need_weights)
        x = self.attention.output(context, x)
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


class XLMRobertaEncoder(nn.Module):
    """The encoder: embeddings, layers and, where asked for, the pooler.

    Parameters
    ----------
    config : ModelConfig
        Geometry.
    add_pooler : bool
        Whether to have the pooler.
    """

    def __init__(self, config: ModelConfig, add_pooler: bool = False):
        super().__init__()
        self.config = config
        self.gradient_checkpointing = False
        self.embeddings = Embeddings(config)
        self.encoder = LayerStack(config)
        self.pooler = Pooler(config) if add_pooler else None

    def forward(
        self,
        input_ids: Tensor | None = None,
        layout: TokenLayout | None = None,
        *,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        head_mask: Tensor | None = None,
        output_hidden_states: bool = False,
        output_attentions: bool = False,
        n_layers: int | None = None,
    ) -> EncoderOutput:
        """Encode a batch.

        Parameters
        ----------
        input_ids : Tensor of int, (T,) packed with a layout, (N, S) padded without one
        layout : TokenLayout, optional
            Where the sequences of a packed batch lie.
        attention_mask : Tensor of shape (N, S), optional
            For padded batches: 1 for tokens, 0 for padding. All ones by default, as in the reference.
        position_ids : Tensor of input_ids' shape, optional
        inputs_embeds : Tensor of shape (T, D) or (N, S, D), optional
            Instead of ``input_ids``.
        head_mask : Tensor of shape (H,) or (n_layers, H), optional
            Factor for each head's attention weights; padded batches only.
        output_hidden_states, output_attentions : bool
            Return every layer's vectors, every layer's attention weights (padded batches only).
        n_layers : int, optional
            Stop after so many layers; the pooler then sees that layer.

        Returns
        -------
        EncoderOutput

        Raises
        ------
        ValueError
            If both or none of ``input_ids`` and ``inputs_embeds`` are given, shapes disagree, or a sequence is too long.
        """
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("pass either input_ids or inputs_embeds")
        if layout is None:
            layout = TokenLayout.padded(given.shape[:2], attention_mask, given.device)
        elif attention_mask is not None:
            raise ValueError("attention_mask belongs to padded batches: a packed batch has a layout instead")
        layers = list(self.encoder.layer)[:n_layers]
        head_masks = [None] * len(layers) if head_mask is None else head_mask.expand(len(layers), -1)

        x = self.embeddings(input_ids, layout, position_ids, inputs_embeds)
        hidden_states, attentions = [x], []
        for layer, layer_head_mask in zip(layers, head_masks, strict=True):
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x, weights = checkpoint(layer, x, layout, layer_head_mask, output_attentions, use_reentrant=False)
            else:
                x, weights = layer(x, layout, layer_head_mask, output_attentions)
            if output_hidden_states:
                hidden_states.append(x)
            if output_attentions:
                attentions.append(weights)
        return EncoderOutput(
            last_hidden_state=x,
            pooler_output=None if self.pooler is None else self.pooler(layout.first(x)),
            hidden_states=tuple(hidden_states) if output_hidden_states else None,
            attentions=tuple(attentions) if output_attentions else None,
            layout=layout,
        )


class TaskModule(nn.Module):
    """What all task models have: the encoder, under the name that Hugging Face gives it."""

    roberta: XLMRobertaEncoder


class XLMRobertaModel(TaskModule):
    """The encoder alone, under the name that task checkpoints give it."""

    def __init__(self, config: ModelConfig, add_pooler: bool = False):
        super().__init__()
        self.roberta = XLMRobertaEncoder(config, add_pooler)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs) -> EncoderOutput:
        """Encode a batch; the arguments are those of :class:`XLMRobertaEncoder`."""
        return self.roberta(input_ids, layout, **inputs)


class XLMRobertaForSequenceClassification(TaskModule):
    """Encoder with the sequence classification head; also for regression and multi-label targets."""

    def __init__(self, config: ModelConfig, n_outputs: int):
        super().__init__()
        self.roberta = XLMRobertaEncoder(config)
        self.classifier = SequenceClassificationHead(config, n_outputs)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs) -> Tensor:
        """Logits (N, n_outputs); the arguments are those of :class:`XLMRobertaEncoder`."""
        output = self.roberta(input_ids, layout, **inputs)
        return self.classifier(output.layout.first(output.last_hidden_state))


class XLMRobertaForTokenClassification(TaskModule):
    """Encoder with a projection of every token's vector."""

    def __init__(self, config: ModelConfig, n_outputs: int):
        super().__init__()
        self.roberta = XLMRobertaEncoder(config)
        self.dropout = nn.Dropout(config.head_dropout)
        self.classifier = Linear(config.hidden_size, n_outputs)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs) -> Tensor:
        """Logits (T, n_outputs) or (N, S, n_outputs); the arguments are those of :class:`XLMRobertaEncoder`."""
        x = self.dropout(self.roberta(input_ids, layout, **inputs).last_hidden_state)
        return self.classifier(x.to(self.classifier.weight.dtype))


class XLMRobertaForQuestionAnswering(TaskModule):
    """Encoder with two logits for every token: that the answer starts there, and that it ends there."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.roberta = XLMRobertaEncoder(config)
        self.qa_outputs = Linear(config.hidden_size, 2)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs) -> Tensor:
        """Start and end logits (T, 2) or (N, S, 2); the arguments are those of :class:`XLMRobertaEncoder`."""
        x = self.roberta(input_ids, layout, **inputs).last_hidden_state
        return self.qa_outputs(x.to(self.qa_outputs.weight.dtype))


class XLMRobertaForMultipleChoice(TaskModule):
    """Encoder with pooler and one score for each sequence, a prompt with one of its choices."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.roberta = XLMRobertaEncoder(config, add_pooler=True)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.classifier = Linear(config.hidden_size, 1)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs) -> Tensor:
        """Scores (N,); the arguments are those of :class:`XLMRobertaEncoder`."""
        x_ND = self.dropout(self.roberta(input_ids, layout, **inputs).pooler_output)
        return self.classifier(x_ND.to(self.classifier.weight.dtype)).squeeze(1)


class XLMRobertaForMaskedLM(TaskModule):
    """Encoder with the language modelling head."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.roberta = XLMRobertaEncoder(config)
        self.lm_head = LanguageModelingHead(config)

    def forward(
        self,
        input_ids: Tensor | None = None,
        layout: TokenLayout | None = None,
        *,
        positions: Tensor | None = None,
        **inputs,
    ) -> Tensor:
        """Logits over the vocabulary.

        Parameters
        ----------
        input_ids, layout, **inputs
            As for :class:`XLMRobertaEncoder`.
        positions : Tensor of int, (M,), optional
            Places of a packed batch whose logits are wanted; the head, the most expensive part, is run on these alone.

        Returns
        -------
        Tensor of shape (T, V), (N, S, V) or (M, V)
        """
        x = self.roberta(input_ids, layout, **inputs).last_hidden_state
        return self.project(x if positions is None else x[positions])

    def project(self, x: Tensor) -> Tensor:
        """Logits (..., V) of token vectors (..., D)."""
        return self.lm_head(x, self.roberta.embeddings.word_embeddings.weight)


@torch.no_grad()
def init_weights(module: nn.Module, initializer_range: float, generator: torch.Generator | None = None) -> None:
    """Initialise in place as the reference does: normal weights, zero biases and padding rows, unit layer norms."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding):
            part.weight.normal_(0.0, initializer_range, generator=generator)
        if isinstance(part, nn.Linear) and part.bias is not None:
            part.bias.zero_()
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight[part.padding_idx].zero_()
        if isinstance(part, nn.LayerNorm):
            part.weight.fill_(1.0)
            part.bias.zero_()
        if isinstance(part, LanguageModelingHead):
            part.bias.zero_()
