"""Tensors in, tensors out: encoders, heads and losses. No files and no strings here.

The modules are imported, and torch with them, when one of them is first asked for.
"""

from typing import TYPE_CHECKING

from skxlmr.nn.config import ModelConfig
from skxlmr.nn.families import FAMILIES, XLM_ROBERTA, ModelFamily, config_of, family_of, language_models
from skxlmr.nn.layout import TokenLayout
from skxlmr.nn.xlm.config import XLMConfig
from skxlmr.nn.xlm_roberta_xl.config import XLMRobertaXLConfig
from skxlmr.utils._imports.later import names_of

if TYPE_CHECKING:
    from skxlmr.nn.backbone import Backbone, EncoderOutput, LanguageModel, TaskModule
    from skxlmr.nn.decoding.cache import KeyValueCache
    from skxlmr.nn.heads import LanguageModelingHead, SequenceClassificationHead
    from skxlmr.nn.xlm.answer_search import XLMForQuestionAnswering
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

__getattr__ = names_of(
    __name__,
    {
        "backbone": "Backbone EncoderOutput LanguageModel TaskModule",
        "decoding.cache": "KeyValueCache",
        "heads": "LanguageModelingHead SequenceClassificationHead",
        "xlm.answer_search": "XLMForQuestionAnswering",
        "xlm.encoder": "XLMEncoder XLMModel",
        "xlm.heads": "XLMForMaskedLM XLMForMultipleChoice XLMForQuestionAnsweringSimple XLMForSequenceClassification "
        "XLMForTokenClassification",
        "xlm_roberta": "XLMRobertaEncoder XLMRobertaForCausalLM XLMRobertaForMaskedLM XLMRobertaForMultipleChoice "
        "XLMRobertaForQuestionAnswering XLMRobertaForSequenceClassification XLMRobertaForTokenClassification "
        "XLMRobertaModel",
        "xlm_roberta_xl.encoder": "XLMRobertaXLEncoder",
        "xlm_roberta_xl.heads": "XLMRobertaXLForCausalLM XLMRobertaXLForMaskedLM XLMRobertaXLForMultipleChoice "
        "XLMRobertaXLForQuestionAnswering XLMRobertaXLForSequenceClassification XLMRobertaXLForTokenClassification "
        "XLMRobertaXLModel",
    },
)

__all__ = [
    "FAMILIES",
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
    "language_models",
]
