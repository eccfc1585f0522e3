"""What type checkers take for the bases of scikit-learn's classes; nothing imports this file at run time.

scikit-learn ships no types. For mypy a base class without types makes every attribute of an estimator valid, so it must see
none. pyright reads scikit-learn's sources or, as Pylance does, stubs, for which ``GridSearchCV`` takes only subclasses of
scikit-learn's own ``BaseEstimator``.
"""

BaseEstimator = object
ClassifierMixin = object
RegressorMixin = object
TransformerMixin = object

MYPY = False
assert not MYPY  # mypy takes a variable of this name for true, and reads no further

from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin  # noqa: E402, F811

__all__ = ["BaseEstimator", "ClassifierMixin", "RegressorMixin", "TransformerMixin"]
