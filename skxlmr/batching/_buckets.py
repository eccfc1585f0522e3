"""Which rows go into which batch."""

from collections.abc import Iterator

import numpy as np


def batches_by_length(lengths: np.ndarray, token_budget: int, padded: bool = False) -> Iterator[np.ndarray]:
    """Yield row numbers in batches of at most ``token_budget`` tokens, longest rows first.

    Rows of equal length become neighbours, for which attention over packed batches is fastest. The longest come first, so
    that a batch that does not fit into memory fails at once. A row longer than the budget is a batch of its own. With
    ``padded``, a row counts as many tokens as the longest of its batch.
    """
    if len(lengths) == 1:
        yield np.zeros(1, np.int64)
        return
    order = np.argsort(-lengths, kind="stable")
    start, n_tokens = 0, 0
    for place, length in enumerate(lengths[order]):
        if padded:
            length = lengths[order[start]]
        if place > start and n_tokens + length > token_budget:
            yield order[start:place]
            start, n_tokens = place, 0
            length = lengths[order[place]]
        n_tokens += length
    if start < len(order):
        yield order[start:]


def shuffled_batches(n_rows: int, batch_size: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Every row once, in random batches of ``batch_size``; the last one may be smaller."""
    order = rng.permutation(n_rows)
    return [order[start : start + batch_size] for start in range(0, n_rows, batch_size)]
