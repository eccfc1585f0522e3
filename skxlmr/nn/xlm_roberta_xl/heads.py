"""Task models of XLM-RoBERTa-XL: the heads of XLM-R on its encoder."""

from skxlmr.nn.xlm_roberta import (
    XLMRobertaForCausalLM,
    XLMRobertaForMaskedLM,
    XLMRobertaForMultipleChoice,
    XLMRobertaForQuestionAnswering,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
    XLMRobertaModel,
)
from skxlmr.nn.xlm_roberta_xl.encoder import XLMRobertaXLEncoder


class XLMRobertaXLModel(XLMRobertaModel):
    """The encoder alone, under the name that task checkpoints give it."""

    encoder_class = XLMRobertaXLEncoder


class XLMRobertaXLForSequenceClassification(XLMRobertaForSequenceClassification):
    """Encoder with the sequence classification head; also for regression and multi-label targets."""

    encoder_class = XLMRobertaXLEncoder


class XLMRobertaXLForTokenClassification(XLMRobertaForTokenClassification):
    """Encoder with a projection of each token's vector."""

    encoder_class = XLMRobertaXLEncoder


class XLMRobertaXLForQuestionAnswering(XLMRobertaForQuestionAnswering):
    """Encoder with two logits per token: that the answer starts there, and that it ends there."""

    encoder_class = XLMRobertaXLEncoder


class XLMRobertaXLForMultipleChoice(XLMRobertaForMultipleChoice):
    """Encoder with pooler and one score per sequence, which is a prompt with one of its choices."""

    encoder_class = XLMRobertaXLEncoder


class XLMRobertaXLForMaskedLM(XLMRobertaForMaskedLM):
    """Encoder with the language modelling head."""

    encoder_class = XLMRobertaXLEncoder


class XLMRobertaXLForCausalLM(XLMRobertaForCausalLM):
    """Decoder with the language modelling head: the logits of a token are those of the one after it."""

    encoder_class = XLMRobertaXLEncoder
