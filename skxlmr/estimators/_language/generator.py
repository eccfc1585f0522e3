"""Continuing texts with a fitted causal language model."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from skxlmr.estimators._fine_tuning.fine_tuned import FineTuned
from skxlmr.estimators.parameters import LanguageModelParameters
from skxlmr.utils._imports.later import torch
from skxlmr.utils._sklearn import Interval, validate_parameter_constraints
from skxlmr.utils._tables import plain_str

_CONSTRAINTS: dict[str, list[Any]] = {
    "max_new_tokens": [Interval(Integral, 1, None, closed="left")],
    "do_sample": ["boolean"],
    "temperature": [Interval(Real, 0, None, closed="neither")],
    "top_k": [Interval(Integral, 1, None, closed="left"), None],
    "top_p": [Interval(Real, 0, 1, closed="right"), None],
    "num_beams": [Interval(Integral, 1, None, closed="left")],
    "repetition_penalty": [Interval(Real, 0, None, closed="neither")],
    "stop_tokens": [list, tuple],
    "include_prompt": ["boolean"],
    "random_state": ["random_state"],
}


class TextGenerator(LanguageModelParameters, FineTuned):
    """``generate``, for estimators with a causal language model as their module."""

    def generate(
        self,
        prompts: Any,
        *,
        max_new_tokens: int = 20,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        num_beams: int = 1,
        repetition_penalty: float = 1.0,
        stop_tokens: Sequence[str] = (),
        include_prompt: bool = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> list[str]:
        """Continue texts, each on its own: batch size and neighbours change nothing but the rounding of the logits.

        Parameters
        ----------
        prompts : list, array, Series or DataFrame of str
            Texts to continue; an empty one begins a new text.
        max_new_tokens : int, default=20
            Most tokens to append. A text ends earlier where ``</s>`` or one of the ``stop_tokens`` is generated.
        do_sample : bool, default=False
            Draw tokens by their probabilities instead of taking the most probable one.
        temperature : float, default=1.0
            Below 1 likely tokens are drawn still more often, above 1 less often.
        top_k : int, optional
            Draw from this many most probable tokens only.
        top_p : float, optional
            Draw only from the most probable tokens that together have this probability.
        num_beams : int, default=1
            With more than 1 the search keeps this many most probable texts, and returns the one with the highest mean
            log-probability per token.
        repetition_penalty : float, default=1.0
            Above 1 the tokens that the prompt and the text so far have become less likely.
        stop_tokens : list of str, optional
            Tokens that end a text: ``"."`` is every full stop, at the beginning of a word or elsewhere; each must be one token
            of the checkpoint. The one that ended a text is its last.
        include_prompt : bool, default=False
            Return the prompts with their continuations.
        random_state : int, RandomState instance or None, default=None
            Seed of the draws; an int makes them repeatable.

        Returns
        -------
        list of str
            What follows each prompt, with the space before it if a new word begins.

        Raises
        ------
        ValueError
            If a setting is out of bounds or has no effect with the others, a stop token is not a token of the checkpoint, or a
            prompt and ``max_new_tokens`` are more than ``max_length`` tokens (names the row).

        Examples
        --------
        >>> from skxlmr import XLMRobertaCausalLM
        >>> lm = XLMRobertaCausalLM("skxlmr-mini", max_epochs=30, learning_rate=2e-3, schedule="constant", random_state=0)
        >>> lm = lm.fit(["The battery lasts two days."])
        >>> lm.generate(["The battery"], stop_tokens=["."], include_prompt=True)
        ['The battery lasts two days.']
        >>> drawn = [lm.generate(["The battery"], do_sample=True, random_state=0) for _ in range(2)]
        >>> drawn[0] == drawn[1]  # the same draws with the same seed
        True
        """
        validate_parameter_constraints(_CONSTRAINTS, locals(), caller_name="generate")
        from skxlmr.nn.decoding.generation import beam_search, generate, sampler

        if do_sample and num_beams > 1:
            raise ValueError(f"beam search does not draw: do_sample=True needs num_beams=1, got {num_beams}")
        if not do_sample and (temperature != 1 or top_k is not None or top_p is not None):
            raise ValueError("temperature, top_k and top_p say how tokens are drawn: they need do_sample=True")
        engine = self._engine()
        module: Any = engine.module
        texts = self._read_texts(prompts, "prompts", reset=False).first
        rows = self._beginnings(texts, int(max_new_tokens))
        seeds = check_random_state(random_state).randint(np.iinfo(np.int32).max, size=len(rows)) if do_sample else None
        common: dict[str, Any] = {
            "max_new_tokens": int(max_new_tokens),
            "stop_ids": self._stop_ids(stop_tokens),
            "repetition_penalty": float(repetition_penalty),
        }

        def run(numbers: list[int]) -> list[list[int]]:
            batch = [rows[i] for i in numbers]
            if num_beams > 1:
                return beam_search(module, batch, num_beams=int(num_beams), **common)
            if seeds is not None:
                generators = [torch.Generator(engine.device).manual_seed(int(seeds[i])) for i in numbers]
                return generate(module, batch, choose=sampler(generators, temperature, top_k, top_p), **common)
            return generate(module, batch, **common)

        found = engine.generate(rows, run)
        continuations = [self._continuation(row, ids) for row, ids in zip(rows, found, strict=True)]
        if not include_prompt:
            return continuations
        read = [self._as_read(text, row) for text, row in zip(texts, rows, strict=True)]
        return [text + new for text, new in zip(read, continuations, strict=True)]

    def _beginnings(self, texts: list[str], max_new_tokens: int) -> list[list[int]]:
        """Ids of each prompt, ``<s> tokens`` with no end."""
        encoded = self.tokenizer_.encode_batch(texts)
        # a tokenizer's limit is for texts that are read
        limit = self.config_.max_length if self.max_length is None else self._limit()
        too_long = np.flatnonzero(encoded.lengths - 1 + max_new_tokens > limit)
        if len(too_long):
            row = too_long[0]
            raise ValueError(
                f"prompts row {row}: {encoded.lengths[row] - 1} tokens and max_new_tokens={max_new_tokens} are more than the "
                f"{limit} tokens of a text"
            )
        return [encoded.row(i)[:-1].tolist() for i in range(len(encoded))]

    def _stop_ids(self, tokens: Sequence[str]) -> list[int]:
        """Ids of the end of a text and of these tokens, however they begin."""
        stop_ids = {self.tokenizer_.eos_token_id}
        pieces = self.tokenizer_.convert_ids_to_pieces(np.arange(self.tokenizer_.vocab_size)) if tokens else []
        for token in tokens:
            ids = self._ids_of(plain_str(token), pieces) if isinstance(token, str) and token else set()
            if not ids:
                raise ValueError(f"stop_tokens: {token!r} is not a token of the checkpoint")
            stop_ids |= ids
        return sorted(stop_ids)

    def _ids_of(self, token: str, pieces: list[str]) -> set[int]:
        """Ids that are read as this token, at the beginning of a word or elsewhere."""
        ids = {i for i, piece in enumerate(pieces) if token in (piece, piece[1:] if piece[:1] in ("▁", "Ġ") else None)}
        # a byte-level vocabulary writes its pieces in other characters, some of which are other letters
        encoded = self.tokenizer_.encode_batch([token, f" {token}"])
        ids |= {int(encoded.row(i)[1]) for i in range(2) if encoded.lengths[i] == 3}
        read = {i: self.tokenizer_.decode([i], skip_special_tokens=False) for i in ids}
        return {i for i, text in read.items() if token in (text, text.strip())}

    def _as_read(self, prompt: str, ids: list[int]) -> str:
        """The prompt without the white space at its end, if the tokenizer leaves that out."""
        return prompt if self.tokenizer_.decode(ids)[-1:].isspace() else prompt.rstrip()

    def _continuation(self, prompt: list[int], new: list[int]) -> str:
        """Text of the new tokens, as it follows the prompt's."""
        new = [i for i in new if i < self.tokenizer_.vocab_size]  # a checkpoint may have more word embeddings
        head, whole = self.tokenizer_.decode(prompt), self.tokenizer_.decode(prompt + new)
        # A token may be a part of a character, and is decoded otherwise alone.
        return whole[len(head) :] if whole.startswith(head) else self.tokenizer_.decode(new)
