"""Documents in the order of their scores for a query."""

from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.utils._containers import known_container
from skxlmr.utils._tables import describe, plain
from skxlmr.utils._validation import Texts, check_texts

if TYPE_CHECKING:
    import pandas as pd


def pairs_with(query: Any, documents: Any, missing: str) -> Texts:
    """The query with each of the documents.

    Raises
    ------
    ValueError
        If the query is not one text, there is no document, or one is not a text; names its row.
    """
    if not isinstance(query := plain(query), str):
        hint = ": call rank for each of several queries" if hasattr(query, "__len__") else ""
        hint = ": are query and documents swapped?" if hint and isinstance(documents, str) else hint
        raise ValueError(f"query must be one text, got {describe(query)}{hint}")
    if isinstance(documents, str):
        raise ValueError("documents must be a list, array or Series of texts, got one text: put it in a list")
    documents = known_container(documents, "documents")
    texts = check_texts(documents, "documents", pairs_allowed=False, missing=missing, rows_needed=False)
    if not len(texts):
        raise ValueError("documents is empty: there is nothing to rank")
    return Texts([query] * len(texts), texts.first)


def check_top_k(top_k: Any) -> int | None:
    """How many documents are wanted; None is all."""
    if top_k is None:
        return None
    if isinstance(top_k, bool) or not isinstance(top_k, Integral) or top_k < 1:
        raise ValueError(f"top_k must be None or a whole number of at least 1, got {top_k!r}")
    return int(top_k)


def ranking(documents: Any, texts: Texts, logits: np.ndarray, scores: np.ndarray, top_k: int | None) -> "pd.DataFrame":
    """The best documents first; equal ones in their order."""
    import pandas as pd

    order = np.argsort(-logits, kind="stable")[:top_k]
    index = documents.index if hasattr(documents, "iloc") else pd.RangeIndex(len(texts))
    table = {"score": scores[order], "document": [(texts.second or [])[i] for i in order]}
    return pd.DataFrame(table, index=index[order])
