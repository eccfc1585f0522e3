"""Dialogues: turns become rows, and a batch learns to fill gaps and to find which response follows which context.

A dialogue is held as its turns, each a row that begins with its speaker's token and has no ``<s>`` and ``</s>``;
``row_of_window`` says which dialogue each turn belongs to.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from skxlmr.batching import WHOLE, Batch
from skxlmr.estimators._language.masking import Masker
from skxlmr.nn import TokenLayout, losses
from skxlmr.nn.layout import widen
from skxlmr.text import EncodedBatch, Tokenizer


def context_row(turns: EncodedBatch, first: int, last: int, tokenizer: Tokenizer, max_length: int) -> np.ndarray:
    """Ids of the turns from ``first`` to before ``last`` as one sequence.

    Of a context that is too long the last turns are kept, as many as fit whole; of a last turn that is too long alone, its
    speaker and its end.
    """
    budget = max_length - 2
    n_fitting = int(np.count_nonzero(np.cumsum(turns.lengths[first:last][::-1]) <= budget))
    begin = turns.starts[last - max(n_fitting, 1)]
    ids = turns.ids[begin : turns.starts[last]]
    if len(ids) > budget:
        ids = np.concatenate([ids[:1], ids[len(ids) - budget + 1 :]])
    return _surrounded(ids, tokenizer)


def response_row(turns: EncodedBatch, turn: int, tokenizer: Tokenizer, max_length: int) -> np.ndarray:
    """Ids of one turn as a sequence, cut at its end."""
    return _surrounded(turns.row(turn)[: max_length - 2], tokenizer)


def stack_rows(rows: Sequence[np.ndarray]) -> EncodedBatch:
    """Rows of ids as encoded rows."""
    lengths = np.array([len(row) for row in rows], np.int64)
    return EncodedBatch(np.concatenate(rows).astype(np.int32), lengths, np.zeros(len(rows), np.int64))


def possible_responses(turns: EncodedBatch, first: int, last: int, system_id: int) -> np.ndarray:
    """Which turns of a dialogue are the system's and have a turn before them."""
    return first + 1 + np.flatnonzero(turns.ids[turns.starts[first + 1 : last]] == system_id)


def _surrounded(ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    return np.concatenate([[tokenizer.cls_token_id], ids, [tokenizer.sep_token_id]])


class DialogueTask:
    """Masked language modelling and response contrastive learning together (TOD-BERT, Wu et al. 2020, arXiv:2004.06871).

    Each time a dialogue is batched, one of the system's turns is drawn as the response. As in the authors' program, the
    turns before it are the context, which is masked and encoded once for both losses. A dialogue without a response to
    draw, and every dialogue where the contrastive loss is off, is masked as a whole.

    The dialogues draw one after another, so that accumulated batches draw what one large batch would.

    Parameters
    ----------
    turns : EncodedBatch
        The dialogues' turns.
    tokenizer : Tokenizer
        Determines the special tokens and the mask.
    speaker_ids : tuple of int
        Tokens of the system and of the user; neither is ever masked.
    weights : ndarray of shape (n_dialogues,) float32
    max_length : int
        Most tokens of a sequence.
    mask_probability : float
        Share of the tokens that are predicted, as in :class:`MaskedLMTask`.
    contrastive_weight : float
        Weight of the contrastive loss.
    """

    def __init__(
        self,
        turns: EncodedBatch,
        tokenizer: Tokenizer,
        speaker_ids: tuple[int, int],
        weights: np.ndarray,
        max_length: int,
        mask_probability: float = 0.15,
        contrastive_weight: float = 1.0,
    ):
        self.turns, self.tokenizer, self.weights, self.max_length = turns, tokenizer, weights, max_length
        self.contrastive_weight = contrastive_weight
        self.system_id = speaker_ids[0]
        self.masker = Masker(tokenizer, mask_probability, speaker_ids)
        self.first_turns = np.concatenate(([0], np.cumsum(turns.n_windows)))  # of each dialogue
        self.n_rows = len(self.first_turns) - 1

    def collate(self, rows: np.ndarray, rng: np.random.Generator, part: slice = WHOLE) -> Batch:
        """Make a batch of these dialogues: a context of each, freshly masked, and the responses."""
        drawn = [self._draw(row, rng) for row in rows[: part.stop]]
        rows, drawn = rows[part], drawn[part]
        contexts, positions, labels, possible_ids = zip(*drawn, strict=True)
        answered = [i for i, ids in enumerate(possible_ids) if ids is not None]
        responses = [ids for ids in possible_ids if ids is not None]

        sequences = [*contexts, *responses]
        lengths = np.array([len(ids) for ids in sequences])
        order = np.argsort(-lengths, kind="stable")
        place = np.argsort(order)  # where each sequence lies in the batch
        starts = (np.cumsum(lengths[order]) - lengths[order])[place]
        n_masked = [len(of_row) for of_row in positions]
        token_weights = np.repeat(self.weights[rows], n_masked)
        batch = Batch(
            torch.from_numpy(np.concatenate([sequences[i] for i in order])),
            TokenLayout(lengths[order].tolist()),
            {
                "positions": torch.from_numpy(np.concatenate(positions) + np.repeat(starts[: len(rows)], n_masked)),
                "labels": torch.from_numpy(np.concatenate(labels).astype(np.int64)),
                "weights": torch.from_numpy(token_weights),
            },
            {"masked_lm": float(token_weights.sum(dtype=np.float64))},
            {"masked_lm": np.repeat(rows, n_masked)},
        )
        if self.contrastive_weight:
            answered_rows = rows[np.array(answered, np.int64)]
            pair_weights = self.weights[answered_rows]
            batch.targets["contexts"] = torch.from_numpy(place[answered])
            batch.targets["responses"] = torch.from_numpy(place[len(rows) :])
            batch.targets["pair_weights"] = torch.from_numpy(pair_weights * np.float32(self.contrastive_weight))
            batch.totals["contrastive"] = float(pair_weights.sum(dtype=np.float64))
            batch.rows["contrastive"] = answered_rows
        return batch

    def _draw(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
        """Masked context of a dialogue, the places of the masks, the tokens to predict there, and the response, if any."""
        first, last = self.first_turns[row : row + 2]
        response = None
        if self.contrastive_weight:
            possible = possible_responses(self.turns, first, last, self.system_id)
            if len(possible):
                last = rng.choice(possible)
                response = response_row(self.turns, last, self.tokenizer, self.max_length)
        ids = context_row(self.turns, first, last, self.tokenizer, self.max_length)
        masked, positions = self.masker.mask(ids, rng)
        return masked, positions, ids[positions], response

    def losses(self, module: Any, batch: Batch, joint: Callable[[Tensor], Tensor] | None = None) -> dict[str, Tensor]:
        """Weighted loss of each masked token and of each response, from a module with ``project``.

        ``joint`` computes the values of the responses from their vectors; by default they are those within this batch.
        """
        x_TD = module.backbone(batch.ids, batch.layout).last_hidden_state
        logits = widen(module.project(x_TD[batch.targets["positions"]]))
        terms = {"masked_lm": losses.cross_entropy(logits, batch.targets["labels"]) * batch.targets["weights"]}
        if "contrastive" in batch.totals:
            vectors_P2D = self._pairs(x_TD, batch)
            terms["contrastive"] = self.joint_losses(vectors_P2D, [batch]) if joint is None else joint(vectors_P2D)
        return terms

    # What gradient caching needs; see skxlmr.training ------------------------------------------------------------------

    @property
    def compares_rows(self) -> bool:
        """Whether there is a loss that compares rows with each other."""
        return bool(self.contrastive_weight)

    def vectors(self, module: Any, batch: Batch) -> Tensor:
        """First tokens' vectors of each context and its response, (P, 2, D)."""
        return self._pairs(module.backbone(batch.ids, batch.layout).last_hidden_state, batch)

    def joint_losses(self, vectors_P2D: Tensor, batches: Sequence[Batch]) -> Tensor:
        """Weighted loss of each response among the responses of all these batches, (P,)."""
        weights_P = torch.cat([batch.targets["pair_weights"] for batch in batches]).to(vectors_P2D.device)
        with torch.autocast(vectors_P2D.device.type, enabled=False):  # bfloat16 is too coarse for large dot products
            return losses.response_contrastive(*vectors_P2D.unbind(1)) * weights_P

    @staticmethod
    def _pairs(x_TD: Tensor, batch: Batch) -> Tensor:
        first_ND = widen(batch.layout.first(x_TD))
        return torch.stack([first_ND[batch.targets["contexts"]], first_ND[batch.targets["responses"]]], 1)
