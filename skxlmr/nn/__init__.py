"""Tensors in, tensors out: encoders, heads and losses. No files and no strings here."""

from skxlmr.nn.backbone import Backbone, EncoderOutput, LanguageModel, TaskModule
from skxlmr.nn.config import ModelConfig
from skxlmr.nn.decoding.cache import KeyValueCache
from skxlmr.nn.families import FAMILIES, LANGUAGE_MODELS, XLM_ROBERTA, ModelFamily, config_of, family_of
from skxlmr.nn.heads import LanguageModelingHead, SequenceClassificationHead
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.xlm.answer_search import XLMForQuestionAnswering
from skxlmr.nn.xlm.config import XLMConfig
from skxlmr.nn.xlm.encoder import XLMEncoder, XLMModel
from skxlmr.nn.xlm.heads import (
    XLMForMaskedLM,
    XLMForMultipleChoice,
    XLMForQuestionAnsweringSimple,
    XLMForSequenceClassification,
    XLMForTokenClassification,
)
from skxlmr.nn.xlm_roberta import (
    XLMRobertaEncoder,
    XLMRobertaForCausalLM,
    XLMRobertaForMaskedLM,
    XLMRobertaForMultipleChoice,
    XLMRobertaForQuestionAnswering,
    XLMRobertaForSequenceClassification,
    XLMRobertaForTokenClassification,
    XLMRobertaModel,
)
from skxlmr.nn.xlm_roberta_xl.config import XLMRobertaXLConfig
from skxlmr.nn.xlm_roberta_xl.encoder import XLMRobertaXLEncoder
from skxlmr.nn.xlm_roberta_xl.heads import (
    XLMRobertaXLForCausalLM,
    XLMRobertaXLForMaskedLM,
    XLMRobertaXLForMultipleChoice,
    XLMRobertaXLForQuestionAnswering,
    XLMRobertaXLForSequenceClassification,
    XLMRobertaXLForTokenClassification,
    XLMRobertaXLModel,
)

__all__ = [
    "FAMILIES",
    "LANGUAGE_MODELS",
    "XLM_ROBERTA",
    "Backbone",
    "EncoderOutput",
    "KeyValueCache",
    "LanguageModel",
    "LanguageModelingHead",
    "ModelConfig",
    "ModelFamily",
    "SequenceClassificationHead",
    "TaskModule",
    "TokenLayout",
    "XLMConfig",
    "XLMEncoder",
    "XLMForMaskedLM",
    "XLMForMultipleChoice",
    "XLMForQuestionAnswering",
    "XLMForQuestionAnsweringSimple",
    "XLMForSequenceClassification",
    "XLMForTokenClassification",
    "XLMModel",
    "XLMRobertaEncoder",
    "XLMRobertaForCausalLM",
    "XLMRobertaForMaskedLM",
    "XLMRobertaForMultipleChoice",
    "XLMRobertaForQuestionAnswering",
    "XLMRobertaForSequenceClassification",
    "XLMRobertaForTokenClassification",
    "XLMRobertaModel",
    "XLMRobertaXLConfig",
    "XLMRobertaXLEncoder",
    "XLMRobertaXLForCausalLM",
    "XLMRobertaXLForMaskedLM",
    "XLMRobertaXLForMultipleChoice",
    "XLMRobertaXLForQuestionAnswering",
    "XLMRobertaXLForSequenceClassification",
    "XLMRobertaXLForTokenClassification",
    "XLMRobertaXLModel",
    "config_of",
    "family_of",
]
