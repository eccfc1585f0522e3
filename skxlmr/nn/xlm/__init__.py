"""The original XLM (Lample & Conneau 2019, arXiv:1901.07291): encoder and task models."""

from skxlmr.nn.xlm.answer_search import XLMForQuestionAnswering
from skxlmr.nn.xlm.config import XLMConfig
from skxlmr.nn.xlm.encoder import XLMEncoder, XLMModel, XLMTask
from skxlmr.nn.xlm.heads import (
    XLMForMaskedLM,
    XLMForMultipleChoice,
    XLMForQuestionAnsweringSimple,
    XLMForSequenceClassification,
    XLMForTokenClassification,
)

__all__ = [
    "XLMConfig",
    "XLMEncoder",
    "XLMForMaskedLM",
    "XLMForMultipleChoice",
    "XLMForQuestionAnswering",
    "XLMForQuestionAnsweringSimple",
    "XLMForSequenceClassification",
    "XLMForTokenClassification",
    "XLMModel",
    "XLMTask",
]
