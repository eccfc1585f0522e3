"""The estimators: scikit-learn's interface over everything else."""

from skxlmr.estimators._masked_lm import XLMRobertaMaskedLM

__all__ = ["XLMRobertaMaskedLM"]
