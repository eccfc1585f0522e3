"""Texts as rows: with the checkpoint's prompt before them, and longer ones cut at their end or shown whole in windows.

Shape suffix: N rows of the input.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators._core.prompts import prepared, windows_with_prompt
from skxlmr.estimators.parameters import LongTextParameters
from skxlmr.text import EncodedBatch
from skxlmr.utils._validation import Texts, check_fitted

if TYPE_CHECKING:
    import pandas as pd


class LongTexts(LongTextParameters, Estimator):
    """Estimators with one output per text that can read long ones in windows, with the checkpoint's prompt before them."""

    def coverage(self, X: Any) -> pd.DataFrame:
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

        Examples
        --------
        >>> from skxlmr import XLMRobertaVectorizer
        >>> texts = ["The room was clean.", "The room was clean, and breakfast was good, but the street was loud."]
        >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini", max_length=12).fit(texts[:1])
        >>> vectorizer.coverage(texts).round(2)
           n_tokens  n_windows  n_dropped  coverage
        0         8          1          0      1.00
        1        24          1         14      0.42
        >>> vectorizer.set_params(long_text="window").coverage(texts)["n_windows"].tolist()
        [1, 3]
        """
        import pandas as pd

        check_fitted(self)
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

    def _logits(self, X: Any) -> np.ndarray:
        """Outputs of the head for each text, (n_rows, n_outputs) float32: the mean of its windows."""
        engine = self._engine()
        encoded = self._encode(self._check_X(X, reset=False))
        return engine.rows(encoded, window_weights=np.ones(len(encoded)))

    def _tokenize(self, texts: Texts, max_length: int, **options: Any) -> EncodedBatch:
        how, options = self._how(), {"stride": self.stride if self.long_text == "window" else None, **options}
        whole = super()._tokenize(prepared(texts, how), max_length, **options)
        prompt = self._prompt_ids(how, texts.second is not None)[1:-1]
        if not len(prompt) or self.long_text != "window":
            return whole
        bare = prepared(texts, replace(how, default_prompt=None))

        def tokenize(rows: np.ndarray) -> EncodedBatch:
            second = None if bare.second is None else [bare.second[i] for i in rows]
            chosen = replace(bare, first=[bare.first[i] for i in rows], second=second, side_by_side=1)
            return super(LongTexts, self)._tokenize(chosen, max_length - len(prompt), **options)

        return windows_with_prompt(whole, tokenize, prompt)

    def _lengths(self, texts: Texts) -> tuple[np.ndarray, int]:
        """Tokens of each row that is not cut, and how many of them are not the texts'."""
        how, pair = self._how(), texts.second is not None
        read = prepared(texts, how)
        return self.tokenizer_.encode_batch(read.first, read.second).lengths, self._n_around(how, pair)
