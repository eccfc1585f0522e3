"""Texts longer than a row: cut at their end, or shown whole in windows.

Shape suffixes: N rows of the input, W windows.
"""

from numbers import Integral
from typing import Any

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skxlmr.estimators._base import BaseXLMRoberta
from skxlmr.inference import mean_of_windows
from skxlmr.text import EncodedBatch, SubwordSampling
from skxlmr.text._spans import spans, windows
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
        whole = self._encode_whole(texts)
        n_tokens_N = whole.lengths - self.tokenizer_.n_special(texts.second is not None)
        n_windows_N, n_dropped_N = np.ones_like(n_tokens_N), np.maximum(whole.lengths - self._limit(), 0)
        if self.long_text == "window":
            n_windows_N, n_dropped_N = self._windows(whole, texts).n_windows, np.zeros_like(n_tokens_N)
        columns = {
            "n_tokens": n_tokens_N,
            "n_windows": n_windows_N,
            "n_dropped": n_dropped_N,
            "coverage": 1 - n_dropped_N / np.maximum(n_tokens_N, 1),
        }
        return pd.DataFrame(columns, index=X.index if hasattr(X, "iloc") else None)

    def _encode(self, texts: Texts, parse_special: bool = False, sampling: SubwordSampling | None = None):
        if self.long_text == "truncate":
            return super()._encode(texts, parse_special, sampling)
        return self._windows(self._encode_whole(texts, parse_special, sampling), texts)

    def _encode_whole(
        self, texts: Texts, parse_special: bool = False, sampling: SubwordSampling | None = None
    ) -> EncodedBatch:
        """Ids of the texts without a limit; of pairs also which text each belongs to."""
        return self.tokenizer_.encode_batch(
            texts.first,
            texts.second,
            parse_special=parse_special,
            return_offsets=texts.second is not None,
            sampling=sampling,
        )

    def _windows(self, whole: EncodedBatch, texts: Texts) -> EncodedBatch:
        """Windows on rows of any length; of a pair the longer text is cut into them, each beside the whole other text."""
        limit, n_special = self._limit(), self.tokenizer_.n_special(texts.second is not None)
        budget = limit - n_special
        if self.stride >= budget:
            raise ValueError(
                f"stride={self.stride} must be less than the {budget} tokens that max_length={limit} leaves beside the "
                "special tokens"
            )
        n_second_N = np.zeros_like(whole.lengths)
        if whole.sequence_ids is not None:
            n_second_N = np.add.reduceat(whole.sequence_ids == 1, whole.starts[:-1], dtype=np.int64)
        n_first_N = whole.lengths - n_special - n_second_N
        n_long_N, n_other_N = np.maximum(n_first_N, n_second_N), np.minimum(n_first_N, n_second_N)
        unfit = np.flatnonzero((n_first_N + n_second_N > budget) & (n_other_N >= budget - self.stride))
        if len(unfit) and texts.second is not None:
            i = unfit[0]
            other = texts.second[i] if n_first_N[i] >= n_second_N[i] else texts.first[i]
            raise ValueError(
                f"a pair's shorter text must leave room for windows on the longer one: {other[:40]!r}... has "
                f"{n_other_N[i]} tokens, of the {budget} that max_length={limit} leaves, stride={self.stride} of them shared"
            )
        row_W, part = windows(n_long_N, n_other_N, budget, self.stride)
        # a window is what precedes the long text in its row, a part of that text, and what follows it
        before_N = np.where(n_first_N >= n_second_N, 1, whole.lengths - 1 - n_second_N)
        after_N = whole.lengths - before_N - n_long_N
        start_W, before_W = whole.starts[row_W], before_N[row_W]
        starts_W3 = np.stack([start_W, start_W + before_W + part.start_W, whole.starts[row_W + 1] - after_N[row_W]], 1)
        lengths_W3 = np.stack([before_W, part.kept_W, after_N[row_W]], 1)
        ids_T = whole.ids[spans(starts_W3.ravel(), lengths_W3.ravel())]
        return EncodedBatch(
            ids_T, lengths_W3.sum(1), np.zeros_like(row_W), row_of_window=row_W, window_starts=part.start_W
        )

    def _infer(self, run: Any, encoded: EncodedBatch, per_token: bool = False) -> np.ndarray:
        outputs = super()._infer(run, encoded, per_token)
        return outputs if per_token else mean_of_windows(outputs, encoded, self._window_weights(encoded))

    def _window_weights(self, encoded: EncodedBatch) -> np.ndarray:
        """How much each window counts in the mean of its row, (W,)."""
        return np.ones(len(encoded))
