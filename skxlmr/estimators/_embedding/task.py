"""Vectors of texts: batches of rows of one, two or three texts, and the losses that compare their vectors.

Shape suffixes: N rows of a batch, P items of a loss (rows, or drawn pairs of rows), K texts of an item, S texts of a batch,
D width of a vector.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.batching import WHOLE, Batch, concatenate, one_term, pack, shuffled_batches
from skxlmr.estimators._embedding import steps
from skxlmr.nn import TokenLayout, losses
from skxlmr.text import EncodedBatch
from skxlmr.utils._imports.later import torch
from skxlmr.utils._warnings import warn_once_per_call

if TYPE_CHECKING:
    from torch import Tensor

    Vectors = Callable[[Any, Tensor, TokenLayout], Tensor]

MOST_LEFT_OUT = 0.1  # of the rows of an epoch, without a warning
TEMPERATURES = {"multiple_negatives_ranking": 0.05, "cosent": 0.05, "supervised_contrastive": 0.07}


class EmbeddingTask:
    """The vectors of the texts of each row, and a loss of each row alone.

    Parameters
    ----------
    columns : sequence of EncodedBatch
        The first, second, ... texts of the rows.
    targets : ndarray of shape (n_rows, ...)
    weights : ndarray of shape (n_rows,) float32
    vectors : callable
        (module, ids (T,), layout of S texts) -> Tensor (S, D).
    temperature : float
        What cosines are divided by, in the losses that do so.
    dims : sequence of int, optional
        Numbers of first features, each of which the loss is computed for.
    """

    compares_rows = False

    def __init__(
        self,
        columns: Sequence[EncodedBatch],
        targets: np.ndarray,
        weights: np.ndarray,
        vectors: Vectors,
        temperature: float,
        dims: Sequence[int] | None = None,
    ):
        self.texts, self.targets, self.weights = concatenate(*columns), targets, weights
        self.n_rows, self.n_columns = len(columns[0]), len(columns)
        self.vectors_of, self.temperature, self.dims = vectors, temperature, dims

    # What differs -------------------------------------------------------------------------------------------------------

    def rows_of_steps(self, n: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Rows of each step of an epoch, about ``n`` in each."""
        return shuffled_batches(self.n_rows, n, rng)

    def _items(self, rows: np.ndarray, rng: np.random.Generator, part: slice) -> tuple[np.ndarray, ...]:
        """Numbers of the texts of each item (P, K), its target, its weight, and the row it is named after in errors."""
        rows = rows[part]
        texts_PK = rows[:, None] + self.n_rows * np.arange(self.n_columns)
        return texts_PK, self.targets[rows], self.weights[rows], rows

    def _values(self, vectors_PKD: Tensor, target_P: Tensor, weight_P: Tensor) -> Tensor:
        """Loss of each item, (P,)."""
        raise NotImplementedError

    # What is the same ---------------------------------------------------------------------------------------------------

    def collate(self, rows: np.ndarray, rng: np.random.Generator, part: slice = WHOLE) -> Batch:
        """Make a batch of these rows; a text that stands in several items is encoded once."""
        texts_PK, targets, weights, rows = self._items(rows, rng, part)
        texts_S, place = np.unique(texts_PK, return_inverse=True)
        order = np.argsort(-self.texts.lengths[texts_S], kind="stable")
        place_PK = np.argsort(order)[place].reshape(texts_PK.shape)
        packed = pack(self.texts.take(texts_S[order]))
        return one_term(packed, {"place": place_PK, "y": targets}, weights, rows)

    def losses(self, module: Any, batch: Batch, joint: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """Weighted loss of each item; ``joint`` computes it from the vectors, by default it is that within this batch."""
        vectors_PKD = self.vectors(module, batch)
        return {"loss": self.joint_losses(vectors_PKD, [batch]) if joint is None else joint(vectors_PKD)}

    def vectors(self, module: Any, batch: Batch) -> Tensor:
        """Vectors of the texts of each item, (P, K, D)."""
        vectors_PKD: Tensor = self.vectors_of(module, batch.ids, batch.layout)[batch.targets["place"]]
        return vectors_PKD

    def joint_losses(self, vectors_PKD: Tensor, batches: Sequence[Batch]) -> Tensor:
        """Weighted loss of each item among the items of all these batches, (P,)."""
        target_P, weight_P = (
            torch.cat([batch.targets[name] for batch in batches]).to(vectors_PKD.device) for name in ("y", "weights")
        )
        with torch.autocast(vectors_PKD.device.type, enabled=False):  # bfloat16 is too coarse for cosines
            if self.dims is None:
                values_P = self._values(vectors_PKD, target_P, weight_P)
            else:
                values_P = losses.matryoshka(
                    lambda x_PKD: self._values(x_PKD, target_P, weight_P), vectors_PKD, self.dims
                )
            return values_P * weight_P


class _ComparesRows(EmbeddingTask):
    """A loss in which a row depends on the others of its step."""

    compares_rows = True


class SupervisedContrastiveTask(_ComparesRows):
    """Texts of one class are found among all texts of the step.

    A row that is alone with its class has no loss; the others tell it apart.
    """

    def __init__(self, columns: Any, targets: np.ndarray, weights: np.ndarray, *rest: Any):
        is_alone = (np.bincount(targets) < 2)[targets]
        super().__init__(columns, targets, np.where(is_alone, 0, weights).astype(np.float32), *rest)

    def rows_of_steps(self, n: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Rows of each step: with each row at least one more of its class."""
        return steps.of_classes(self.targets, n, rng)

    def _values(self, vectors_PKD: Tensor, target_P: Tensor, weight_P: Tensor) -> Tensor:
        return losses.supervised_contrastive(vectors_PKD[:, 0], target_P, self.temperature)


class CosineTask(EmbeddingTask):
    """The cosine of each pair is to be its number."""

    def _values(self, vectors_PKD: Tensor, target_P: Tensor, weight_P: Tensor) -> Tensor:
        return losses.cosine_squared_error(vectors_PKD[:, 0], vectors_PKD[:, 1], target_P)


class ContrastivePairsTask(CosineTask):
    """Pairs of texts that are drawn anew in each epoch: of each row with one of its class, and with one of another class.

    The cosine of the first pair is to be 1, that of the second one 0. So there are as many pairs of each kind, as setfit has
    them by its oversampling; ``max_epochs`` is what is ``num_iterations`` there.
    """

    def __init__(self, columns: Any, targets: np.ndarray, *rest: Any):
        super().__init__(columns, targets, *rest)
        self._by_class = np.argsort(targets, kind="stable")
        self._n_of_class = np.bincount(targets)
        self._first_of_class = np.cumsum(self._n_of_class) - self._n_of_class
        self._place = np.argsort(self._by_class, kind="stable")  # of each row among those sorted by class

    def _items(self, rows: np.ndarray, rng: np.random.Generator, part: slice) -> tuple[np.ndarray, ...]:
        code_N = self.targets[rows]
        n_same, first = self._n_of_class[code_N], self._first_of_class[code_N]
        n_others = self.n_rows - n_same
        drawn_N2 = rng.random((len(rows), 2))  # row by row, so that accumulated batches draw what one large batch does
        same, other = (drawn_N2 * np.stack([n_same - 1, n_others], 1)).astype(np.int64).T
        place_same = first + same + (first + same >= self._place[rows])
        place_other = np.where(other < first, other, other + n_same)
        place_N2 = np.stack([place_same, place_other], 1)
        exists_N2 = np.stack([n_same > 1, n_others > 0], 1)
        partner_N2 = self._by_class[np.where(exists_N2, place_N2, 0)]
        weight_N2 = self.weights[rows][:, None] * self.weights[partner_N2] * exists_N2
        pairs_N22 = np.stack([np.broadcast_to(rows[:, None], partner_N2.shape), partner_N2], 2)
        target_N2 = np.tile(np.array([1, 0], np.float32), (len(rows), 1))
        named = np.repeat(rows[part], 2)
        texts_P2, target_P = pairs_N22[part].reshape(-1, 2), target_N2[part].ravel()
        return texts_P2, target_P, weight_N2[part].ravel().astype(np.float32), named


class RankingTask(_ComparesRows):
    """The partner of each text is found among those of the step, and its own partner of each partner.

    Targets are numbers of the texts; equal ones do not meet in a step.
    """

    def rows_of_steps(self, n: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Rows of each step, without the same text in two of them."""
        chosen = steps.without_duplicates(self.targets, n, rng)
        n_left = self.n_rows - sum(map(len, chosen))
        if n_left > max(1, MOST_LEFT_OUT * self.n_rows):
            warn_once_per_call(
                f"{n_left} of the {self.n_rows} rows of X are left out of an epoch (drawn anew for each): a step has each text "
                "once, as it would be its own negative, and some texts stand in so many rows that these find no others to be "
                "compared with. Pass fewer rows with these texts; or the texts with y, what they have in common as their class",
                about="rows without a step",
            )
        return chosen

    def _values(self, vectors_PKD: Tensor, target_P: Tensor, weight_P: Tensor) -> Tensor:
        anchors, positives, *negatives = vectors_PKD.unbind(1)
        scale = 1 / self.temperature
        return losses.multiple_negatives_ranking(anchors, positives, *negatives, scale=scale)


class CosentTask(_ComparesRows):
    """The order of the cosines of pairs is to be that of their numbers."""

    def __init__(self, columns: Any, targets: np.ndarray, weights: np.ndarray, *rest: Any):
        # The loss adds 1 to a sum of products of weights. Only their proportions are to count: their mean is 1, as without any.
        super().__init__(columns, targets, (weights / weights.mean(dtype=np.float64)).astype(np.float32), *rest)

    def rows_of_steps(self, n: int, rng: np.random.Generator) -> list[np.ndarray]:
        """Rows of each step, at least two."""
        return steps.at_least_two(self.n_rows, n, rng)

    def _values(self, vectors_PKD: Tensor, target_P: Tensor, weight_P: Tensor) -> Tensor:
        scale = 1 / self.temperature
        return losses.cosent(vectors_PKD[:, 0], vectors_PKD[:, 1], target_P, scale, weight_P)


class DistillationTask(EmbeddingTask):
    """The vector of each text is to be its teacher's."""

    def _values(self, vectors_PKD: Tensor, target_P: Tensor, weight_P: Tensor) -> Tensor:
        # With ``dims`` the vectors are cut and scaled; the teacher's are cut, as in sentence-transformers: long ones count more
        return losses.distillation(vectors_PKD[:, 0], target_P[:, : vectors_PKD.shape[2]])


TASKS: dict[str, type[EmbeddingTask]] = {
    "supervised_contrastive": SupervisedContrastiveTask,
    "contrastive_pairs": ContrastivePairsTask,
    "multiple_negatives_ranking": RankingTask,
    "cosent": CosentTask,
    "cosine": CosineTask,
    "distillation": DistillationTask,
}
