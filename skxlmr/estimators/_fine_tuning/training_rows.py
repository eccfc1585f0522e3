"""What a fit trains on: encoded rows, their targets and their weights; which of them, and under which seed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Self

import numpy as np
from sklearn.utils import check_random_state

from skxlmr.nn.randomness import Randomness, drawing_from
from skxlmr.text import EncodedBatch
from skxlmr.training import Diverged, current_processes
from skxlmr.utils._imports.later import torch
from skxlmr.utils._labels import read_numbers
from skxlmr.utils._sklearn import check_sample_weight

Encoded = dict[str, EncodedBatch]  # encoded rows by the name of their part


@dataclass(frozen=True)
class TrainingRows:
    """Rows of the input as a fit sees them.

    Attributes
    ----------
    encoded : dict of str to EncodedBatch
        By the names under which the task takes them.
    targets : ndarray of shape (n_rows, ...), or None where the rows are their own targets
    weights : ndarray of shape (n_rows,), float32
    weighs_classes : bool
        Whether ``class_weight`` counts; in the rows of ``X_val`` it does not.
    split_from : TrainingRows or None
        Targets and weights of all rows, those set aside too: their frequencies decide about class weights, as in scikit-learn.
    """

    encoded: Encoded
    targets: Any
    weights: np.ndarray
    weighs_classes: bool = True
    split_from: Self | None = None

    def __len__(self) -> int:
        return len(self.weights)

    def take(self, rows: np.ndarray | None) -> Self:
        """These rows of the input, None for all."""
        if rows is None:
            return self
        targets = None if self.targets is None else self.targets[rows]
        return replace(self, encoded=take_encoded(self.encoded, rows), targets=targets, weights=self.weights[rows])

    def split(self, of_training: np.ndarray, of_validation: np.ndarray) -> tuple[Self, Self]:
        """Rows to train on, and rows set aside."""
        whole = replace(self, encoded={})
        training, set_aside = (replace(self.take(rows), split_from=whole) for rows in (of_training, of_validation))
        return training, set_aside

    def relabelled(self, lookup: np.ndarray) -> Self:
        """The same rows with the ids of a compact vocabulary."""
        encoded = {name: replace(part, ids=lookup[part.ids]) for name, part in self.encoded.items()}
        return replace(self, encoded=encoded)

    @property
    def ids(self) -> list[np.ndarray]:
        """Ids of each part."""
        return [part.ids for part in self.encoded.values()]


def take_encoded(encoded: Encoded, rows: np.ndarray | None) -> Encoded:
    """These rows of the input from each part, None for all."""
    if rows is None:
        return encoded
    return {name: part.take_input_rows(rows) for name, part in encoded.items()}


def n_truncated(encoded: Encoded) -> int:
    """Number of rows that were cut."""
    return sum(int(np.count_nonzero(part.n_dropped)) for part in encoded.values())


def check_one_weight_each(sample_weight: Any, n_rows: int, row: str) -> None:
    """Refuse another number of weights than of rows, each of which is a ``row``, such as a dialogue."""
    shape = np.shape(sample_weight)
    if len(shape) == 1 and shape[0] != n_rows:
        raise ValueError(f"sample_weight has {shape[0]} numbers, expected {n_rows}, one for each {row}")


def check_weights(sample_weight: Any, n_rows: int, row: str) -> np.ndarray:
    """Weights of the rows as float32, scaled so that the largest is at least 1 and less than 2.

    Raises
    ------
    ValueError
        If they are not one number per row, one is negative or not finite, or all are zero.
    """
    if sample_weight is None:
        return np.ones(n_rows, np.float32)
    if not isinstance(sample_weight, Real):  # one for all rows
        sample_weight = read_numbers(sample_weight, "sample_weight")
    check_one_weight_each(sample_weight, n_rows, row)
    weights = check_sample_weight(
        sample_weight, np.empty(n_rows), dtype=np.float64, ensure_non_negative=True, allow_all_zero_weights=True
    )
    if not weights.any():
        raise ValueError(
            f"Sample weights must contain at least one non-zero number: sample_weight is zero for all {n_rows} rows"
        )
    # Only proportions count. Far from 1, float32 would lose them; a power of two as the factor changes no digit.
    return np.ldexp(weights, 1 - np.frexp(weights.max())[1]).astype(np.float32)


def with_weight(weights: np.ndarray) -> np.ndarray | None:
    """Rows with a weight other than zero, None for all; the rest is left out, as if it had not been passed."""
    return None if weights.all() else np.flatnonzero(weights)


def drawn_seed(random_state: Any) -> int:
    """A seed from what was passed as ``random_state``; in all processes that share a fit that of the first."""
    seed = int(check_random_state(random_state).randint(np.iinfo(np.int32).max))
    processes = current_processes()
    return seed if processes is None else processes.of_first(seed)


@contextmanager
def named_as_passed(rows: np.ndarray | None) -> Iterator[None]:
    """Make an error name rows by their numbers in X; the training has only ``rows`` of them."""
    try:
        yield
    except Diverged as error:
        raise error if rows is None else Diverged(error.what, rows[error.rows], error.precision) from None


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the block draw from generators of this seed, which nothing else uses, with gradients on."""
    # a caller's torch.no_grad or inference_mode is for its own tensors
    with drawing_from(Randomness(seed)), torch.inference_mode(False), torch.enable_grad():
        yield
