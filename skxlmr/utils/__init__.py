"""Small helpers that know nothing of models: validation, optional imports, scikit-learn's private corners."""

from skxlmr.utils._discovery import all_estimators

__all__ = ["all_estimators"]
