"""Dialogues: turns become rows, and a batch learns to fill gaps and to find which response follows which context.

A dialogue is held as its turns, each a row that begins with its speaker's token and has no ``<s>`` and ``</s>``;
``row_of_window`` says which dialogue each turn belongs to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from skxlmr.batching import WHOLE, Batch, one_term
from skxlmr.estimators._language.masking import Masker
from skxlmr.estimators._language.task import PairTask
from skxlmr.nn import TokenLayout, losses
from skxlmr.nn.layout import widen
from skxlmr.text import EncodedBatch, Tokenizer
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor


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
    return EncodedBatch(
        np.concatenate([np.empty(0, np.int32), *rows]).astype(np.int32), lengths, np.zeros(len(rows), np.int64)
    )


def possible_responses(turns: EncodedBatch, first: int, last: int, system_id: int) -> np.ndarray:
    """Which turns of a dialogue are the system's and have a turn before them."""
    return first + 1 + np.flatnonzero(turns.ids[turns.starts[first + 1 : last]] == system_id)


def _surrounded(ids: np.ndarray, tokenizer: Tokenizer) -> np.ndarray:
    return np.concatenate([[tokenizer.cls_token_id], ids, [tokenizer.sep_token_id]])


class DialogueTask(PairTask):
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
        ids = torch.from_numpy(np.concatenate([sequences[i] for i in order]))
        targets = {
            "positions": np.concatenate(positions) + np.repeat(starts[: len(rows)], n_masked),
            "labels": np.concatenate(labels).astype(np.int64),
        }
        rows_of_tokens = np.repeat(rows, n_masked)
        packed = ids, TokenLayout(lengths[order].tolist())
        batch = one_term(packed, targets, self.weights[rows_of_tokens], rows_of_tokens, "masked_lm")
        if self.contrastive_weight:
            self._add_pairs(batch, place[answered], place[len(rows) :], rows[np.array(answered, np.int64)])
        return batch

    def _can_predict(self) -> bool:
        return not bool(self.masker.is_special[self.turns.ids].all())

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

    def _vectors(self, x_TD: Tensor, layout: TokenLayout) -> Tensor:
        """First tokens' vectors, (N, D)."""
        return widen(layout.first(x_TD))

    def _contrast(self, vectors_P2D: Tensor) -> Tensor:
        return losses.response_contrastive(*vectors_P2D.unbind(1))
