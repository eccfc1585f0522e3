"""The XLM-RoBERTa encoder and its task models (Conneau et al. 2020, arXiv:1911.02116).

Modules and parameters carry Hugging Face's names, so that a checkpoint needs no map. Every tensor of token vectors is
(T, D) when packed and (N, S, D) when padded; only attention and pooling look at the layout.

Shape legend: T packed tokens, N sequences, S tokens of a padded row (K of another one), D hidden size, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from skxlmr.nn.backbone import Backbone, EncoderOutput, TaskModule
from skxlmr.nn.cache import KeyValueCache
from skxlmr.nn.config import ModelConfig
from skxlmr.nn.heads import LanguageModelingHead, SequenceClassificationHead
from skxlmr.nn.layers import DecoderContext, Embeddings, LayerStack, Pooler
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.linear import Linear


class XLMRobertaEncoder(Backbone):
    """The encoder: embeddings, layers and, where asked for, the pooler.

    Parameters
    ----------
    config : ModelConfig
        Geometry. With ``is_decoder`` a token attends to itself and those before it alone.
    add_pooler : bool
        Whether to have the pooler.
    """

    def __init__(self, config: ModelConfig, add_pooler: bool = False):
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = LayerStack(config)
        self.pooler = Pooler(config) if add_pooler else None

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The embeddings, then each layer."""
        return [self.embeddings, *self.encoder.layer]

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embeddings."""
        return self.embeddings.word_embeddings

    def set_input_embeddings(self, embeddings: nn.Embedding) -> None:
        """Put other word embeddings in their place."""
        self.embeddings.word_embeddings = embeddings

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
        cache: KeyValueCache | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
    ) -> EncoderOutput:
        """Encode a batch.

        Parameters
        ----------
        input_ids : Tensor of int, (T,) packed with a layout, (N, S) padded without one
        layout : TokenLayout, optional
            Where the sequences of a packed batch lie.
        attention_mask : Tensor of shape (N, S), optional
            For padded batches: 1 for tokens, 0 for padding. All ones by default, as in the reference. With a cache it tells
            of the cached tokens too: (N, cached + S).
        position_ids : Tensor of input_ids' shape, optional
        inputs_embeds : Tensor of shape (T, D) or (N, S, D), optional
            Instead of ``input_ids``.
        head_mask : Tensor of shape (H,) or (n_layers, H), optional
            Factor for each head's attention weights; padded batches only.
        output_hidden_states, output_attentions : bool
            Return every layer's vectors, every layer's attention weights (padded batches only).
        n_layers : int, optional
            Stop after so many layers; the pooler then sees that layer.
        cache : KeyValueCache, optional
            For decoders: what the tokens before this batch left; this one adds to it. Padded batches only.
        encoder_hidden_states : Tensor of shape (N, K, D), optional
            For decoders with cross-attention: vectors of another text. A cache that has seen them keeps what it needs of
            them, yet they are still to be passed. Padded batches only.
        encoder_attention_mask : Tensor of shape (N, K), optional
            1 for the tokens of that text, 0 for padding.

        Returns
        -------
        EncoderOutput

        Raises
        ------
        ValueError
            If both or none of ``input_ids`` and ``inputs_embeds`` are given, shapes disagree, a sequence is too long, or the
            model has no use for a cache or another text.
        """
        given = input_ids if inputs_embeds is None else inputs_embeds
        if given is None or (input_ids is not None and inputs_embeds is not None):
            raise ValueError("pass either input_ids or inputs_embeds")
        n_cached = 0 if cache is None else cache.length
        keys = None
        if layout is None and n_cached:
            keys = TokenLayout.padded((len(given), n_cached + given.shape[1]), attention_mask, given.device)
            layout = TokenLayout.padded(given.shape[:2], device=given.device)
        elif layout is None:
            layout = TokenLayout.padded(given.shape[:2], attention_mask, given.device)
        elif attention_mask is not None:
            raise ValueError("attention_mask belongs to padded batches: a packed batch has a layout instead")
        elif not layout.is_padded and given.shape[: 1 if inputs_embeds is not None else None] != (layout.n_tokens,):
            raise ValueError(
                f"a packed batch whose sequences have {layout.n_tokens} tokens takes ids of shape ({layout.n_tokens},), got "
                f"{tuple(given.shape)}"
            )
        layers = list(self.encoder.layer)[:n_layers]
        head_masks = [None] * len(layers) if head_mask is None else head_mask.expand(len(layers), -1)
        contexts: list[DecoderContext | None] = [None] * len(layers)
        if cache is not None or encoder_hidden_states is not None:
            contexts = self._contexts(layout, keys, cache, encoder_hidden_states, encoder_attention_mask)[:n_layers]

        x = self.embeddings(input_ids, layout, position_ids, inputs_embeds, n_cached)
        hidden_states, attentions = [x], []
        for layer, layer_head_mask, context in zip(layers, head_masks, contexts, strict=True):
            inputs = (x, layout, layer_head_mask, output_attentions, context)
            if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                x, weights = checkpoint(layer, *inputs, use_reentrant=False)
            else:
                x, weights = layer(*inputs)
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

    def _contexts(
        self,
        layout: TokenLayout,
        keys: TokenLayout | None,
        cache: KeyValueCache | None,
        source_NKD: Tensor | None,
        source_mask_NK: Tensor | None,
    ) -> list[DecoderContext | None]:
        """What each layer sees beside its input."""
        if not layout.is_padded:
            raise ValueError("a cache or encoder_hidden_states need a padded batch: pass ids of shape (rows, tokens)")
        if cache is not None and not self.config.is_decoder:
            raise ValueError("a cache is of use to decoders alone: this model's config has is_decoder=False")
        source = None
        if source_NKD is not None:
            if not self.config.add_cross_attention:
                raise ValueError(
                    "encoder_hidden_states need cross-attention: this model's config has add_cross_attention=False"
                )
            source = TokenLayout.padded(source_NKD.shape[:2], source_mask_NK, source_NKD.device)
        pasts = [None] * self.config.num_hidden_layers if cache is None else cache.layers
        return [DecoderContext(past, keys, source_NKD, source) for past in pasts]


class XLMRobertaTask(TaskModule):
    """What all task models of this family have."""

    roberta: XLMRobertaEncoder
    backbone_name = "roberta"


class XLMRobertaModel(XLMRobertaTask):
    """The encoder alone, under the name that task checkpoints give it."""

    def __init__(self, config: ModelConfig, add_pooler: bool = False):
        super().__init__()
        self.roberta = XLMRobertaEncoder(config, add_pooler)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs) -> EncoderOutput:
        """Encode a batch; the arguments are those of :class:`XLMRobertaEncoder`."""
        return self.roberta(input_ids, layout, **inputs)


class XLMRobertaForSequenceClassification(XLMRobertaTask):
    """Encoder with the sequence classification head; also for regression and multi-label targets."""

    def __init__(self, config: ModelConfig, n_outputs: int):
        super().__init__()
        self.roberta = XLMRobertaEncoder(config)
        self.classifier = SequenceClassificationHead(config, n_outputs)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs) -> Tensor:
        """Logits (N, n_outputs); the arguments are those of :class:`XLMRobertaEncoder`."""
        output = self.roberta(input_ids, layout, **inputs)
        return self.classifier(output.layout.first(output.last_hidden_state))


class XLMRobertaForTokenClassification(XLMRobertaTask):
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


class XLMRobertaForQuestionAnswering(XLMRobertaTask):
    """Encoder with two logits for every token: that the answer starts there, and that it ends there."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.roberta = XLMRobertaEncoder(config)
        self.qa_outputs = Linear(config.hidden_size, 2)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs) -> Tensor:
        """Start and end logits (T, 2) or (N, S, 2); the arguments are those of :class:`XLMRobertaEncoder`."""
        x = self.roberta(input_ids, layout, **inputs).last_hidden_state
        return self.qa_outputs(x.to(self.qa_outputs.weight.dtype))


class XLMRobertaForMultipleChoice(XLMRobertaTask):
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


class XLMRobertaForMaskedLM(XLMRobertaTask):
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


class XLMRobertaForCausalLM(XLMRobertaForMaskedLM):
    """Decoder with the language modelling head: the logits of a token are those of the one after it.

    Its forward is that of :class:`XLMRobertaForMaskedLM`, with the cache and the other text of :class:`XLMRobertaEncoder`.
    """

    def __init__(self, config: ModelConfig):
        if not config.is_decoder:
            raise ValueError("a causal language model needs a config with is_decoder=True")
        super().__init__(config)


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
