"""Fillings of masks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skxlmr.inference import Engine
from skxlmr.text import EncodedBatch
from skxlmr.utils._words import is_unspaced

Filling = dict[str, Any]


@dataclass(frozen=True)
class MaskFiller:
    """Finds the best tokens, or ranks given words, for the masks of encoded texts.

    Attributes
    ----------
    engine : Engine
        Over a module with a language modelling head.
    tokenizer : Tokenizer
    encoded : EncodedBatch
    places : ndarray of int
        Where the masks stand in ``encoded.ids``, ascending.
    """

    engine: Engine
    tokenizer: Any
    encoded: EncodedBatch
    places: np.ndarray

    def best_tokens(self, top_k: int) -> list[list[Filling]]:
        """The most probable tokens of each mask, best first."""
        # a checkpoint may have more word embeddings than the tokenizer has ids
        read = self.engine.best_tokens(top_k, self.tokenizer.vocab_size)
        return [
            [
                {"score": score, "token": int(i), "token_str": self.tokenizer.decode([int(i)], False)}
                for score, i in best
            ]
            for best in self.engine.places(self.encoded, self.places, read).tolist()
        ]

    def rank(self, words: Sequence[str], after_space: np.ndarray, max_length: int) -> list[list[Filling]]:
        """These words with their scores, best first, for each mask; a word of several tokens takes as many masks.

        Parameters
        ----------
        words : sequence of str
        after_space : ndarray of bool, of shape (n_masks,)
            Masks that swallowed a space, which belongs to what fills them.
        max_length : int
            Most tokens of a row.

        Raises
        ------
        ValueError
            If a word has no tokens or characters that the vocabulary lacks; or if a row with its tokens is longer than
            ``max_length``, which names the row.
        """
        joined, spaced = zip(*map(self._ids, words), strict=True)
        if joined == spaced:
            after_space = np.ones_like(after_space)  # one pass for all masks
        answers: list[list[Filling]] = [[] for _ in self.places]
        for ids_of, masks in ((joined, np.flatnonzero(~after_space)), (spaced, np.flatnonzero(after_space))):
            if not len(masks):
                continue
            for mask, row in zip(masks, self._scores(ids_of, self.places[masks], max_length), strict=True):
                answers[mask] = [
                    {
                        "score": float(row[i]),
                        "token": ids_of[i][0] if len(ids_of[i]) == 1 else ids_of[i],
                        "token_str": words[i],
                    }
                    for i in np.argsort(-row, kind="stable")
                ]
        return answers

    def _scores(self, ids_of: Sequence[list[int]], places: np.ndarray, max_length: int) -> np.ndarray:
        """Probability of each word's ids at each of these masks, (n_masks, n_words)."""
        scores = np.empty((len(places), len(ids_of)))
        for n_tokens in sorted(set(map(len, ids_of))):
            chosen = [i for i, ids in enumerate(ids_of) if len(ids) == n_tokens]
            widened, starts = _widen(self.encoded, places, n_tokens)
            if widened.lengths.max() > max_length:
                mask = places[widened.lengths.argmax()]
                raise ValueError(
                    f"row {np.searchsorted(self.encoded.starts, mask, 'right') - 1}: the text leaves no room for a target "
                    f"of {n_tokens} tokens"
                )
            steps = (starts[:, None] + np.arange(n_tokens)).ravel()
            wanted = np.array([ids_of[i] for i in chosen]).T  # (tokens, targets)
            log_p = self.engine.places(widened, steps, self.engine.log_p_of(wanted))
            scores[:, chosen] = np.exp(log_p.reshape(len(places), n_tokens, -1).sum(1))
        return scores

    def _ids(self, word: str) -> tuple[list[int], list[int]]:
        """Ids of a word that goes on with what stands before it, and of one after a space.

        They differ only where the vocabulary is byte-level: the other tokenizers read each word as if a space preceded it. In
        a script that puts no spaces between words, it loses a space that is a token of its own.
        """
        joined, spaced = (
            encoded.ids[1:-1].tolist()
            for encoded in (self.tokenizer.encode_batch([word]), self.tokenizer.encode_words([[word]]))
        )
        if not joined:
            raise ValueError(f"targets: {word!r} has no tokens")
        unknown = self.tokenizer.unk_token_id
        if unknown in joined:
            (piece,) = self.tokenizer.convert_ids_to_pieces([unknown])
            raise ValueError(
                f"targets: {word!r} has characters that the vocabulary lacks (they become {piece}): leave it out"
            )
        lone_space = len(joined) > 1 and self.tokenizer.convert_ids_to_pieces(joined[:1]) == ["\u2581"]
        if lone_space and is_unspaced(word.lstrip()[0]):
            return joined[1:], joined[1:]
        return joined, spaced


def _widen(encoded: EncodedBatch, places: np.ndarray, n_tokens: int) -> tuple[EncodedBatch, np.ndarray]:
    """A row for each mask in which this mask stands ``n_tokens`` times, and where in the ids it starts."""
    rows = np.searchsorted(encoded.starts, places, "right") - 1
    copies = encoded.take(rows)
    masks = copies.starts[:-1] + places - encoded.starts[rows]
    repeats = np.ones(len(copies.ids), np.int64)
    repeats[masks] = n_tokens
    lengths = copies.lengths + n_tokens - 1
    starts = masks + np.arange(len(masks)) * (n_tokens - 1)
    return EncodedBatch(np.repeat(copies.ids, repeats), lengths, copies.n_dropped), starts
