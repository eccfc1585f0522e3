"""Tensors in, tensors out: the encoder, its heads and the losses. No files and no strings here."""

from skxlmr.nn.config import ModelConfig
from skxlmr.nn.heads import LanguageModelingHead, SequenceClassificationHead
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.xlm_roberta import (
    EncoderOutput,
    TaskModule,
    XLMRobertaEncoder,
    XLMRobertaForMaskedLM,
    XLMRobertaForMultipleChoice,
    XLMRobertaForQuestionAnswering,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
    XLMRobertaModel,
)

__all__ = [
    "EncoderOutput",
    "LanguageModelingHead",
    "ModelConfig",
    "SequenceClassificationHead",
    "TaskModule",
    "TokenLayout",
    "XLMRobertaEncoder",
    "XLMRobertaForMaskedLM",
    "XLMRobertaForMultipleChoice",
    "XLMRobertaForQuestionAnswering",
    "XLMRobertaForSequenceClassification",
    "XLMRobertaForTokenClassification",
    "XLMRobertaModel",
]
