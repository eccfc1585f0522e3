"""Multilingual text for scikit-learn: XLM-RoBERTa behind ``fit``, ``predict`` and ``transform``."""

from skxlmr.estimators import (
    XLMClassifier,
    XLMMaskedLM,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaDialogueLM,
    XLMRobertaMaskedLM,
    XLMRobertaMultipleChoiceClassifier,
    XLMRobertaQuestionAnswerer,
    XLMRobertaRegressor,
    XLMRobertaTokenClassifier,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
    XLMVectorizer,
)
from skxlmr.persistence import load, save
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._warnings import TruncationWarning

__version__ = "0.1.0"
__all__ = [
    "CheckpointError",
    "TruncationWarning",
    "XLMClassifier",
    "XLMMaskedLM",
    "XLMRobertaCausalLM",
    "XLMRobertaClassifier",
    "XLMRobertaDialogueLM",
    "XLMRobertaMaskedLM",
    "XLMRobertaMultipleChoiceClassifier",
    "XLMRobertaQuestionAnswerer",
    "XLMRobertaRegressor",
    "XLMRobertaTokenClassifier",
    "XLMRobertaVectorizer",
    "XLMRobertaZeroShotClassifier",
    "XLMVectorizer",
    "load",
    "save",
]
