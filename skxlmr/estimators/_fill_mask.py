"""What a fitted masked language model says: fillings of masks and pseudo-log-likelihoods."""

from numbers import Integral
from typing import Any

import numpy as np
import torch

from skxlmr.estimators._logits import LogitReader
from skxlmr.text import EncodedBatch
from skxlmr.utils._sklearn import check_sample_weight
from skxlmr.utils._validation import check_texts


class MaskedPredictions(LogitReader):
    """``fill_mask``, ``score_samples`` and ``score`` of an estimator whose module has a language modelling head."""

    tokenizer_: Any
    config_: Any
    _check_X: Any
    _module_on_device: Any
    _encode: Any

    def fill_mask(self, texts, top_k=5, targets=None):
        """Most probable fillings of each mask, which a text spells as the checkpoint does: ``<mask>`` for XLM-R.

        Parameters
        ----------
        texts : list, array, Series or DataFrame of str
            Each with one or more masks.
        top_k : int, default=5
            Number of fillings.
        targets : list of str, optional
            Rank only these words. A word of several tokens gets as many masks, and its score is the product of its tokens'
            probabilities.

        Returns
        -------
        list (one item a text) of lists (one item a mask) of dicts
            ``score`` (probability), ``token`` (id, or list of ids for a target of several tokens), ``token_str`` and
            ``sequence`` (the text with this mask filled), best first.

        Raises
        ------
        ValueError
            If a text has no mask (names the row), ``top_k`` is less than 1, or a target is empty.
        """
        self._module_on_device()
        texts = check_texts(texts, "texts", pairs_allowed=False)
        if not isinstance(top_k, Integral) or top_k < 1:
            raise ValueError(f"top_k must be a whole number of at least 1, got {top_k!r}")
        encoded = self._encode(texts, parse_special=True)
        places = np.flatnonzero(encoded.ids == self.tokenizer_.mask_token_id)
        rows = np.searchsorted(encoded.starts, places, "right") - 1
        without = np.setdiff1d(np.arange(len(texts)), rows)
        (mask,) = self.tokenizer_.convert_ids_to_pieces([self.tokenizer_.mask_token_id])
        if len(without):
            raise ValueError(
                f"row {without[0]}: no {mask} among the first {encoded.lengths[without[0]]} tokens of the text"
            )
        found = (
            self._best_tokens(encoded, places, int(top_k)) if targets is None else self._rank(encoded, places, targets)
        )
        answers: list[list[list[dict]]] = [[] for _ in range(len(texts))]
        for row, fillings in zip(rows, found, strict=True):
            # The n-th part ends where the n-th mask stands.
            parts = texts.first[row].split(mask)
            before = mask.join(parts[: len(answers[row]) + 1])
            after = mask.join(parts[len(answers[row]) + 1 :])
            for filling in fillings[: int(top_k)]:
                filling["sequence"] = self._joined(before, filling) + after
            answers[row].append(fillings[: int(top_k)])
        return answers

    def _joined(self, before: str, filling: dict) -> str:
        """Text up to the end of the filling; like the tokenizer, the mask takes the white space before it away."""
        (piece,) = self.tokenizer_.convert_ids_to_pieces(np.ravel(filling["token"])[:1])
        starts_word = piece.startswith("\u2581") and before.strip()
        if starts_word and before[-1].isspace():
            return before + filling["token_str"]
        return before.rstrip() + (" " if starts_word else "") + filling["token_str"]

    def _best_tokens(self, encoded: EncodedBatch, places: np.ndarray, top_k: int) -> list[list[dict]]:
        def read(logits_MV, items):
            best = logits_MV.softmax(1).topk(min(top_k, logits_MV.shape[1]))
            return torch.stack([best.values.cpu().double(), best.indices.cpu().double()], dim=-1)  # no float64 on MPS

        return [
            [
                {"score": score, "token": int(i), "token_str": self.tokenizer_.decode([int(i)], False)}
                for score, i in best
            ]
            for best in self._read_logits(encoded, places, read).tolist()
        ]

    def _rank(self, encoded: EncodedBatch, places: np.ndarray, targets) -> list[list[dict]]:
        """Targets with their scores, best first, for each mask."""
        words = check_texts(targets, "targets", pairs_allowed=False).first
        ids_of = [self._target_ids(word) for word in words]
        scores = np.empty((len(places), len(words)))
        for n_tokens in sorted(set(map(len, ids_of))):
            chosen = [i for i, ids in enumerate(ids_of) if len(ids) == n_tokens]
            widened, starts = _widen(encoded, places, n_tokens)
            if widened.lengths.max() > self.config_.max_length:
                raise ValueError(
                    f"row {widened.lengths.argmax()}: the text leaves no room for a target of {n_tokens} tokens"
                )
            steps = (starts[:, None] + np.arange(n_tokens)).ravel()
            wanted = torch.tensor([ids_of[i] for i in chosen])  # (targets, tokens)

            def read(logits_MV, items, wanted=wanted, n_tokens=n_tokens):
                columns = wanted[:, items % n_tokens].T.to(logits_MV.device)  # (M, targets)
                return logits_MV.log_softmax(1).gather(1, columns)

            log_p = self._read_logits(widened, steps, read)
            scores[:, chosen] = np.exp(log_p.reshape(len(places), n_tokens, -1).sum(1))
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

    def _target_ids(self, word: str) -> list[int]:
        """Ids of a target as it stands inside a text, without the lone space that a word of some scripts begins with."""
        ids = self.tokenizer_.encode_batch([word]).ids[1:-1].tolist()
        if len(ids) > 1 and self.tokenizer_.convert_ids_to_pieces(ids[:1]) == ["\u2581"]:
            ids = ids[1:]
        if not ids:
            raise ValueError(f"targets: {word!r} has no tokens")
        return ids

    def score_samples(self, X):
        """Pseudo-log-likelihood of each text: every token is masked in turn (Salazar et al. 2020, arXiv:1910.14659).

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            Texts or pairs of texts, as passed to ``fit``; either after ``from_checkpoint``.

        Returns
        -------
        ndarray of shape (n_rows,), float64
            Sum over the row's tokens of their log-probability, in nats. Unknown tokens are left out, since they stand for
            anything that the vocabulary lacks: a row of nothing else gets 0.
        """
        return self._pseudo_log_likelihood(X)[0]

    def score(self, X, y=None, sample_weight=None):
        """Mean pseudo-log-likelihood per token in nats; ``exp(-score)`` is the pseudo-perplexity.

        Parameters
        ----------
        X : list, array, Series or DataFrame of str
            As in ``score_samples``.
        y : None
            Ignored.
        sample_weight : array-like of shape (n_rows,), optional
            Tokens count as much as their rows weigh.

        Returns
        -------
        float
        """
        sums, counts = self._pseudo_log_likelihood(X)
        weights = check_sample_weight(sample_weight, sums, ensure_non_negative=True)
        n_tokens = weights @ counts
        return float(weights @ sums / n_tokens) if n_tokens else 0.0

    def _pseudo_log_likelihood(self, X) -> tuple[np.ndarray, np.ndarray]:
        """Sum of the tokens' log-probabilities and number of tokens, for each row."""
        self._module_on_device()
        encoded = self._encode(self._check_X(X, reset=False))
        ordinary = ~np.isin(encoded.ids, self.tokenizer_.all_special_ids)
        places = np.flatnonzero(ordinary)
        rows = np.searchsorted(encoded.starts, places, "right") - 1
        log_p = np.zeros(len(places))
        # One copy of the row for each token; as many at a time as make a few batches.
        budget = 8 * self._batching()["token_budget"]
        for chunk in np.split(np.arange(len(places)), _cuts(encoded.lengths[rows], budget)):
            copies = encoded.take(rows[chunk])
            masked = copies.starts[:-1] + places[chunk] - encoded.starts[rows[chunk]]
            labels = torch.from_numpy(copies.ids[masked].astype(np.int64))
            copies.ids[masked] = self.tokenizer_.mask_token_id

            def read(logits_MV, items, labels=labels):
                return logits_MV.log_softmax(1).gather(1, labels[items].to(logits_MV.device)[:, None])[:, 0]

            log_p[chunk] = self._read_logits(copies, masked, read)
        return np.bincount(rows, log_p, len(encoded)), np.bincount(rows, minlength=len(encoded))


def _cuts(sizes: np.ndarray, budget: int) -> np.ndarray:
    """Where to split neighbours so that each part's sizes add up to about the budget."""
    part = np.cumsum(sizes) // budget
    return np.flatnonzero(np.diff(part)) + 1


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
