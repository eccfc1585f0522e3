"""Scores of documents by their vectors of tokens."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

MOST_NUMBERS = 2**24  # products of tokens in memory at a time, and numbers of the documents' vectors copied for them


def max_sim(queries: Sequence[ArrayLike], documents: Sequence[ArrayLike]) -> np.ndarray:
    """Late interaction: how well the tokens of each query are matched by tokens of each document.

    Each token of the query counts with its greatest dot product with a token of the document, and the score is their mean.
    Memory for the products is bounded, whatever the number of rows.

    Read more in :doc:`/hybrid_search`.

    Parameters
    ----------
    queries : sequence of array-like of shape (n_tokens, n_features)
        Vectors of the tokens of each query, as :meth:`skxlmr.XLMRobertaVectorizer.transform_tokens` returns them.
    documents : sequence of array-like of shape (n_tokens, n_features)
        Vectors of the tokens of each document.

    Returns
    -------
    ndarray of shape (n_queries, n_documents)
        From -1 to 1 if the vectors have unit length; float64 if any vectors are, else float32.

    Raises
    ------
    ValueError
        If a row has no tokens, or vectors of another length than the others.

    See Also
    --------
    skxlmr.XLMRobertaVectorizer.transform_tokens : Makes a vector of each token.
    sklearn.metrics.pairwise.cosine_similarity : Compares one vector of each text.

    References
    ----------
    .. [1] Khattab & Zaharia (2020), "ColBERT: Efficient and Effective Passage Search via Contextualized Late Interaction
       over BERT", arXiv:2004.12832, with a mean in the place of the sum, as in Chen et al. (2024), arXiv:2402.03216.

    Examples
    --------
    >>> from skxlmr.metrics import max_sim
    >>> max_sim([[[1.0, 0.0], [0.0, 1.0]]], [[[1.0, 0.0]], [[0.6, 0.8], [1.0, 0.0]]])
    array([[0.5, 0.9]])
    """
    asked = [_checked(row, f"queries[{i}]") for i, row in enumerate(queries)]
    known = [_checked(row, f"documents[{i}]") for i, row in enumerate(documents)]
    lengths = {row.shape[1] for row in asked + known}
    if len(lengths) > 1:
        found = " and ".join(map(str, sorted(lengths)))
        raise ValueError(f"queries and documents must have vectors of the same number of features, found {found}")
    dtype = np.result_type(np.float32, *{row.dtype for row in asked + known})
    scores = np.empty((len(asked), len(known)), dtype)
    for block in _blocks(known):
        tokens_TE = np.concatenate(known[block], dtype=dtype)
        starts = np.cumsum([0, *map(len, known[block][:-1])])
        for i, query in enumerate(asked):
            scores[i, block] = _means(query.astype(dtype, copy=False), tokens_TE, starts)
    return scores


def _means(query_QE: np.ndarray, tokens_TE: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Score of one query with each document of a block; the documents start at these tokens."""
    at_a_time = max(MOST_NUMBERS // len(tokens_TE), 1)
    total = np.zeros(len(starts), np.float64)
    for first in range(0, len(query_QE), at_a_time):
        products_QT = query_QE[first : first + at_a_time] @ tokens_TE.T
        total += np.maximum.reduceat(products_QT, starts, axis=1).sum(axis=0, dtype=np.float64)
    return total / len(query_QE)


def _blocks(rows: list[np.ndarray]) -> list[slice]:
    """Neighbouring rows of at most so many numbers together, at least one."""
    blocks, first, n = [], 0, 0
    for i, row in enumerate(rows):
        if n and n + row.size > MOST_NUMBERS:
            blocks.append(slice(first, i))
            first, n = i, 0
        n += row.size
    return [*blocks, slice(first, len(rows))] if rows else []


def _checked(row: ArrayLike, name: str) -> np.ndarray:
    array = np.asarray(row)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "fiu":
        found = f"shape {array.shape} of {array.dtype}"
        raise ValueError(
            f"{name} must be numbers of shape (n_tokens, n_features), with one token or more, found {found}: pass a list "
            "of arrays, as transform_tokens returns it"
        )
    return array
