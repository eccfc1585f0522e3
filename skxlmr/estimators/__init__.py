"""The estimators: scikit-learn's interface over everything else."""

from skxlmr.estimators._classifier import XLMRobertaClassifier
from skxlmr.estimators._masked_lm import XLMRobertaMaskedLM
from skxlmr.estimators._regressor import XLMRobertaRegressor
from skxlmr.estimators._vectorizer import XLMRobertaVectorizer

__all__ = ["XLMRobertaClassifier", "XLMRobertaMaskedLM", "XLMRobertaRegressor", "XLMRobertaVectorizer"]
