"""Batches with the targets of each task, and how their losses are read off a module.

A task holds the encoded rows and offers two things to the fit loop: ``collate(rows, rng)`` makes a batch on the host, and
``losses(module, batch)`` gives one weighted value for each item of each loss term. The loop divides the sum of a term by the
sum of its weights over a whole optimiser step, so that accumulated batches give the gradient of one large batch.

``collate(rows, rng, part)`` makes a batch of ``rows[part]`` alone that draws what the batch of all ``rows`` draws: its parts
together hold what the whole would, masks included.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from skxlmr.nn import TaskModule, TokenLayout, XLMRobertaForMaskedLM, losses
from skxlmr.nn.layout import widen
from skxlmr.text import EncodedBatch, Tokenizer

WHOLE = slice(None)  # all rows of a batch


@dataclass
class Batch:
    """A packed batch and its targets.

    Attributes
    ----------
    ids : Tensor of int64, (T,)
    layout : TokenLayout
    targets : tensors that the losses need
    totals : for each loss term the sum of its weights
    rows : for each loss term the row of X that each of its items comes from
    """

    ids: Tensor
    layout: TokenLayout
    targets: dict[str, Tensor] = field(default_factory=dict)
    totals: dict[str, float] = field(default_factory=dict)
    rows: dict[str, np.ndarray] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Batch":
        """Copy to a device, unless it is there already; the host does not wait for the copy."""
        if self.ids.device == device:
            return self
        targets = {name: _copied(target, device) for name, target in self.targets.items()}
        return Batch(_copied(self.ids, device), self.layout.to(device), targets, self.totals, self.rows)


def _copied(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy of a tensor of the host on a device; CUDA copies in the background only from pinned memory."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)


def pack(encoded: EncodedBatch, device: torch.device | str = "cpu") -> tuple[Tensor, TokenLayout]:
    """Tensor of ids (T,) and layout of encoded rows."""
    ids = torch.from_numpy(encoded.ids.astype(np.int64))
    return ids.to(device, non_blocking=True), layout_of(encoded, device)


def layout_of(encoded: EncodedBatch, device: torch.device | str = "cpu") -> TokenLayout:
    """Where encoded rows lie when packed."""
    second_starts = None if encoded.second_starts is None else encoded.second_starts.tolist()
    return TokenLayout(encoded.lengths.tolist(), device, second_starts=second_starts)


def by_length(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The rows of one batch, longest first: their order does not matter to the loss, but it does to attention."""
    return rows[np.argsort(-lengths[rows], kind="stable")]


def concatenate(*parts: EncodedBatch) -> EncodedBatch:
    """The rows of all parts."""
    ids, lengths, n_dropped = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "lengths", "n_dropped")
    )
    if all(part.second_starts is None for part in parts):
        return EncodedBatch(ids, lengths, n_dropped)
    # A row without a second text ends where that would begin.
    second_starts = [part.lengths if part.second_starts is None else part.second_starts for part in parts]
    return EncodedBatch(ids, lengths, n_dropped, second_starts=np.concatenate(second_starts))


class SequenceTask:
    """One target (or one vector of targets) for each row of the input; its windows, if it has several, share its weight.

    Parameters
    ----------
    encoded : EncodedBatch
        The rows.
    targets : ndarray of shape (n_rows,) int64 or (n_rows, n_outputs) float32
    weights : ndarray of shape (n_rows,) float32
    loss : callable
        Values (N,) from logits (N, K) and targets.
    """

    def __init__(
        self, encoded: EncodedBatch, targets: np.ndarray, weights: np.ndarray, loss: Callable[[Tensor, Tensor], Tensor]
    ):
        self.encoded, self.targets, self.loss = encoded, targets, loss
        self.weights = (weights / encoded.n_windows).astype(np.float32)
        self.n_rows = len(encoded)

    def collate(self, rows: np.ndarray, rng: np.random.Generator, part: slice = WHOLE) -> Batch:
        """Make a batch of these rows of ``encoded``."""
        rows = by_length(rows[part], self.encoded.lengths)
        ids, layout = pack(self.encoded.take(rows))
        rows = self.encoded.input_rows[rows]
        weights = torch.from_numpy(self.weights[rows])
        return Batch(
            ids,
            layout,
            {"y": torch.from_numpy(self.targets[rows]), "weights": weights},
            {"loss": float(weights.sum(dtype=torch.float64))},
            {"loss": rows},
        )

    def losses(self, module: TaskModule, batch: Batch) -> dict[str, Tensor]:
        """Weighted loss of each row."""
        logits = widen(module(batch.ids, batch.layout))
        return {"loss": self.loss(logits, batch.targets["y"]) * batch.targets["weights"]}


class Masker:
    """What masked language modelling hides: a share of the tokens, but none of the special ones.

    80 % of them are replaced by the mask, 10 % by a random token and 10 % are left as they are (Devlin et al. 2019).
    """

    def __init__(self, tokenizer: Tokenizer, probability: float, further_special_ids: Sequence[int] = ()):
        self.probability, self.mask_token_id = probability, tokenizer.mask_token_id
        self.is_special = np.zeros(tokenizer.vocab_size, bool)
        self.is_special[[*tokenizer.all_special_ids, *further_special_ids]] = True
        self.ordinary_ids = np.flatnonzero(~self.is_special)

    def mask(self, ids: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Masked copy of the ids (int64) and the places of the tokens to predict; at least one if there is any."""
        candidates = np.flatnonzero(~self.is_special[ids])
        positions = candidates[rng.random(len(candidates)) < self.probability]
        if not len(positions) and len(candidates):
            positions = rng.choice(candidates, 1)
        masked = ids.astype(np.int64)
        draw = rng.random(len(positions))
        masked[positions[draw < 0.8]] = self.mask_token_id
        randomised = positions[draw >= 0.9]
        masked[randomised] = rng.choice(self.ordinary_ids, len(randomised))
        return masked, positions


class MaskedLMTask:
    """Masked language modelling over texts, over translation pairs, and the alignment of translations.

    Parameters
    ----------
    first, second : EncodedBatch
        The texts with their special tokens; ``second`` holds translations (rows of length 0 where there is none) and is
        None for plain texts. When given, each side is encoded on its own.
    tokenizer : Tokenizer
        Tells the special tokens, which are never masked, and the mask.
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
        self.alignment_weight = alignment_weight
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
        owner_of_token = np.repeat(owner, encoded.lengths)[positions]
        weights = self.weights[rows][owner_of_token]
        batch = Batch(
            torch.from_numpy(ids),
            layout_of(encoded),
            {
                "positions": torch.from_numpy(positions),
                "labels": torch.from_numpy(labels),
                "weights": torch.from_numpy(weights),
            },
            {"masked_lm": float(weights.sum(dtype=np.float64))},
            {"masked_lm": rows[owner_of_token]},
        )
        if self.compares_rows and np.count_nonzero(is_paired) > 1:  # there is nothing to tell a lone pair from
            sides = (np.flatnonzero(is_paired[owner] & (is_second == side)) for side in (False, True))
            side_a, side_b = (numbers[np.argsort(owner[numbers])] for numbers in sides)
            pair_rows = rows[owner[side_a]]
            weights = self.weights[pair_rows]
            batch.targets["side_a"] = torch.from_numpy(side_a)
            batch.targets["side_b"] = torch.from_numpy(side_b)
            batch.targets["pair_weights"] = torch.from_numpy(weights * np.float32(self.alignment_weight))
            batch.totals["alignment"] = float(weights.sum(dtype=np.float64))
            batch.rows["alignment"] = pair_rows
        return batch

    def _predicted(self, encoded: EncodedBatch, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What the model reads (int64), at which places it predicts, and what is right there."""
        masked_ids, positions = self.masker.mask(encoded.ids, rng)
        return masked_ids, positions, encoded.ids[positions].astype(np.int64)

    def losses(
        self, module: XLMRobertaForMaskedLM, batch: Batch, joint: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Weighted loss of each masked token and of each aligned pair.

        ``joint`` gives the values of the pairs from their vectors, by default what they are within this batch.
        """
        x_TD = module.backbone(batch.ids, batch.layout).last_hidden_state
        logits = widen(module.project(x_TD[batch.targets["positions"]]))
        terms = {"masked_lm": losses.cross_entropy(logits, batch.targets["labels"]) * batch.targets["weights"]}
        if "alignment" in batch.totals:
            vectors_P22D = self._pairs(x_TD, batch)
            terms["alignment"] = self.joint_losses(vectors_P22D, [batch]) if joint is None else joint(vectors_P22D)
        return terms

    # What gradient caching needs; see skxlmr.training ------------------------------------------------------------------

    @property
    def compares_rows(self) -> bool:
        """Whether there is a loss that compares rows with each other."""
        return self.second is not None and bool(self.alignment_weight)

    def vectors(self, module: XLMRobertaForMaskedLM, batch: Batch) -> Tensor:
        """Mean vectors and first tokens' vectors of both sides of each pair, (P, 2, 2, D)."""
        return self._pairs(module.backbone(batch.ids, batch.layout).last_hidden_state, batch)

    def joint_losses(self, vectors_P22D: Tensor, batches: Sequence[Batch]) -> Tensor:
        """Weighted loss of each pair among the pairs of all these batches, (P,)."""
        weights = [batch.targets["pair_weights"] for batch in batches if "alignment" in batch.totals]
        if not weights:
            return vectors_P22D.sum((1, 2, 3))
        # both vectors that a text is read by: features are means, a classification head reads the first token
        with torch.autocast(vectors_P22D.device.type, enabled=False):
            means, firsts = (losses.contrastive(x_P2D[:, 0], x_P2D[:, 1]) for x_P2D in vectors_P22D.unbind(1))
            return (means + firsts) / 2 * torch.cat(weights).to(vectors_P22D.device)

    @staticmethod
    def _pairs(x_TD: Tensor, batch: Batch) -> Tensor:
        both_N2D = torch.stack([batch.layout.mean(x_TD), widen(batch.layout.first(x_TD))], 1)
        if "alignment" not in batch.totals:
            return both_N2D[:0, :, None].expand(-1, -1, 2, -1)
        return torch.stack([both_N2D[batch.targets["side_a"]], both_N2D[batch.targets["side_b"]]], 2)


class NextTokenTask(MaskedLMTask):
    """Causal language modelling: from each token the next one is predicted, the end of the row included."""

    def _predicted(self, encoded: EncodedBatch, rng: np.random.Generator):
        positions = before_ends(encoded)
        return encoded.ids.astype(np.int64), positions, encoded.ids[positions + 1].astype(np.int64)


def before_ends(encoded: EncodedBatch) -> np.ndarray:
    """Places of the tokens whose next one is to be predicted.

    All but the last of each row, which has none; and of a row that was cut not the one before it either, for the text does not
    end there.
    """
    ends = encoded.starts[1:] - 1
    return np.setdiff1d(np.arange(len(encoded.ids)), np.concatenate([ends, ends[encoded.n_dropped > 0] - 1]))
