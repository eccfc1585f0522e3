"""What is explained of estimators with an output per token: the tag of a word, the edges of an answer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.special import logsumexp

from skxlmr.estimators._answers.task import context_starts, span_positions
from skxlmr.estimators._tokens.predictions import _by_row
from skxlmr.estimators._tokens.task import best_places, starts_of_words
from skxlmr.inspection._attributions.explained import Explained, WeightedSum
from skxlmr.inspection._attributions.reading import logits_of, rows_of, words_of
from skxlmr.inspection._attributions.targets import codes_of, per_row
from skxlmr.text import EncodedBatch

EDGES = ("both", "start", "end")


def tags(estimator: Any, X: Any, target: Any, word: Any) -> tuple[Any, Explained]:
    """The logit of a word's tag, in the window that the tag is predicted from."""
    engine = estimator._engine()
    rows = estimator._check_X(X, reset=False)
    n_words, texts, word_places = rows.n_words.tolist(), rows.joined(), rows.joined_places()
    if word is None:
        raise ValueError(
            "attributions of a tagger explain the tag of one word: pass word, its number in the row from 0, or one number "
            "for each row"
        )
    words = per_row(word, len(rows), "word")
    for row, (number, n) in enumerate(zip(words, n_words, strict=True)):
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < n:
            has = f"0 to {n - 1}" if n else "and the row has no words"
            raise ValueError(f"word of row {row}: expected the number of a word, {has}, got {number!r:.80}")
    encoded = estimator.tokenizer_.encode_words(rows.words, return_offsets=True, **estimator._windows())
    best = best_places(encoded)
    first_of_words = _by_row(encoded, best[starts_of_words(encoded, best)], len(rows))
    place_N = np.array([places[number] for places, number in zip(first_of_words, words, strict=True)], np.int64)
    if target is None:
        tags = estimator._choose_tags(estimator._log_proba(engine, encoded, len(rows)))
        targets = [of_row[number] for of_row, number in zip(tags, words, strict=True)]
    else:
        targets = per_row(target, len(rows), "target")
    columns = codes_of(targets, estimator.classes_, "tag")
    window_N = np.searchsorted(encoded.starts, place_N, "right") - 1
    encoded, entries = _one_window_each(encoded, window_N, place_N[:, None], columns[:, None])
    assert encoded.word_ids is not None and encoded.offsets is not None
    places_T2 = encoded.offsets.astype(np.int64)
    for row, places in enumerate(word_places):
        span = encoded.span(row)
        mine = np.flatnonzero(encoded.word_ids[span] >= 0) + span.start
        places_T2[mine] += places[encoded.word_ids[mine]][:, :1]
    explained = Explained(
        texts=[(text,) for text in texts],
        names=("text",),
        targets=targets,
        encoded=encoded,
        row_W=np.arange(len(rows)),
        text_T=np.where(encoded.word_ids >= 0, 0, -1),
        places_T2=places_T2,
        words=[[list(map(tuple, places.tolist()))] for places in word_places],
        n_dropped=np.zeros(len(rows), int),
        reader=WeightedSum(entries),
        forward=logits_of,
        per_token=True,
        marks=[
            (0, *map(int, places[number]))  # type: ignore[misc]  # two numbers
            for places, number in zip(word_places, words, strict=True)
        ],
    )
    return engine, explained


def _one_window_each(
    encoded: EncodedBatch, window_N: np.ndarray, places_NE: np.ndarray, columns_NE: np.ndarray
) -> tuple[EncodedBatch, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """The window of each row that its number is read from, and the outputs that it sums."""
    places_NE = places_NE - encoded.starts[window_N][:, None]
    entries = [(places, columns, np.ones(len(places))) for places, columns in zip(places_NE, columns_NE, strict=True)]
    taken = replace(encoded.take(window_N), row_of_window=np.arange(len(window_N)))
    return taken, entries


def answers(estimator: Any, X: Any, target: Any, edge: str) -> tuple[Any, Explained]:
    """The logit of an answer's first token, of its last one, or the sum of both, in the window that scores it best."""
    if edge not in EDGES:
        raise ValueError(f"edge must be one of {', '.join(EDGES)}, got {edge!r}")
    engine = estimator._engine()
    questions = estimator._check_X(X, reset=False)
    contexts = questions.second or []
    encoded = estimator._encode(questions)
    logits_T2 = engine.tokens(encoded)
    if target is None:
        found = estimator._search(engine, encoded, contexts, 1)
        records = [estimator._as_records(context, row)[:1] for context, row in zip(contexts, found, strict=True)]
        spans = [(row[0]["start"], row[0]["end"]) if row else (0, 0) for row in records]
    else:
        spans = [
            _span(each, context, row)
            for row, (each, context) in enumerate(zip(per_row(target, len(contexts), "target"), contexts, strict=True))
        ]
    spans_N2 = np.array([span if span[0] < span[1] else (-1, -1) for span in spans], np.int64).reshape(-1, 2)
    places_W2 = span_positions(encoded, spans_N2) + encoded.starts[:-1, None]
    window_N = _best_windows(encoded, logits_T2, places_W2, spans_N2)
    edges = {"both": [0, 1], "start": [0], "end": [1]}[edge]
    columns_NE = np.tile(edges, (len(contexts), 1))
    encoded, entries = _one_window_each(encoded, window_N, places_W2[window_N][:, edges], columns_NE)
    assert encoded.offsets is not None and encoded.sequence_ids is not None
    rows = rows_of(questions) if len(contexts) else []
    explained = Explained(
        texts=rows,
        names=("question", "context"),
        targets=[context[start:end] for context, (start, end) in zip(contexts, spans, strict=True)],
        encoded=encoded,
        row_W=np.arange(len(rows)),
        text_T=encoded.sequence_ids.astype(np.int64),
        places_T2=encoded.offsets.astype(np.int64),
        words=words_of(rows),
        n_dropped=encoded.n_dropped,
        reader=WeightedSum(entries),
        forward=logits_of,
        per_token=True,
        marks=[(1, start, end) if start < end else None for start, end in spans],
    )
    return engine, explained


def _span(target: Any, context: str, row: int) -> tuple[int, int]:
    """Characters of an answer, which is given as such or as a text; (0, 0) for no answer."""
    if target in ("", (0, 0)):
        return 0, 0
    if isinstance(target, str):
        start = context.find(target)
        if start < 0:
            raise ValueError(f"target of row {row}: {target!r:.80} is not in the context {context!r:.80}")
        return start, start + len(target)
    is_pair = isinstance(target, tuple) and len(target) == 2 and all(isinstance(place, int) for place in target)
    if not is_pair or not 0 <= target[0] < target[1] <= len(context):
        raise ValueError(
            f"target of row {row}: expected an answer, or the characters (start, end) of one within the {len(context)} of the "
            f"context, got {target!r:.80}"
        )
    return target[0], target[1]


def _best_windows(
    encoded: EncodedBatch, logits_T2: np.ndarray, places_W2: np.ndarray, spans_N2: np.ndarray
) -> np.ndarray:
    """Of each row the window that shows its answer with the best score; without an answer the one with the lowest score."""
    first_W, scores = context_starts(encoded), np.full(len(encoded), -np.inf)
    rows = encoded.input_rows
    for window, row in enumerate(rows.tolist()):
        span = encoded.span(window)
        shown = np.concatenate([[span.start], np.arange(span.start + first_W[window], span.stop - 1)])
        has_answer = spans_N2[row, 0] >= 0
        if has_answer and places_W2[window, 1] == span.start:  # not whole in this window
            continue
        score = logits_T2[places_W2[window], [0, 1]].sum() - logsumexp(logits_T2[shown], axis=0).sum()
        scores[window] = score if has_answer else -score
    order = np.lexsort((-scores, rows))
    best = order[np.searchsorted(rows[order], np.arange(len(spans_N2)))]
    for row in np.flatnonzero(np.isneginf(scores[best])).tolist():
        raise ValueError(
            f"target of row {row}: no window of the context shows all of the answer: raise max_length or stride"
        )
    return best
