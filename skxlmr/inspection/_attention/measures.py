"""A number for each head: what kind of tokens its attention goes to.

Shape suffixes: L layers, H heads, Q tokens that look, K tokens that are looked at.
"""

from collections.abc import Sequence

import numpy as np

# name -> (title, what a cell says)
MEASURES = {
    "special": ("share on special tokens", "of the attention goes to special tokens"),
    "entropy": ("entropy (nats)", "nats: 0 looks at one token, more at many"),
    "distance": ("mean distance (tokens)", "tokens away on average"),
    "other_text": ("share on the other text", "of the attention goes to the other text"),
}


def head_measures(attention_LHQK: np.ndarray, sequence_ids: Sequence[int]) -> dict[str, np.ndarray]:
    """Means over the tokens that look, special tokens left out unless there are no others.

    Parameters
    ----------
    attention_LHQK : ndarray
    sequence_ids : sequence of int
        0 or 1 for the tokens of texts, -1 for special tokens.

    Returns
    -------
    dict of str to ndarray of shape (n_layers, n_heads), float64
        By the names in :data:`MEASURES`; ``other_text`` only where there are two texts.
    """
    weights = attention_LHQK.astype(np.float64)
    of_text = np.asarray(sequence_ids)
    looking = of_text >= 0 if (of_text >= 0).any() else np.ones_like(of_text, bool)
    places = np.arange(len(of_text))
    entropy_LHQ = -(weights * np.log(np.where(weights > 0, weights, 1))).sum(-1)
    found = {
        "special": (weights * (of_text < 0)).sum(-1)[..., looking].mean(-1),
        "entropy": entropy_LHQ[..., looking].mean(-1),
        "distance": (weights * np.abs(places[:, None] - places)).sum(-1)[..., looking].mean(-1),
    }
    if (of_text == 0).any() and (of_text == 1).any():
        other_QK = (of_text[:, None] + of_text == 1) & (of_text[:, None] >= 0) & (of_text >= 0)
        found["other_text"] = (weights * other_QK).sum(-1)[..., looking].mean(-1)
    return found


def of_words(weights_QK: np.ndarray, word_ids: Sequence[int]) -> np.ndarray:
    """Attention between words: summed over the tokens of the word looked at, averaged over those of the word that looks.

    Parameters
    ----------
    weights_QK : ndarray of shape (n_tokens, n_tokens)
        Of one head, or the mean of several.
    word_ids : sequence of int

    Returns
    -------
    ndarray of shape (n_words, n_words), float64

    References
    ----------
    Clark et al. (2019), "What Does BERT Look At? An Analysis of BERT's Attention", arXiv:1906.04341, section 4.1.
    """
    words = np.asarray(word_ids)
    members_WK = (words == np.arange(words.max(initial=-1) + 1)[:, None]).astype(np.float64)
    return (members_WK @ weights_QK @ members_WK.T) / np.maximum(members_WK.sum(1, keepdims=True), 1)
