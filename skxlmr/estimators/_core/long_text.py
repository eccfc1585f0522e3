"""Texts longer than a row: cut at their end, or shown whole in windows.

Shape suffix: N rows of the input.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators.parameters import LongTextParameters
from skxlmr.text import EncodedBatch, SubwordSampling
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
        lengths_N = self.tokenizer_.encode_batch(texts.first, texts.second).lengths
        n_tokens_N = lengths_N - self.tokenizer_.n_special(texts.second is not None)
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

    def _tokenize(
        self, texts: Texts, limit: int, parse_special: bool, sampling: SubwordSampling | None
    ) -> EncodedBatch:
        return self.tokenizer_.encode_batch(
            texts.first,
            texts.second,
            max_length=limit,
            stride=self.stride if self.long_text == "window" else None,
            parse_special=parse_special,
            sampling=sampling,
        )
