"""Small helpers that know nothing of models: validation, optional imports, scikit-learn's private corners."""
