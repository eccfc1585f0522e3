"""Small helpers that know nothing about models: validation, optional imports, scikit-learn's private corners."""
