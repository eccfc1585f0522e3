"""DistilBERT and its task models (Sanh et al. 2019, arXiv:1910.01108): BERT's layers under other names, no types, no pooler.

Shape legend: T packed tokens, N sequences, S tokens of a padded row, D hidden size, V vocabulary.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from skxlmr.nn.attention import attend
from skxlmr.nn.backbone import Backbone, LanguageModel, LayerCall
from skxlmr.nn.bert.bert import BertEmbeddings
from skxlmr.nn.bert.config import DistilBertConfig
from skxlmr.nn.decoding.cache import DecoderContext
from skxlmr.nn.heads import Projection
from skxlmr.nn.kernels.linear import LayerLinear, Linear, OutputLinear, TextLinear, of_texts, row_by_row, together
from skxlmr.nn.layers import Dropout
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.xlm_roberta import XLMRobertaEncoder, XLMRobertaForTokenClassification, XLMRobertaTask


class DistilBertEmbeddings(BertEmbeddings):
    """Word and position embeddings, layer norm, dropout."""

    has_token_types = False

    def _token_types(self, layout: TokenLayout, token_type_ids: Tensor | None) -> Tensor | None:
        if token_type_ids is not None:
            raise ValueError("DistilBERT has no token types: leave out token_type_ids")
        return None


class DistilBertAttention(nn.Module):
    """Projections and attention of one layer."""

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.head_size = config.head_size
        self.dropout = config.attention_probs_dropout_prob
        self.q_lin = LayerLinear(config.hidden_size, config.hidden_size)
        self.k_lin = LayerLinear(config.hidden_size, config.hidden_size)
        self.v_lin = LayerLinear(config.hidden_size, config.hidden_size)
        self.out_lin = LayerLinear(config.hidden_size, config.hidden_size)

    def forward(
        self,
        x: Tensor,
        layout: TokenLayout,
        need_weights: bool = False,
        head_mask: Tensor | None = None,
        from_first: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = together((self.q_lin, self.k_lin, self.v_lin), x)
        attended, weights = attend(
            layout.first(q) if from_first else q,
            k,
            v,
            layout,
            head_size=self.head_size,
            dropout=self.dropout if self.training else 0.0,
            head_mask=head_mask,
            need_weights=need_weights,
            from_first=from_first,
        )
        return of_texts(self.out_lin, attended) if from_first else self.out_lin(attended), weights


class FeedForward(nn.Module):
    """Two dense layers with an activation between them, and dropout."""

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.activation = config.hidden_act
        self.lin1 = LayerLinear(config.hidden_size, config.intermediate_size)
        self.lin2 = LayerLinear(config.intermediate_size, config.hidden_size)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.lin2(self.lin1(x, self.activation)))


class DistilBertLayer(nn.Module):
    """One post-layer-norm transformer layer. With ``from_first`` it returns the vectors (N, D) of the first tokens alone."""

    knows_from_first = True

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.attention = DistilBertAttention(config)
        self.sa_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.ffn = FeedForward(config)
        self.output_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(
        self,
        x: Tensor,
        layout: TokenLayout,
        need_weights: bool = False,
        head_mask: Tensor | None = None,
        context: DecoderContext | None = None,
        from_first: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        attended, weights = self.attention(x, layout, need_weights, head_mask, from_first)
        if from_first:
            return of_texts(self._after_attention, attended, layout.first(x)), weights
        return self._after_attention(attended, x), weights

    def _after_attention(self, attended: Tensor, x: Tensor) -> Tensor:
        x = self.sa_layer_norm(attended + x)
        return self.output_layer_norm(row_by_row(self.ffn, x) + x)


class DistilBertEncoder(XLMRobertaEncoder):
    """The encoder: embeddings and layers; see :class:`XLMRobertaEncoder`."""

    part_names = ("embeddings", "transformer")

    def __init__(self, config: DistilBertConfig, add_pooler: bool = False):
        if add_pooler:
            raise ValueError("DistilBERT has no pooler: choose another pooling")
        Backbone.__init__(self)
        self.config = config
        self.embeddings = DistilBertEmbeddings(config)
        layers = nn.ModuleList(DistilBertLayer(config) for _ in range(config.num_hidden_layers))
        self.transformer = nn.ModuleDict({"layer": layers})  # Hugging Face's names
        self.pooler = None

    @property
    def layers(self) -> Sequence[LayerCall]:
        """The layers, from the lowest to the highest."""
        return list(self.transformer["layer"])  # type: ignore[call-overload]  # torch knows it as a Module only

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The embeddings, then each layer."""
        return [self.embeddings, *self.layers]  # type: ignore[list-item]  # they are modules


class DistilBertTask(XLMRobertaTask):
    """What all task models of this family have."""

    backbone_name = "distilbert"
    encoder_class = DistilBertEncoder


class DistilBertModel(DistilBertTask):
    """The encoder alone, under the name that task checkpoints give it."""


class DistilBertForSequenceClassification(DistilBertTask):
    """Encoder with a dense layer, ReLU and projection of the first token; also for regression and multi-label targets."""

    head_parts = ("pre_classifier", "classifier")

    def __init__(self, config: DistilBertConfig, n_outputs: int):
        super().__init__(config)
        self.pre_classifier = TextLinear(config.hidden_size, config.hidden_size)
        self.classifier = OutputLinear(config.hidden_size, n_outputs)
        self.dropout = Dropout(config.seq_classif_dropout)

    @property
    def output_layer(self) -> nn.Linear:
        """The layer whose outputs are the logits."""
        return self.classifier

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Logits (N, n_outputs); the arguments are those of :class:`DistilBertEncoder`."""
        first_ND = self.backbone(input_ids, layout, only_first=True, **inputs).first
        first_ND = first_ND.to(self.pre_classifier.weight.dtype)
        return self.classifier(self.dropout(self.pre_classifier(first_ND).relu()))


class DistilBertForMultipleChoice(DistilBertForSequenceClassification):
    """Encoder with one score per sequence, which is a prompt with one of its choices."""

    def __init__(self, config: DistilBertConfig):
        super().__init__(config, 1)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Scores (N,); the arguments are those of :class:`DistilBertEncoder`."""
        return super().forward(input_ids, layout, **inputs).squeeze(1)


class DistilBertForTokenClassification(DistilBertTask, XLMRobertaForTokenClassification):
    """Encoder with a projection of each token's vector."""


class DistilBertForQuestionAnswering(DistilBertTask):
    """Encoder with two logits per token: that the answer starts there, and that it ends there."""

    head_parts = ("qa_outputs",)

    def __init__(self, config: DistilBertConfig):
        super().__init__(config)
        self.dropout = Dropout(config.qa_dropout)
        self.qa_outputs = Linear(config.hidden_size, 2)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Start and end logits (T, 2) or (N, S, 2); the arguments are those of :class:`DistilBertEncoder`."""
        x = self.dropout(self.backbone(input_ids, layout, **inputs).last_hidden_state)
        return self.qa_outputs(x.to(self.qa_outputs.weight.dtype))


class DistilBertForMaskedLM(DistilBertTask, LanguageModel):
    """Encoder with the language modelling head: dense layer, activation, layer norm and projection."""

    head_parts = ("vocab_transform", "vocab_layer_norm", "vocab_projector")
    projection = "vocab_projector"
    projection_bias = "vocab_projector.bias"

    def __init__(self, config: DistilBertConfig):
        super().__init__(config)
        self.activation = config.hidden_act
        self.vocab_transform = Linear(config.hidden_size, config.hidden_size)
        self.vocab_layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.vocab_projector = Projection(config)

    def project(self, x: Tensor) -> Tensor:
        """Return the logits (..., V) of token vectors (..., D)."""
        x = self.vocab_layer_norm(self.vocab_transform(x, self.activation))
        return self.vocab_projector(x, self.backbone.get_input_embeddings().weight)
