"""Vectors of padded tokens to one of each row, and logits to what is read from them: in NumPy, as `nn` does it in torch.

Shape suffixes: N rows, S token places, D features, M places in texts, V tokens of the vocabulary.
"""

from collections.abc import Sequence

import numpy as np


def pool_rows(x_NSD: np.ndarray, lengths_N: np.ndarray, words: Sequence[str], n_skipped: int = 0) -> np.ndarray:
    """See :func:`skxlmr.nn.sentence.pooling.pool`; the pooler is not among the words.

    Returns
    -------
    ndarray of shape (N, D * len(words)), float32 or wider
    """
    rows = []
    for x_SD, length in zip(x_NSD, lengths_N.tolist(), strict=True):
        first = min(n_skipped, length - 1)  # the last token always stays
        rows.append(np.concatenate([_pooled(x_SD[first:length], first, word) for word in words]))
    return np.stack(rows)


def _pooled(x_TD: np.ndarray, first: int, word: str) -> np.ndarray:
    """One vector of the tokens of a row that are pooled, of which the first stands at place ``first``."""
    if word == "cls":
        return np.asarray(x_TD[0])
    if word == "lasttoken":
        return np.asarray(x_TD[-1])
    if word == "max":
        return np.asarray(x_TD.max(0))
    if word == "weightedmean":  # later tokens count more
        weights = np.arange(first + 1, first + 1 + len(x_TD), dtype=x_TD.dtype)
        return np.asarray(weights @ x_TD / weights.sum())
    mean = x_TD.mean(0)
    return np.asarray(mean * np.sqrt(x_TD.dtype.type(len(x_TD))) if word == "mean_sqrt_len_tokens" else mean)


def log_softmax(logits_MV: np.ndarray) -> np.ndarray:
    """Log-probabilities, in the type of the logits."""
    shifted = logits_MV - logits_MV.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def best_tokens(logits_MV: np.ndarray, n: int, n_known: int) -> np.ndarray:
    """Probabilities and ids of the ``n`` most probable among the first ``n_known`` tokens, (M, n, 2) float64."""
    proba_MV = np.exp(log_softmax(logits_MV))[:, :n_known]
    n = min(n, proba_MV.shape[1])
    ids_Mn = np.argpartition(-proba_MV, n - 1, axis=1)[:, :n]
    order = np.lexsort((ids_Mn, -np.take_along_axis(proba_MV, ids_Mn, 1)))
    ids_Mn = np.take_along_axis(ids_Mn, order, 1)
    return np.stack([np.take_along_axis(proba_MV, ids_Mn, 1).astype(np.float64), ids_Mn.astype(np.float64)], -1)
