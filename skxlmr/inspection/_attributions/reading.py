"""Texts as the engine reads them, with the place of each token in the text as it was passed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.estimators._core.prompts import lower
from skxlmr.estimators._core.truncation import warn_of_truncation
from skxlmr.inspection._attributions.units import Span
from skxlmr.nn.sentence import TextSettings
from skxlmr.text import EncodedBatch
from skxlmr.utils._validation import Texts
from skxlmr.utils._words import cut_words

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule, TokenLayout


def logits_of(module: TaskModule, z: Tensor, layout: TokenLayout) -> Any:
    """Outputs of a task model from the embeddings of the words."""
    return module(None, layout, inputs_embeds=z)


def encode(estimator: Any, texts: Texts, n_each: int = 1, **options: Any) -> EncodedBatch:
    """Ids of the texts with offsets; warns about truncation. A row of X has ``n_each`` of these texts.

    Raises
    ------
    ValueError
        If windows of a long text begin with a prompt: where their tokens lie is not known.
    """
    limit = estimator._limit()
    encoded: EncodedBatch = estimator._tokenize(texts, limit, return_offsets=True, **options)
    warn_of_truncation(encoded, encoded.n_dropped, limit, "texts")
    if encoded.offsets is None:
        row = int(np.flatnonzero(encoded.n_windows > 1)[0]) // n_each
        raise ValueError(
            f"X row {row} is read in windows that each begin with the prompt, and attributions can't tell where their tokens "
            "lie: set long_text='truncate', or prompt=None"
        )
    return encoded


def places(encoded: EncodedBatch, texts: Texts, how: TextSettings) -> tuple[np.ndarray, np.ndarray]:
    """Which text each token belongs to, -1 for those that stay, and where it lies in the text as it was passed.

    Tokens of the prompt stay.
    """
    assert encoded.offsets is not None and encoded.sequence_ids is not None
    text_T, places_T2 = encoded.sequence_ids.astype(np.int64), encoded.offsets.astype(np.int64)
    prompt, rows = how.prompt() or "", encoded.input_rows
    for window in range(len(encoded)) if prompt or how.lower_case else ():
        span = encoded.span(window)
        for number, column in enumerate((texts.first, texts.second)):
            if column is None:
                continue
            before = prompt if number == 0 else ""
            mine = np.flatnonzero(text_T[span] == number) + span.start
            read = before + column[rows[window]]
            if how.lower_case:  # a few letters become two
                origin = np.repeat(np.arange(len(read)), [len(lower([letter])[0]) for letter in read])
                ends = np.append(origin, len(read))[places_T2[mine]]
                last = np.maximum(places_T2[mine, 1] - 1, 0)
                ends[:, 1] = np.where(
                    places_T2[mine, 1] > places_T2[mine, 0], np.append(origin, len(read) - 1)[last] + 1, ends[:, 0]
                )
                places_T2[mine] = ends
            text_T[mine[places_T2[mine, 1] <= len(before)] if before else mine[:0]] = -1
            places_T2[mine] = np.maximum(places_T2[mine] - len(before), 0)
    return text_T, places_T2


def words_of(texts: list[tuple[str, ...]]) -> list[list[list[Span]]]:
    """Where the words of each text of each row are."""
    return [[cut_words(text) for text in row] for row in texts]


def rows_of(texts: Texts) -> list[tuple[str, ...]]:
    """The text or the two texts of each row."""
    if texts.second is None:
        return [(text,) for text in texts.first]
    return list(zip(texts.first, texts.second, strict=True))
