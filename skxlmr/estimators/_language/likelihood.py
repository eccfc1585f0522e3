"""Log-likelihoods of texts under a language model."""

from typing import Any

import numpy as np

from skxlmr.estimators._language.task import before_ends
from skxlmr.inference import Engine
from skxlmr.text import EncodedBatch
from skxlmr.utils._sklearn import check_sample_weight

# Per row the sum of its tokens' log-probabilities, and the number of these tokens
SumsAndCounts = tuple[np.ndarray, np.ndarray]


def next_token_log_p(engine: Engine, encoded: EncodedBatch) -> SumsAndCounts:
    """Log-probabilities of each row's tokens, each conditioned on those before it."""
    places = before_ends(encoded)
    return _by_row(encoded, places, _log_p(engine, encoded, places, encoded.ids[places + 1]))


def pseudo_log_p(engine: Engine, encoded: EncodedBatch, tokenizer: Any) -> SumsAndCounts:
    """Log-probabilities of each row's tokens, each masked in turn; special and unknown tokens are left out."""
    ordinary = ~np.isin(encoded.ids, tokenizer.all_special_ids)
    places = np.flatnonzero(ordinary)
    rows = np.searchsorted(encoded.starts, places, "right") - 1
    log_p = np.zeros(len(places))
    # One copy of the row for each token; as many at a time as make a few batches.
    for chunk in np.split(np.arange(len(places)), _cuts(encoded.lengths[rows], 8 * engine.token_budget)):
        copies = encoded.take(rows[chunk])
        masked = copies.starts[:-1] + places[chunk] - encoded.starts[rows[chunk]]
        labels = copies.ids[masked]
        copies.ids[masked] = tokenizer.mask_token_id
        log_p[chunk] = _log_p(engine, copies, masked, labels)
    return _by_row(encoded, places, log_p)


def mean_log_p(likelihood: SumsAndCounts, sample_weight: Any) -> float:
    """Mean log-probability per token, in which tokens count as much as their rows weigh; 0 without tokens.

    Raises
    ------
    ValueError
        If there are no rows.
    """
    sums, counts = likelihood
    if not len(sums):
        raise ValueError("X has no rows: at least one text is needed")
    weights = check_sample_weight(sample_weight, sums, ensure_non_negative=True)
    n_tokens = weights @ counts
    return float(weights @ sums / n_tokens) if n_tokens else 0.0


def _log_p(engine: Engine, encoded: EncodedBatch, places: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Log-probability of each place's label."""
    return engine.places(encoded, places, engine.log_p_of(labels[:, None])).reshape(len(places))


def _by_row(encoded: EncodedBatch, places: np.ndarray, log_p: np.ndarray) -> SumsAndCounts:
    rows = np.searchsorted(encoded.starts, places, "right") - 1
    return np.bincount(rows, log_p, len(encoded)).astype(np.float64), np.bincount(rows, minlength=len(encoded))


def _cuts(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Where to split neighbours so that each part's sizes add up to about the budget."""
    part = np.cumsum(sizes) // budget
    return np.flatnonzero(np.diff(part)) + 1
