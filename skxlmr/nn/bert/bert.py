"""BERT and its task models (Devlin et al. 2019, arXiv:1810.04805): XLM-R's layers under embeddings with token types.

Positions count from 0. The pooler belongs to the classification heads.

Shape legend: T packed tokens, N sequences, S tokens of a padded row, D hidden size, V vocabulary.
"""

from typing import Any

import torch
from torch import Tensor, nn

from skxlmr.nn.backbone import LanguageModel
from skxlmr.nn.bert.config import BertConfig
from skxlmr.nn.config import ModelConfig
from skxlmr.nn.kernels.linear import Linear, OutputLinear, linear
from skxlmr.nn.layers import Dropout, Embeddings
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.xlm_roberta import (
    XLMRobertaEncoder,
    XLMRobertaForQuestionAnswering,
    XLMRobertaForTokenClassification,
    XLMRobertaTask,
)


class BertEmbeddings(Embeddings):
    """Word, position and token-type embeddings, layer norm, dropout. The second text of a pair has token type 1."""

    def __init__(self, config: ModelConfig):
        super().__init__(config)
        self.position_embeddings = nn.Embedding(self.max_positions, config.hidden_size)  # without a row for padding

    def _token_types(self, layout: TokenLayout, token_type_ids: Tensor | None) -> Tensor | None:
        if token_type_ids is None and layout.second_T is not None:
            if self.token_type_embeddings.num_embeddings < 2:
                raise ValueError(
                    "the tokenizer gives second texts the token type 1, but the model has one type only (type_vocab_size is 1)"
                )
            token_type_ids = layout.second_T.long()
        return super()._token_types(layout, token_type_ids)

    def _position_ids(self, input_ids: Tensor | None, x: Tensor, layout: TokenLayout, n_cached: int) -> Tensor:
        """Positions are the places in the sequence, padding included; a second text goes on counting."""
        longest = layout.longest + n_cached
        if longest > self.max_positions:
            raise ValueError(
                f"a sequence of {longest} tokens is longer than the {self.max_positions} positions of the model"
            )
        if not layout.is_padded:
            return layout.places
        return torch.arange(n_cached, longest, device=x.device).expand(x.shape[:2])


class BertEncoder(XLMRobertaEncoder):
    """The encoder: embeddings, layers and, if asked for, the pooler; see :class:`XLMRobertaEncoder`."""

    embeddings_class = BertEmbeddings
    pooler_is_pretrained = True


class BertTask(XLMRobertaTask):
    """What all task models of this family have."""

    backbone_name = "bert"
    encoder_class = BertEncoder


class BertModel(BertTask):
    """The encoder alone, under the name that task checkpoints give it."""

    head_parts = ("bert.pooler",)


class BertForSequenceClassification(BertTask):
    """Encoder with pooler and a projection of its output; also for regression and multi-label targets."""

    head_parts = ("classifier",)
    optional_parts = ("bert.pooler",)

    def __init__(self, config: BertConfig, n_outputs: int):
        super().__init__(config, add_pooler=True)
        self.dropout = Dropout(config.head_dropout)
        self.classifier = OutputLinear(config.hidden_size, n_outputs)

    @property
    def output_layer(self) -> nn.Linear:
        """The layer whose outputs are the logits."""
        return self.classifier

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Logits (N, n_outputs); the arguments are those of :class:`BertEncoder`."""
        x_ND = self.dropout(self.backbone(input_ids, layout, only_first=True, **inputs).pooler_output)
        return self.classifier(x_ND.to(self.classifier.weight.dtype))


class BertForMultipleChoice(BertForSequenceClassification):
    """Encoder with pooler and one score per sequence, which is a prompt with one of its choices."""

    def __init__(self, config: BertConfig):
        super().__init__(config, 1)

    def forward(self, input_ids: Tensor | None = None, layout: TokenLayout | None = None, **inputs: Any) -> Tensor:
        """Scores (N,); the arguments are those of :class:`BertEncoder`."""
        return super().forward(input_ids, layout, **inputs).squeeze(1)


class BertForTokenClassification(BertTask, XLMRobertaForTokenClassification):
    """Encoder with a projection of each token's vector."""


class BertForQuestionAnswering(BertTask, XLMRobertaForQuestionAnswering):
    """Encoder with two logits per token: that the answer starts there, and that it ends there."""


class Transform(nn.Module):
    """Dense layer, activation and layer norm: what the language modelling head does to a token's vector."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.activation = config.hidden_act
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x, self.activation))


class Predictions(nn.Module):
    """The language modelling head, with the word embeddings as the weight of its projection or one of its own."""

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.transform = Transform(config)
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        if not config.tie_word_embeddings:
            self.decoder = Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, x: Tensor, word_embeddings_VD: Tensor) -> Tensor:
        """Return the logits over the vocabulary, (..., V), of token vectors, (..., D)."""
        weight_VD = self.decoder.weight if hasattr(self, "decoder") else word_embeddings_VD
        return linear(self.transform(x), weight_VD, self.bias)


class BertForMaskedLM(BertTask, LanguageModel):
    """Encoder with the language modelling head."""

    head_parts = ("cls.predictions",)
    projection = "cls.predictions.decoder"
    projection_bias = "cls.predictions.bias"

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.cls = nn.ModuleDict({"predictions": Predictions(config)})  # Hugging Face's names

    def project(self, x: Tensor) -> Tensor:
        """Return the logits (..., V) of token vectors (..., D)."""
        return self.cls["predictions"](x, self.backbone.get_input_embeddings().weight)
