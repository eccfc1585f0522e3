"""Texts longer than a row: cut at their end, or shown whole in windows.

Shape suffix: N rows of the input.
"""

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skxlmr.estimators._base import BaseXLMRoberta
from skxlmr.inference import mean_of_windows
from skxlmr.text import EncodedBatch, SubwordSampling
from skxlmr.utils._sklearn import Interval, StrOptions
from skxlmr.utils._validation import Texts


class LongTexts(BaseXLMRoberta):
    """Estimators of one prediction a text that can read long ones in windows."""

    long_text: str
    stride: int

    _parameter_constraints: dict = {
        "long_text": [StrOptions({"truncate", "window"})],
        "stride": [Interval(Integral, 0, None, closed="left")],
    }

    def coverage(self, X):
        """How much of each text is read.

        Parameters
        ----------
        X : like in ``fit``

        Returns
        -------
        DataFrame
            One row for each text or pair, with the index of X if that has one: ``n_tokens`` without special tokens,
            ``n_windows``, ``n_dropped`` tokens that are cut, and ``coverage``, the share of the tokens that is read.
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

    def _infer(self, run: Any, encoded: EncodedBatch, per_token: bool = False) -> np.ndarray:
        outputs = super()._infer(run, encoded, per_token)
        return outputs if per_token else mean_of_windows(outputs, encoded, self._window_weights(encoded))

    def _window_weights(self, encoded: EncodedBatch) -> np.ndarray:
        """How much each window counts in the mean of its row, (W,)."""
        return np.ones(len(encoded))
