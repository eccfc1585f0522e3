"""Multilingual text for scikit-learn: XLM-RoBERTa behind ``fit``, ``predict`` and ``transform``."""

from skxlmr.estimators import XLMRobertaMaskedLM

__version__ = "0.1.0"
__all__ = ["XLMRobertaMaskedLM"]
