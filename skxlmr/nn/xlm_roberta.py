"""The XLM-RoBERTa encoder and its task models (Conneau et al. 2020, arXiv:1911.02116).

Modules and parameters have Hugging Face's names, so that a checkpoint needs no map. Token vectors are (T, D) when packed and
(N, S, D) when padded; only attention and pooling look at the layout.

Shape legend: T packed tokens, N sequences, S tokens of a padded row (K of another one), D hidden size, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skxlmr.nn.backbone import Backbone, EncoderOutput, LanguageModel, LayerCall, TaskModule, tokens_of
from skxlmr.nn.config import ModelConfig
from skxlmr.nn.decoding.cache import DecoderContext, KeyValueCache
from skxlmr.nn.heads import LanguageModelingHead, Projection, SequenceClassificationHead
from skxlmr.nn.kernels.linear import Linear, OutputLinear
from skxlmr.nn.layers import Dropout, Embeddings, EmbeddingSum, LayerStack, Pooler
from skxlmr.nn.layout import TokenLayout


class XLMRobertaEncoder(Backbone):
    """The encoder: embeddings, layers and, if asked for, the pooler.

    Parameters
    ----------
    config : ModelConfig
        Geometry. With ``is_decoder`` a token attends only to itself and to those before it.
    add_pooler : bool
        Whether there is a pooler.
    """

    words_name = "embeddings.word_embeddings"
    part_names: ClassVar[tuple[str, ...]] = ("embeddings", "encoder", "pooler")
    embeddings_class: ClassVar[type[EmbeddingSum]] = Embeddings
    stack_class: ClassVar[type[LayerStack]] = LayerStack

    def __init__(self, config: ModelConfig, add_pooler: bool = False):
        super().__init__()
        self.config = config
        self.embeddings = self.embeddings_class(config)
        self.encoder = self.stack_class(config)
        self.pooler = Pooler(config) if add_pooler else None

    @property
    def widest(self) -> int:
        """Width of the states inside the feed-forward half of a layer."""
        return self.config.intermediate_size

    @property
    def layers(self) -> Sequence[LayerCall]:
        """The layers, from the lowest to the highest."""
        return list(self.encoder.layer)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The embeddings, then each layer."""
        return [self.embeddings, *self.encoder.layer]

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
        token_type_ids: Tensor | None = None,
        cache: KeyValueCache | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        only_first: bool = False,
    ) -> EncoderOutput:
        """Encode a batch.

        Parameters
        ----------
        input_ids : Tensor of int, (T,) packed with a layout, (N, S) padded without one
        layout : TokenLayout, optional
            Lengths of the sequences of a packed batch.
        attention_mask : Tensor of shape (N, S), optional
            For padded batches: 1 for tokens, 0 for padding. All ones by default, as in the reference. With a cache it
            covers the cached tokens too: (N, cached + S).
        position_ids : Tensor of input_ids' shape, optional
        inputs_embeds : Tensor of shape (T, D) or (N, S, D), optional
            In place of ``input_ids``.
        head_mask : Tensor of shape (H,) or (n_layers, H), optional
            Factor for the attention weights of each head; padded batches only.
        output_hidden_states, output_attentions : bool
            Return every layer's vectors, every layer's attention weights (padded batches only).
        n_layers : int, optional
            Stop after this number of layers; the pooler then sees the last of them.
        token_type_ids : Tensor of input_ids' shape, optional
            By default 0; for BERT, 1 in the second texts of a packed batch whose layout says where they begin.
        cache : KeyValueCache, optional
            For decoders: keys and values of the tokens before this batch, to which it adds its own. Padded batches only.
        encoder_hidden_states : Tensor of shape (N, K, D), optional
            For decoders with cross-attention: vectors of another text. A cache that has seen them keeps their keys and
            values, but they must still be passed. Padded batches only.
        encoder_attention_mask : Tensor of shape (N, K), optional
            1 for tokens of that text, 0 for padding.
        only_first : bool
            Nothing but ``first`` and ``pooler_output`` is read from what is returned; see :meth:`run_layers`.

        Returns
        -------
        EncoderOutput

        Raises
        ------
        ValueError
            If both or neither of ``input_ids`` and ``inputs_embeds`` are given, shapes disagree, a sequence is too long, or
            the model has no use for a cache or another text.
        """
        given = tokens_of(input_ids, inputs_embeds, layout, attention_mask)
        n_cached = 0 if cache is None else cache.length
        keys = None
        if layout is None and n_cached:
            keys = TokenLayout.padded((len(given), n_cached + given.shape[1]), attention_mask, given.device)
            layout = TokenLayout.padded(given.shape[:2], device=given.device)
        elif layout is None:
            layout = TokenLayout.padded(given.shape[:2], attention_mask, given.device)
        contexts: list[DecoderContext | None] = [None] * self.config.num_hidden_layers
        if cache is not None or encoder_hidden_states is not None:
            contexts = self._contexts(layout, keys, cache, encoder_hidden_states, encoder_attention_mask)
        contexts = contexts[:n_layers]
        head_masks = [None] * len(contexts) if head_mask is None else head_mask.expand(len(contexts), -1)
        others = position_ids, inputs_embeds, token_type_ids, head_mask, output_hidden_states, output_attentions
        prefix = self._prefix(layout, n_layers, *others)
        if prefix is None:
            x = self.embeddings(input_ids, layout, position_ids, inputs_embeds, n_cached, token_type_ids)
        else:
            x = prefix.states(given, layout)
        first = 0 if prefix is None else prefix.n_layers
        return self.run_layers(
            x,
            layout,
            first,
            n_layers,
            output_hidden_states=output_hidden_states,
            output_attentions=output_attentions,
            inputs=list(zip(head_masks, contexts, strict=True))[first:],
            only_first=only_first and not self.config.is_decoder,
        )

    def _contexts(
        self,
        layout: TokenLayout,
        keys: TokenLayout | None,
        cache: KeyValueCache | None,
        source_NKD: Tensor | None,
        source_mask_NK: Tensor | None,
    ) -> list[DecoderContext | None]:
        """What each layer sees as well as its input."""
        if not layout.is_padded:
            raise ValueError("a cache or encoder_hidden_states need a padded batch: pass ids of shape (rows, tokens)")
        if cache is not None and not self.config.is_decoder:
            raise ValueError("a cache is for decoders only: this model's config has is_decoder=False")
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

    backbone_name = "roberta"
    encoder_class: ClassVar[type[Backbone]] = XLMRobertaEncoder

    def __init__(self, config: ModelConfig, add_pooler: bool = False):
        super().__init__()
        self.add_module(self.backbone_name, self.encoder_class(config, add_pooler))


class XLMRobertaModel(XLMRobertaTask):
    """The encoder alone, under the name that task checkpoints give it."""

    head_parts = ("roberta.pooler",)


class XLMRobertaForSequenceClassification(XLMRobertaTask):
    """Encoder with the sequence classification head; also for regression and multi-label targets."""

    head_parts = ("classifier",)

    def __init__(self, config: ModelConfig, n_outputs: int):
        super().__init__(config)
        self.classifier = SequenceClassificationHead(config, n_outputs)

    @property
    def output_layer(self) -> nn.Linear:
        """The layer whose outputs are the logits."""
        return self.classifier.out_proj

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Logits (N, n_outputs); the arguments are those of :class:`XLMRobertaEncoder`."""
        return self.classifier(self.backbone(input_ids, layout, only_first=True, **inputs).first)


class XLMRobertaForTokenClassification(XLMRobertaTask):
    """Encoder with a projection of each token's vector."""

    head_parts = ("classifier",)

    def __init__(self, config: ModelConfig, n_outputs: int):
        super().__init__(config)
        self.dropout = Dropout(config.head_dropout)
        self.classifier = Linear(config.hidden_size, n_outputs)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Logits (T, n_outputs) or (N, S, n_outputs); the arguments are those of :class:`XLMRobertaEncoder`."""
        x = self.dropout(self.backbone(input_ids, layout, **inputs).last_hidden_state)
        return self.classifier(x.to(self.classifier.weight.dtype))


class XLMRobertaForQuestionAnswering(XLMRobertaTask):
    """Encoder with two logits per token: that the answer starts there, and that it ends there."""

    head_parts = ("qa_outputs",)

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.qa_outputs = Linear(config.hidden_size, 2)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Start and end logits (T, 2) or (N, S, 2); the arguments are those of :class:`XLMRobertaEncoder`."""
        x = self.backbone(input_ids, layout, **inputs).last_hidden_state
        return self.qa_outputs(x.to(self.qa_outputs.weight.dtype))


class XLMRobertaForMultipleChoice(XLMRobertaTask):
    """Encoder with pooler and one score per sequence, which is a prompt with one of its choices."""

    head_parts = ("classifier",)
    optional_parts = ("roberta.pooler",)

    def __init__(self, config: ModelConfig):
        super().__init__(config, add_pooler=True)
        self.dropout = Dropout(config.hidden_dropout_prob)
        self.classifier = OutputLinear(config.hidden_size, 1)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Scores (N,); the arguments are those of :class:`XLMRobertaEncoder`."""
        x_ND = self.dropout(self.backbone(input_ids, layout, only_first=True, **inputs).pooler_output)
        return self.classifier(x_ND.to(self.classifier.weight.dtype)).squeeze(1)


class XLMRobertaForMaskedLM(XLMRobertaTask, LanguageModel):
    """Encoder with the language modelling head."""

    head_parts = ("lm_head",)
    projection = "lm_head.decoder"
    projection_bias = "lm_head.bias"

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.lm_head = LanguageModelingHead(config)

    def project(self, x: Tensor) -> Tensor:
        """Return the logits (..., V) of token vectors (..., D)."""
        return self.lm_head(x, self.backbone.get_input_embeddings().weight)


class XLMRobertaForCausalLM(XLMRobertaForMaskedLM):
    """Decoder with the language modelling head: the logits of a token are those of the one after it.

    Its forward is that of all language models, with the cache and the other text of :class:`XLMRobertaEncoder`.
    """

    def __init__(self, config: ModelConfig):
        if not config.is_decoder:
            raise ValueError("a causal language model needs a config with is_decoder=True")
        super().__init__(config)


@torch.no_grad()
def init_weights(module: nn.Module, initializer_range: float, generator: torch.Generator | None = None) -> None:
    """Initialise in place as the reference does: normal weights, zero biases and padding rows, unit layer norms."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Embedding | Projection) and hasattr(part, "weight"):
            part.weight.normal_(0.0, initializer_range, generator=generator)
        if isinstance(part, nn.Embedding) and part.padding_idx is not None:
            part.weight[part.padding_idx].zero_()
        if isinstance(part, nn.LayerNorm):
            part.weight.fill_(1.0)
        if isinstance(bias := getattr(part, "bias", None), nn.Parameter):
            bias.zero_()
