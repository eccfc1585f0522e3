"""Multilingual text for scikit-learn: XLM-RoBERTa behind ``fit``, ``predict`` and ``transform``."""

from skxlmr import _version
from skxlmr.batch import BatchPredictor
from skxlmr.conversion import convert
from skxlmr.estimators import (
    XLMClassifier,
    XLMMaskedLM,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaDialogueLM,
    XLMRobertaEmbedder,
    XLMRobertaMaskedLM,
    XLMRobertaMultipleChoiceClassifier,
    XLMRobertaQuestionAnswerer,
    XLMRobertaRegressor,
    XLMRobertaTokenClassifier,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
    XLMVectorizer,
)
from skxlmr.estimators._discovery import all_estimators
from skxlmr.export import export_onnx, load_onnx
from skxlmr.inference import Cache, StoreInfo, cache_info, clear_cache
from skxlmr.persistence import load, push_to_hub, save
from skxlmr.trimming import TrimReport, trim_vocabulary
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._warnings import FitQualityWarning, OutOfMemoryWarning, TruncationWarning, VersionWarning

__version__ = _version.__version__
__all__ = [
    "BatchPredictor",
    "Cache",
    "CheckpointError",
    "FitQualityWarning",
    "OutOfMemoryWarning",
    "StoreInfo",
    "TrimReport",
    "TruncationWarning",
    "VersionWarning",
    "XLMClassifier",
    "XLMMaskedLM",
    "XLMRobertaCausalLM",
    "XLMRobertaClassifier",
    "XLMRobertaDialogueLM",
    "XLMRobertaEmbedder",
    "XLMRobertaMaskedLM",
    "XLMRobertaMultipleChoiceClassifier",
    "XLMRobertaQuestionAnswerer",
    "XLMRobertaRegressor",
    "XLMRobertaTokenClassifier",
    "XLMRobertaVectorizer",
    "XLMRobertaZeroShotClassifier",
    "XLMVectorizer",
    "all_estimators",
    "cache_info",
    "clear_cache",
    "convert",
    "export_onnx",
    "load",
    "load_onnx",
    "push_to_hub",
    "save",
    "trim_vocabulary",
]
