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

    def rank(self, words: Sequence[str], max_length: int) -> list[list[Filling]]:
        """These words with their scores, best first, for each mask; a word of several tokens takes as many masks.

        Raises
        ------
        ValueError
            If a word has no tokens, or more than fit into a row of ``max_length`` tokens; names the row.
        """
        ids_of = [self._ids(word) for word in words]
        scores = np.empty((len(self.places), len(words)))
        for n_tokens in sorted(set(map(len, ids_of))):
            chosen = [i for i, ids in enumerate(ids_of) if len(ids) == n_tokens]
            widened, starts = _widen(self.encoded, self.places, n_tokens)
            if widened.lengths.max() > max_length:
                raise ValueError(
                    f"row {widened.lengths.argmax()}: the text leaves no room for a target of {n_tokens} tokens"
                )
            steps = (starts[:, None] + np.arange(n_tokens)).ravel()
            wanted = np.array([ids_of[i] for i in chosen]).T  # (tokens, targets)
            log_p = self.engine.places(widened, steps, self.engine.log_p_of(wanted))
            scores[:, chosen] = np.exp(log_p.reshape(len(self.places), n_tokens, -1).sum(1))
        return [
            [
                {
                    "score": float(row[i]),
                    "token": ids_of[i][0] if len(ids_of[i]) == 1 else ids_of[i],
                    "token_str": words[i],
                }
                for i in np.argsort(-row, kind="stable")
            ]
            for row in scores
        ]

    def _ids(self, word: str) -> list[int]:
        """Ids of a word as it stands inside a text; a script that puts no spaces between words loses a lone one before it."""
        ids = self.tokenizer.encode_batch([word]).ids[1:-1].tolist()
        lone_space = len(ids) > 1 and self.tokenizer.convert_ids_to_pieces(ids[:1]) == ["\u2581"]
        if lone_space and is_unspaced(word.lstrip()[0]):
            ids = ids[1:]
        if not ids:
            raise ValueError(f"targets: {word!r} has no tokens")
        return ids


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
