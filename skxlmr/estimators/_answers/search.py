"""From start and end logits to the best answers of each row.

Shape legend: N rows of the input, W windows, T tokens of all windows together, C context tokens of one window, L tokens of
the longest answer allowed, S spans.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.special import log_softmax

from skxlmr.estimators._answers.task import context_starts
from skxlmr.text import EncodedBatch


@dataclass(frozen=True)
class AnswerSpan:
    """Part of a context, or no answer.

    Attributes
    ----------
    log_score : float
        Logarithm of the probability of its start times that of its end.
    start, end : int
        Characters of the context; (0, 0) for no answer.
    """

    log_score: float
    start: int
    end: int


@dataclass(frozen=True)
class RowAnswers:
    """What was found for one row: the best spans, best first, and the logarithm of the score of no answer."""

    spans: list[AnswerSpan]
    log_null_score: float

    @property
    def null_log_odds(self) -> float:
        """Log-odds of no answer against the best span; infinite where there is no span."""
        return self.log_null_score - self.spans[0].log_score if self.spans else np.inf


def best_answers(
    logits_T2: NDArray[np.floating],
    encoded: EncodedBatch,
    contexts: Sequence[str],
    *,
    n_best: int,
    max_answer_length: int,
    align_to_words: bool = False,
    distinct: bool = True,
) -> list[RowAnswers]:
    """Best spans of each row's context, over all of its windows.

    In each window, the probability of a start, and of an end, is the softmax over the tokens of the context and ``<s>``; a
    span's score is the product of both, and that of no answer is the product for ``<s>``, the lowest of all windows.

    Parameters
    ----------
    logits_T2 : ndarray of shape (T, 2)
    encoded : EncodedBatch
        The windows, with offsets.
    contexts : sequence of str, (N,)
    n_best : int
        Most spans of a row.
    max_answer_length : int
        Most tokens of a span.
    align_to_words : bool
        Whether spans reach to the next white space, or to the end of the window.
    distinct : bool
        Whether a part of the context counts once, with its best score, where several windows or tokens yield it.
    """
    assert encoded.offsets is not None, "encode with offsets"
    found: list[list[AnswerSpan]] = [[] for _ in contexts]
    log_null_N = np.full(len(contexts), np.inf)
    first_W = context_starts(encoded)
    spaces_of: dict[int, _Spaces] = {}  # of the current row: a long context has many windows
    for window, row in enumerate(encoded.input_rows.tolist()):
        tokens = encoded.span(window)
        shown = slice(tokens.start + int(first_W[window]), tokens.stop - 1)
        log_S2 = log_softmax(np.vstack([logits_T2[tokens.start], logits_T2[shown]]).astype(np.float64), axis=0)
        log_null_N[row] = min(log_null_N[row], log_S2[0].sum())
        if shown.start == shown.stop:  # nothing in the context that the tokenizer reads
            continue
        if row not in spaces_of:
            spaces_of = {row: _Spaces(contexts[row])}
        starts_C, ends_C, is_blank_C = _edges(spaces_of[row], encoded.offsets[shown], align_to_words)
        log_start_C, log_end_C = np.where(is_blank_C, -np.inf, log_S2[1:].T)
        length = min(max_answer_length, len(starts_C))
        log_end_CL = sliding_window_view(np.append(log_end_C, [-np.inf] * (length - 1)), length)
        log_score_S = (log_start_C[:, None] + log_end_CL).ravel()

        n_taken = 0
        seen = set()
        # where no span will be left out (as white space, or as a repetition), the best are enough
        are_different = not align_to_words and all(_differ(edges_C[~is_blank_C]) for edges_C in (starts_C, ends_C))
        for place in _descending(log_score_S, n_best if are_different else None).tolist():
            first, n_more = divmod(place, length)
            if n_taken == n_best or log_score_S[place] == -np.inf:
                break
            span = int(starts_C[first]), int(ends_C[first + n_more])
            if span[0] >= span[1] or (distinct and span in seen):
                continue
            seen.add(span)
            n_taken += 1
            found[row].append(AnswerSpan(float(log_score_S[place]), *span))
    return [
        RowAnswers(_best(spans, n_best, distinct), float(log_null))
        for spans, log_null in zip(found, log_null_N, strict=True)
    ]


def _best(spans: list[AnswerSpan], n_best: int, distinct: bool) -> list[AnswerSpan]:
    """The best spans of all windows, best first; the earlier window where they are equal."""
    best: dict[Any, AnswerSpan] = {}
    for i, span in enumerate(sorted(spans, key=lambda span: -span.log_score)):
        best.setdefault((span.start, span.end) if distinct else i, span)
    return list(best.values())[:n_best]


def _differ(values: NDArray[np.int64]) -> bool:
    """Whether no two of them are equal."""
    return bool(np.diff(np.sort(values)).all())


def _descending(values_S: NDArray[np.float64], k: int | None) -> NDArray[np.int64]:
    """Places of the ``k`` highest values or all, highest first, the earlier of equal ones first."""
    places = np.arange(len(values_S))
    if k is not None and k < len(values_S):
        places = np.flatnonzero(values_S >= np.partition(values_S, -k)[-k])
    return places[np.argsort(-values_S[places], kind="stable")]


class _Spaces:
    """Where the white space of a text is, seen from each of its characters and from its end."""

    def __init__(self, text: str):
        is_space = np.fromiter(map(str.isspace, text), bool, len(text))
        place = np.arange(len(text))
        self.n_before = np.concatenate(([0], np.cumsum(is_space), [is_space.sum()]))  # the end has two
        next_text = np.append(np.where(is_space, len(text), place), len(text))
        self.next_text = np.minimum.accumulate(next_text[::-1])[::-1]  # the next character that is not white space
        self.text_before = np.maximum.accumulate(
            np.append(0, np.where(is_space, 0, place + 1))
        )  # the end of the last one before


def _edges(
    spaces: _Spaces, offsets_C2: NDArray[np.int32], align_to_words: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """For each token, where a span that begins with it starts, and where a span that ends with it ends: never at white space.

    Also which tokens a span may neither begin nor end with.
    """
    starts_C, ends_C = offsets_C2.astype(np.int64).T
    n_before = spaces.n_before
    is_blank_C = n_before[ends_C] - n_before[starts_C] == ends_C - starts_C
    if align_to_words:
        begins_word_C = np.append(True, n_before[starts_C[1:] + 1] > n_before[ends_C[:-1]])
        word_C = np.cumsum(begins_word_C) - 1
        first_of_word = np.flatnonzero(begins_word_C)
        last_of_word = np.append(first_of_word[1:], len(word_C)) - 1
        starts_C, ends_C = starts_C[first_of_word][word_C], ends_C[last_of_word][word_C]
        is_blank_C = np.zeros(len(word_C), bool)
    return spaces.next_text[starts_C], spaces.text_before[ends_C], is_blank_C
