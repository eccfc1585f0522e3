"""Contributions by what changes where words are masked: no gradient is needed.

Shape legend: V variants of a row, M words of a row, T its tokens.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from skxlmr.inspection._attributions.explained import Explained
from skxlmr.text import EncodedBatch

Masked = list[np.ndarray]  # of each row which words are masked in each variant, (V, M) bool


def occlusion(
    engine: Any, explained: Explained, mask_id: int, part_of_token: list[np.ndarray]
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """What is lost where one word is masked.

    Parameters
    ----------
    part_of_token : list of ndarray of int, (T,)
        For each row the word of each token; -1 for those that stay.

    Returns
    -------
    contributions : list of ndarray, (M,)
    prediction_N, baseline_N : ndarray of float64
    """
    n_words = [int(parts.max(initial=-1)) + 1 for parts in part_of_token]
    masked = [np.concatenate([np.zeros((1, n), bool), np.ones((1, n), bool), np.eye(n, dtype=bool)]) for n in n_words]
    numbers = masked_numbers(engine, explained, mask_id, part_of_token, masked)
    ends = np.array([of_row[:2] for of_row in numbers])
    return [of_row[0] - of_row[2:] for of_row in numbers], ends[:, 0], ends[:, 1]


def shapley(
    engine: Any,
    explained: Explained,
    mask_id: int,
    part_of_token: list[np.ndarray],
    n_permutations: int,
    draws: np.random.RandomState,
) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    """Shapley values: what a word adds where the words of a random set are there, and the others masked.

    They are exact where the sets of a row's words are no more than those that sampling would meet. Otherwise the mean over
    orders of the words is taken, each with its reverse (Mitchell et al. 2022); in each, what the words add one after the
    other sums to the whole.
    """
    n_words = [int(parts.max(initial=-1)) + 1 for parts in part_of_token]
    orders: list[np.ndarray | None] = []
    masked: Masked = []
    for n in n_words:
        if 2**n <= n_permutations * max(n, 1) or n < 2:
            orders.append(None)
            masked.append(_all_sets(n))
        else:
            half = np.array([draws.permutation(n) for _ in range(n_permutations // 2)])
            both = np.concatenate([half, half[:, ::-1]])
            orders.append(both)
            masked.append(_sets_of_orders(both))
    of_sets = [np.unique(sets, axis=0, return_inverse=True) for sets in masked]
    found = masked_numbers(engine, explained, mask_id, part_of_token, [sets for sets, _ in of_sets])
    numbers = [of_row[inverse.ravel()] for of_row, (_, inverse) in zip(found, of_sets, strict=True)]
    contributions = [
        _exact(of_row, n) if order is None else _mean_of_orders(of_row, order)
        for of_row, order, n in zip(numbers, orders, n_words, strict=True)
    ]
    ends = np.array([(of_row[0], of_row[-1]) for of_row in numbers])  # nothing masked, and all
    return contributions, ends[:, 0], ends[:, 1]


def _all_sets(n: int) -> np.ndarray:
    """Every set of masked words, (2**n, n); set ``i`` has the bits of ``i``."""
    return (np.arange(2**n)[:, None] >> np.arange(n)) & 1 > 0


def _exact(numbers: np.ndarray, n: int) -> np.ndarray:
    """Shapley values from the numbers of all sets of masked words."""
    masked = _all_sets(n)
    n_there = n - masked.sum(1)
    # a set of size s is met in one of n * (n - 1 over s) of the orders before a certain word
    weight_of_size = np.ones(max(n, 1)) / max(n, 1)
    for size in range(1, n):
        weight_of_size[size] = weight_of_size[size - 1] * size / (n - size)
    values = np.zeros(n)
    for word in range(n):
        without = np.flatnonzero(masked[:, word])
        added = numbers[without - (1 << word)] - numbers[without]
        values[word] = weight_of_size[n_there[without]] @ added
    return values


def _sets_of_orders(orders: np.ndarray) -> np.ndarray:
    """The sets of masked words that each order meets, (n_orders * (n - 1) + 2, n), nothing masked first and all last."""
    n = orders.shape[1]
    rank = np.argsort(orders, axis=1)  # of each word
    between = rank[:, None, :] >= np.arange(1, n)[None, :, None]
    return np.concatenate([np.zeros((1, n), bool), between.reshape(-1, n), np.ones((1, n), bool)])


def _mean_of_orders(numbers: np.ndarray, orders: np.ndarray) -> np.ndarray:
    n_orders, n = orders.shape
    between = numbers[1:-1].reshape(n_orders, n - 1)
    all_there, none_there = np.full((n_orders, 1), numbers[0]), np.full((n_orders, 1), numbers[-1])
    added = np.diff(np.concatenate([none_there, between, all_there], axis=1), axis=1)
    values = np.zeros(n)
    np.add.at(values, orders, added)
    return values / n_orders


def masked_numbers(
    engine: Any, explained: Explained, mask_id: int, part_of_token: list[np.ndarray], masked: Masked
) -> list[np.ndarray]:
    """The number of each row in each variant, (V,): all variants of all rows in one pass, equal ones once."""
    ids, lengths, seconds, n_outputs = [], [], [], []
    encoded = explained.encoded
    for row, (parts_T, masked_VM) in enumerate(zip(part_of_token, masked, strict=True)):
        tokens, windows = explained.tokens(row), explained.windows(row)
        is_masked_VT = np.zeros((len(masked_VM), len(parts_T)), bool)
        is_masked_VT[:, parts_T >= 0] = masked_VM[:, parts_T[parts_T >= 0]]
        ids.append(np.where(is_masked_VT, mask_id, encoded.ids[tokens]).astype(np.int32).ravel())
        lengths.append(np.tile(encoded.lengths[windows], len(masked_VM)))
        if encoded.second_starts is not None:
            seconds.append(np.tile(encoded.second_starts[windows], len(masked_VM)))
        n_outputs.append(len(masked_VM) * len(range(*explained.parts(row).indices(2**62))))
    all_lengths = np.concatenate(lengths)
    batch = EncodedBatch(
        np.concatenate(ids),
        all_lengths,
        np.zeros_like(all_lengths),
        second_starts=np.concatenate(seconds) if seconds else None,
    )
    outputs = (engine.tokens if explained.per_token else engine.rows)(batch, explained.run)
    ends = np.concatenate(([0], np.cumsum(n_outputs))).tolist()
    return [
        explained.reader.values(row, outputs[first:last].reshape(len(masked[row]), -1, _width(outputs)))
        for row, (first, last) in enumerate(pairwise(ends))
    ]


def _width(outputs: np.ndarray) -> int:
    """Numbers of each output."""
    return int(np.prod(outputs.shape[1:]))
