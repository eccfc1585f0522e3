"""Estimators with ``transform``: how many features they return, and their names."""

from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skxlmr.estimators._core.estimator import Estimator
from skxlmr.utils._sklearn import TransformerMixin
from skxlmr.utils._tables import name_of


class Transformer(TransformerMixin, Estimator):
    """Estimators with ``transform``: names of their ``_n_features_out`` features."""

    @property
    def _n_features_out(self) -> int:
        return self.config_.hidden_size

    @property
    def _n_blocks(self) -> int:
        """Columns of texts whose features stand side by side."""
        return 1

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the output columns: the text column's name and a number.

        If the texts had no name, the class name in lower case takes its place.

        Parameters
        ----------
        input_features : array-like of str, optional
            Names of the input columns; by default those seen in ``fit``.

        Returns
        -------
        ndarray of str

        Raises
        ------
        NotFittedError
            Before ``fit``, and before the first ``transform`` of an estimator that needs no fit.
        ValueError
            If ``input_features`` do not match the columns of X.
        """
        check_is_fitted(self, "module_")
        names = getattr(self, "feature_names_in_", None)
        if input_features is not None:
            given = np.asarray(input_features, dtype=object)
            if names is not None and not np.array_equal(given, names):
                raise ValueError("input_features is not equal to feature_names_in_")
            n_expected = self._n_fitted_columns() or len(given)
            if len(given) != n_expected:
                raise ValueError(
                    f"input_features should have length equal to the number of columns of X, {n_expected}, got {len(given)}"
                )
            names = given
        blocks, own = self._n_blocks, self._series_name or type(self).__name__.lower()
        if blocks == 1:
            prefixes = [own if names is None else "_".join(map(name_of, names))]
        else:
            prefixes = [f"{own}{k}" for k in range(blocks)] if names is None else list(map(name_of, names))
        return np.asarray(self._feature_names(prefixes), dtype=object)

    def _feature_names(self, prefixes: list[str]) -> list[str]:
        """Names of the features of each column of texts, whose names are given."""
        n_each = self._n_features_out // len(prefixes)
        return [f"{prefix}_{i}" for prefix in prefixes for i in range(n_each)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
