"""Multilingual text for scikit-learn: XLM-RoBERTa behind ``fit``, ``predict`` and ``transform``."""

from skxlmr.estimators import XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaRegressor, XLMRobertaVectorizer
from skxlmr.persistence import load, save
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._warnings import TruncationWarning

__version__ = "0.1.0"
__all__ = [
    "CheckpointError",
    "TruncationWarning",
    "XLMRobertaClassifier",
    "XLMRobertaMaskedLM",
    "XLMRobertaRegressor",
    "XLMRobertaVectorizer",
    "load",
    "save",
]
