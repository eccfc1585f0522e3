"""Masked and causal language modelling: batches, and their losses."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skxlmr.batching import WHOLE, Batch, concatenate, layout_of, one_term
from skxlmr.estimators._language.masking import Masker
from skxlmr.nn import TokenLayout, losses
from skxlmr.nn.layout import widen
from skxlmr.text import EncodedBatch, Tokenizer
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor


class PairTask:
    """Language modelling, and a contrastive loss over pairs of sequences in the batch or the whole step.

    Attributes
    ----------
    weights : ndarray of shape (n_rows,) float32
    contrastive_weight : float
        Weight of the contrastive loss; 0 is without it.
    """

    weights: np.ndarray
    contrastive_weight: float

    def checked(self, name: str) -> Self:
        """The task itself; ValueError about the data of this name if they have no token to predict."""
        if not self._can_predict():
            raise ValueError(
                f"{name} has no token to predict: its texts are empty, or hold nothing but special and unknown tokens"
            )
        return self

    def _can_predict(self) -> bool:
        """Whether the data have a token that may be masked."""
        raise NotImplementedError

    def _vectors(self, x_TD: Tensor, layout: TokenLayout) -> Tensor:
        """What stands for each sequence in the comparison, (N, ...)."""
        raise NotImplementedError

    def _contrast(self, vectors: Tensor) -> Tensor:
        """Loss of each pair among these, (P,), from the vectors (P, ..., 2, D) of both sides."""
        raise NotImplementedError

    def _add_pairs(self, batch: Batch, side_a: np.ndarray, side_b: np.ndarray, rows: np.ndarray) -> None:
        """Make these sequences of the batch pairs, each of a row of X."""
        weights = self.weights[rows]
        batch.targets["side_a"], batch.targets["side_b"] = torch.from_numpy(side_a), torch.from_numpy(side_b)
        batch.targets["pair_weights"] = torch.from_numpy(weights * np.float32(self.contrastive_weight))
        batch.totals["contrastive"] = float(weights.sum(dtype=np.float64))
        batch.rows["contrastive"] = rows

    def losses(self, module: Any, batch: Batch, joint: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """Weighted loss of each predicted token and of each pair, from a module with ``project``.

        ``joint`` computes the values of the pairs from their vectors; by default they are those within this batch.
        """
        x_TD = module.backbone(batch.ids, batch.layout).last_hidden_state
        logits = widen(module.project(x_TD[batch.targets["positions"]]))
        terms = {"masked_lm": losses.cross_entropy(logits, batch.targets["labels"]) * batch.targets["weights"]}
        if "contrastive" in batch.totals:
            vectors = self._pairs(x_TD, batch)
            terms["contrastive"] = self.joint_losses(vectors, [batch]) if joint is None else joint(vectors)
        return terms

    # What gradient caching needs; see skxlmr.training ------------------------------------------------------------------

    @property
    def compares_rows(self) -> bool:
        """Whether there is a loss that compares rows with each other."""
        return bool(self.contrastive_weight)

    def vectors(self, module: Any, batch: Batch) -> Tensor:
        """Vectors of both sides of each pair, (P, ..., 2, D)."""
        return self._pairs(module.backbone(batch.ids, batch.layout).last_hidden_state, batch)

    def joint_losses(self, vectors: Tensor, batches: Sequence[Batch]) -> Tensor:
        """Weighted loss of each pair among the pairs of all these batches, (P,)."""
        weights = [batch.targets["pair_weights"] for batch in batches if "contrastive" in batch.totals]
        if not weights:
            return vectors.flatten(1).sum(1)
        with torch.autocast(vectors.device.type, enabled=False):  # bfloat16 is too coarse for large dot products
            return self._contrast(vectors) * torch.cat(weights).to(vectors.device)

    def _pairs(self, x_TD: Tensor, batch: Batch) -> Tensor:
        vectors = self._vectors(x_TD, batch.layout)
        return torch.stack([vectors[batch.targets.get(side, slice(0))] for side in ("side_a", "side_b")], dim=-2)


class MaskedLMTask(PairTask):
    """Masked language modelling over texts, over translation pairs, and the alignment of translations.

    Parameters
    ----------
    first, second : EncodedBatch
        The texts with their special tokens; ``second`` holds translations (rows of length 0 where there is none) and is
        None for plain texts. If it is not None, each side is encoded on its own.
    tokenizer : Tokenizer
        Determines the special tokens, which are never masked, and the mask.
    weights : ndarray of shape (n_rows,) float32
    mask_probability : float
        Share of the tokens that are predicted; see :class:`Masker`.
    alignment_weight : float
        Weight of the contrastive loss between both sides of a pair: half of it between their mean vectors, half between
        their first tokens' vectors.
    """

    def __init__(
        self,
        first: EncodedBatch,
        second: EncodedBatch | None,
        tokenizer: Tokenizer,
        weights: np.ndarray,
        mask_probability: float = 0.15,
        alignment_weight: float = 0.0,
    ):
        self.first, self.second, self.weights = first, second, weights
        self.contrastive_weight = 0.0 if second is None else alignment_weight
        self.masker = Masker(tokenizer, mask_probability)
        self.n_rows = len(first)

    def collate(self, rows: np.ndarray, rng: np.random.Generator, part: slice = WHOLE) -> Batch:
        """Make a batch of these rows with a fresh mask."""
        encoded = self.first.take(rows)
        owner = np.arange(len(rows))  # place in `rows` that each sequence comes from
        is_paired = np.zeros(len(rows), bool) if self.second is None else self.second.lengths[rows] > 0
        if self.second is not None:
            encoded = concatenate(encoded, self.second.take(rows[is_paired]))
            owner = np.concatenate([owner, np.flatnonzero(is_paired)])
        order = np.argsort(-encoded.lengths, kind="stable")
        encoded, owner, is_second = encoded.take(order), owner[order], order >= len(rows)

        ids, positions, labels = self._predicted(encoded, rng)
        if part != WHOLE:
            kept_S = np.isin(owner, np.arange(len(rows))[part])
            kept_T = np.repeat(kept_S, encoded.lengths)
            kept_M = kept_T[positions]
            ids, positions, labels = ids[kept_T], (np.cumsum(kept_T) - 1)[positions[kept_M]], labels[kept_M]
            encoded, owner, is_second = encoded.take(kept_S), owner[kept_S], is_second[kept_S]
        rows_of_tokens = rows[np.repeat(owner, encoded.lengths)[positions]]
        packed, targets = (torch.from_numpy(ids), layout_of(encoded)), {"positions": positions, "labels": labels}
        batch = one_term(packed, targets, self.weights[rows_of_tokens], rows_of_tokens, "masked_lm")
        if self.compares_rows and is_paired.any():  # a lone pair, too: the step may have further batches
            sides = (np.flatnonzero(is_paired[owner] & (is_second == side)) for side in (False, True))
            side_a, side_b = (numbers[np.argsort(owner[numbers])] for numbers in sides)
            self._add_pairs(batch, side_a, side_b, rows[owner[side_a]])
        return batch

    def _can_predict(self) -> bool:
        parts = [self.first] if self.second is None else [self.first, self.second]
        return not all(self.masker.is_special[part.ids].all() for part in parts)

    def _predicted(self, encoded: EncodedBatch, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the model reads (int64), the places at which it predicts, and the tokens to predict there."""
        masked_ids, positions = self.masker.mask(encoded.ids, rng)
        return masked_ids, positions, encoded.ids[positions].astype(np.int64)

    def _vectors(self, x_TD: Tensor, layout: TokenLayout) -> Tensor:
        """Mean vectors and first tokens' vectors, (N, 2, D): features are means, a classification head reads the first."""
        return torch.stack([layout.mean(x_TD), widen(layout.first(x_TD))], 1)

    def _contrast(self, vectors_P22D: Tensor) -> Tensor:
        means, firsts = (losses.multiple_negatives_ranking(*x_P2D.unbind(1)) for x_P2D in vectors_P22D.unbind(1))
        return (means + firsts) / 2


class NextTokenTask(MaskedLMTask):
    """Causal language modelling: from each token the next one is predicted, the end of the row included."""

    def _can_predict(self) -> bool:
        return len(before_ends(self.first)) > 0

    def _predicted(self, encoded: EncodedBatch, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        positions = before_ends(encoded)
        return encoded.ids.astype(np.int64), positions, encoded.ids[positions + 1].astype(np.int64)


def before_ends(encoded: EncodedBatch) -> np.ndarray:
    """Places of the tokens after which the next one is predicted.

    All but the last of each row; in a row that was cut not the one before the last either, since the text does not end there.
    """
    ends = encoded.starts[1:] - 1
    return np.setdiff1d(np.arange(len(encoded.ids)), np.concatenate([ends, ends[encoded.n_dropped > 0] - 1]))
