"""Texts longer than a row: cut at their end, or shown whole in windows.

Shape suffix: N rows of the input.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators.parameters import LongTextParameters
from skxlmr.text import EncodedBatch
from skxlmr.utils._validation import Texts

if TYPE_CHECKING:
    import pandas as pd


class LongTexts(LongTextParameters, Estimator):
    """Estimators with one output per text that can read long ones in windows."""

    def coverage(self, X: Any) -> "pd.DataFrame":
        """How much of each text is read.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str, of shape (n_rows,) or (n_rows, 1) or (n_rows, 2)
            Texts, or pairs of texts.

        Returns
        -------
        DataFrame
            One row per text or pair, with the index of X if it has one: ``n_tokens`` without special tokens, ``n_windows``,
            ``n_dropped`` (tokens that are cut), and ``coverage``, the share of the tokens that is read.
        """
        import pandas as pd

        check_is_fitted(self, "module_")
        texts = self._check_X(X, reset=False)
        if texts.side_by_side > 1:
            raise ValueError(
                f"coverage looks at one column of texts or pairs, got {texts.side_by_side} columns: pass one"
            )
        lengths_N, n_around = self._lengths(texts)
        n_tokens_N = lengths_N - n_around
        n_windows_N, n_dropped_N = np.ones_like(n_tokens_N), np.maximum(lengths_N - self._limit(), 0)
        if self.long_text == "window":
            n_windows_N, n_dropped_N = self._encode(texts).n_windows, np.zeros_like(n_tokens_N)
        columns = {
            "n_tokens": n_tokens_N,
            "n_windows": n_windows_N,
            "n_dropped": n_dropped_N,
            "coverage": 1 - n_dropped_N / np.maximum(n_tokens_N, 1),
        }
        return pd.DataFrame(columns, index=X.index if hasattr(X, "iloc") else None)

    def _lengths(self, texts: Texts) -> tuple[np.ndarray, int]:
        """Tokens of each row that is not cut, and how many of them are not the texts'."""
        lengths_N = self.tokenizer_.encode_batch(texts.first, texts.second).lengths
        return lengths_N, self.tokenizer_.n_special(texts.second is not None)

    def _logits(self, X: Any) -> np.ndarray:
        """Outputs of the head for each text, (n_rows, n_outputs) float32: the mean of its windows."""
        engine = self._engine()
        encoded = self._encode(self._check_X(X, reset=False))
        return engine.rows(encoded, window_weights=np.ones(len(encoded)))

    def _tokenize(self, texts: Texts, max_length: int, **options: Any) -> EncodedBatch:
        stride = self.stride if self.long_text == "window" else None
        return super()._tokenize(texts, max_length, stride=stride, **options)
