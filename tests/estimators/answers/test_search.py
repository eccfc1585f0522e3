"""The best spans against the reference pipeline and a search through all, and no answer."""

import json
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from skxlmr import XLMRobertaQuestionAnswerer
from skxlmr.estimators._answers import search
from skxlmr.estimators._answers.search import best_answers
from tests.estimators.answers.questions import draw_rows
from tests.estimators.conftest import padded

LEARNS = {"max_epochs": 12, "batch_size": 8, "learning_rate": 3e-3, "warmup_ratio": 0.1}


@pytest.fixture(scope="module")
def rows():
    return draw_rows(24)


@pytest.fixture(scope="module")
def long_rows():
    """Rows with contexts that need several windows of 30 tokens."""
    return draw_rows(8, seed=1, length=(14, 24))


@pytest.fixture(scope="module")
def fitted(make, rows):
    return make(XLMRobertaQuestionAnswerer).fit(*rows)


# Best spans -----------------------------------------------------------------------------------------------------------


def test_equals_the_reference_pipeline(shared_data):
    """Recorded n-best lists of transformers 4.46.3, except that no answer of ours begins with white space."""
    cases = json.loads((shared_data / "goldens" / "pipelines.json").read_text(encoding="utf-8"))["qa"]
    assert len(cases) == 48
    for case in cases:
        options = case["kwargs"]
        answerer = XLMRobertaQuestionAnswerer.from_checkpoint(
            shared_data / "checkpoints" / "qa",
            max_length=options["max_seq_len"],
            stride=options["doc_stride"],
            max_answer_length=options.get("max_answer_len", 15),
            allow_no_answer=options.get("handle_impossible_answer", False),
            align_to_words=True,
            device="cpu",
        )
        X = [(case["question"], case["context"])]
        (found,) = answerer.predict_spans(X, n_best=options["top_k"], distinct=False)
        expected = case["answer"] if isinstance(case["answer"], list) else [case["answer"]]
        assert len(found) == len(expected)
        for span, recorded in zip(found, expected, strict=True):
            n_spaces = len(recorded["answer"]) - len(recorded["answer"].lstrip())
            assert (span["start"], span["end"]) == (recorded["start"] + n_spaces, recorded["end"])
            assert span["answer"] == recorded["answer"].lstrip()
            assert abs(span["score"] - recorded["score"]) <= 1e-6
        assert answerer.predict(X) == [found[0]["answer"]]


def by_brute_force(module, encoded, contexts, max_answer_length):
    """Each row's spans with their best scores, and the score of no answer, from padded logits and loops."""
    scores, nulls = [{} for _ in contexts], [1.0] * len(contexts)
    for window, row in enumerate(encoded.input_rows):
        part = encoded.span(window)
        with torch.no_grad():
            logits = module(torch.from_numpy(encoded.ids[part].astype(np.int64))[None])[0].double()
        offsets, kinds = encoded.offsets[part], encoded.sequence_ids[part]
        kept = [0, *np.flatnonzero(kinds == 1)]
        start_p, end_p = logits[kept].softmax(0).T.tolist()
        nulls[row] = min(nulls[row], start_p[0] * end_p[0])
        for i in range(1, len(kept)):
            for j in range(i, min(len(kept), i + max_answer_length)):
                edges = int(offsets[kept[i]][0]), int(offsets[kept[j]][1])
                ends = contexts[row][edges[0]], contexts[row][edges[1] - 1]
                if not any(map(str.isspace, ends)) and edges[0] < edges[1]:
                    scores[row][edges] = max(scores[row].get(edges, 0.0), start_p[i] * end_p[j])
    return scores, nulls


@pytest.mark.parametrize("max_answer_length", [1, 3, 100])
def test_best_spans_are_those_of_a_search_through_all(fitted, long_rows, max_answer_length):
    X = long_rows[0]
    answerer = clone(fitted).set_params(
        max_length=30, stride=5, max_answer_length=max_answer_length, allow_no_answer=True
    )
    vars(answerer).update({name: value for name, value in vars(fitted).items() if name.endswith("_")})
    questions, contexts = zip(*(row.values() for row in X), strict=True)
    encoded = answerer.tokenizer_.encode_batch(
        questions, contexts, max_length=30, truncation="only_second", stride=5, return_offsets=True
    )
    assert encoded.n_windows.max() > 1
    scores, nulls = by_brute_force(answerer.module_, encoded, contexts, max_answer_length)
    everything = answerer.predict_spans(X, n_best=100_000)
    log_odds = answerer.no_answer_score(X)
    for row, found in enumerate(everything):
        (null,) = [span for span in found if not span["answer"]]
        assert (null["start"], null["end"]) == (0, 0) and null["score"] == pytest.approx(nulls[row], abs=1e-6)
        spans = [span for span in found if span["answer"]]
        assert {(span["start"], span["end"]) for span in spans} == set(scores[row])
        for span in spans:
            assert span["score"] == pytest.approx(scores[row][span["start"], span["end"]], abs=1e-6)
            assert span["answer"] == contexts[row][span["start"] : span["end"]] == span["answer"].strip()
        assert [span["score"] for span in found] == sorted((span["score"] for span in found), reverse=True)
        assert log_odds[row] == pytest.approx(np.log(nulls[row] / max(scores[row].values())), abs=1e-5)
    for n_best in (1, 2, 7):
        assert answerer.predict_spans(X, n_best=n_best) == [found[:n_best] for found in everything]


def test_n_best_and_distinct(fitted, long_rows):
    X = long_rows[0]
    answerer = pickle.loads(pickle.dumps(fitted)).set_params(max_length=30, stride=12)
    assert {len(spans) for spans in answerer.predict_spans(X)} == {5}
    repeated = answerer.predict_spans(X, n_best=10_000, distinct=False)
    once = answerer.predict_spans(X, n_best=10_000)
    n_repeated = 0
    for with_repeats, spans in zip(repeated, once, strict=True):
        best = {}
        for span in with_repeats:
            best.setdefault((span["start"], span["end"]), span)
        assert spans == list(best.values())
        n_repeated += len(with_repeats) - len(spans)
    assert n_repeated > 0
    for n_best in (0, -1, 2.0, True, None):
        with pytest.raises(ValueError, match="n_best must be a whole number from 1, got"):
            answerer.predict_spans(X, n_best=n_best)


def test_equal_scores_keep_their_order(tiny_tokenizer):
    """With equal logits everywhere the earlier and shorter span comes first, whatever their number."""
    encoded = tiny_tokenizer.encode_batch(["Was?"], ["ein Vogel singt"], return_offsets=True)
    logits = np.zeros((len(encoded.ids), 2), np.float32)
    for n_best in (1, 3, 50):
        (row,) = best_answers(logits, encoded, ["ein Vogel singt"], n_best=n_best, max_answer_length=4)
        places = [(span.start, span.end) for span in row.spans]
        assert places == sorted(places)
        assert len({span.log_score for span in row.spans}) == 1


def test_words(tiny_tokenizer):
    """Alignment takes a span to the next white space, however wide that is, and never into it."""
    context = "\u3000ein  Vogel, heute!\n singt "
    encoded = tiny_tokenizer.encode_batch(["Was?"], [context], return_offsets=True)
    logits = np.random.default_rng(0).normal(size=(len(encoded.ids), 2)).astype(np.float32)
    options = {"n_best": 1000, "max_answer_length": 100}
    (aligned,) = best_answers(logits, encoded, [context], **options, align_to_words=True)
    (plain,) = best_answers(logits, encoded, [context], **options)
    words = ["ein", "Vogel,", "heute!", "singt"]
    expected = {
        (context.index(first), context.index(last) + len(last)) for i, first in enumerate(words) for last in words[i:]
    }
    assert {(span.start, span.end) for span in aligned.spans} == expected
    found = {context[span.start : span.end] for span in plain.spans}
    assert "Vogel" in found and len(found) > len(expected) and all(text == text.strip() != "" for text in found)


@pytest.mark.parametrize("align_to_words", [False, True])
def test_fewer_answers_are_the_first_of_all_where_tokens_share_characters(fitted, long_rows, align_to_words):
    """A ligature or a fraction is several tokens of one place, and an aligned answer has many pairs of tokens."""
    X = [("Wer?", f"ein {part} Vogel {part}ﬃ singt") for part in ("½", "½½", "㎞ ½", "ﬃ½㎞")]
    X += [tuple(row.values()) for row in long_rows[0]]
    answerer = pickle.loads(pickle.dumps(fitted)).set_params(
        align_to_words=align_to_words, max_length=30, stride=5, allow_no_answer=True
    )
    everything = answerer.predict_spans(X, n_best=10_000)
    assert min(map(len, everything)) > 9
    for n_best in (1, 3, 9):
        assert answerer.predict_spans(X, n_best=n_best) == [spans[:n_best] for spans in everything]


def test_no_answer_has_white_space_at_its_ends_whatever_the_tokens_stand_for(fitted, rows):
    """A lone surrogate and a zero-width space are read as spaces, and their tokens stand for what is around them too."""
    context = "ein  \ud800Vogel\u200b\u3000singt \u200b 96"
    for align_to_words in (False, True):
        answerer = pickle.loads(pickle.dumps(fitted)).set_params(align_to_words=align_to_words)
        (spans,) = answerer.predict_spans([("Wer?", context)], n_best=1000)
        assert len(spans) > 5
        for span in spans:
            assert span["answer"] == context[span["start"] : span["end"]] == span["answer"].strip() != ""


def test_white_space_is_looked_up_once_per_row(fitted, long_rows, monkeypatch):
    """Not once per window: the time would grow with the square of the context."""
    looked_up = []

    class Spaces(search._Spaces):
        def __init__(self, text):
            looked_up.append(text)
            super().__init__(text)

    monkeypatch.setattr(search, "_Spaces", Spaces)
    answerer = pickle.loads(pickle.dumps(fitted)).set_params(max_length=30, stride=5)
    answerer.predict(long_rows[0])
    assert looked_up == [row["context"] for row in long_rows[0]]


def test_batches_make_no_difference(fitted, rows, long_rows):
    X = rows[0] + long_rows[0]
    expected = fitted.predict_spans(X)
    order = np.random.default_rng(0).permutation(len(X))
    for batch_size, chunks in [(1, [order]), (64, np.array_split(order, 5))]:
        answerer = pickle.loads(pickle.dumps(fitted)).set_params(batch_size=batch_size)
        found = [spans for chunk in chunks for spans in answerer.predict_spans([X[i] for i in chunk])]
        for i, spans in zip(order, found, strict=True):
            assert [span["answer"] for span in spans] == [span["answer"] for span in expected[i]]
            np.testing.assert_allclose(
                [span["score"] for span in spans], [span["score"] for span in expected[i]], rtol=1e-4
            )


# No answer ------------------------------------------------------------------------------------------------------------


def test_no_answer_and_its_threshold(fitted, rows):
    X = rows[0]
    answerer = pickle.loads(pickle.dumps(fitted))
    scores, plain = answerer.no_answer_score(X), answerer.predict(X)
    assert "" not in plain
    answerer.set_params(allow_no_answer=True)
    for threshold in (0.0, *np.quantile(scores, [0.25, 0.75]), -100.0, 100.0):
        answerer.set_params(no_answer_threshold=float(threshold))
        np.testing.assert_array_equal(answerer.predict(X), np.where(scores > threshold, "", plain))
        first = [spans[0]["answer"] for spans in answerer.predict_spans(X)]
        np.testing.assert_array_equal(first, answerer.predict(X))
    answerer.set_params(allow_no_answer=False, no_answer_threshold=-100.0)
    np.testing.assert_array_equal(answerer.predict(X), plain)


def test_score_of_no_answer_is_the_difference_of_logits_in_one_window(fitted, rows):
    X = rows[0][:6]
    questions, contexts = zip(*(row.values() for row in X), strict=True)
    encoded = fitted.tokenizer_.encode_batch(questions, contexts, return_offsets=True)
    with torch.no_grad():
        logits = fitted.module_(**padded(fitted.tokenizer_, questions, contexts)).numpy()
    for row, (found, spans) in enumerate(
        zip(fitted.no_answer_score(X), fitted.predict_spans(X, n_best=1), strict=True)
    ):
        offsets = encoded.offsets[encoded.span(row)]
        in_context = encoded.sequence_ids[encoded.span(row)] == 1
        first = int(
            np.flatnonzero(in_context & (offsets[:, 0] == spans[0]["start"]) & (offsets[:, 1] > offsets[:, 0]))[0]
        )
        last = int(np.flatnonzero(in_context & (offsets[:, 1] == spans[0]["end"]))[-1])
        expected = logits[row, 0].sum() - logits[row, first, 0] - logits[row, last, 1]
        assert found == pytest.approx(expected, abs=1e-4)


def test_learns_that_there_is_no_answer(make):
    X, y = draw_rows(120, seed=4)
    y = [answer if i % 2 else None for i, answer in enumerate(y)]
    X = [
        row if i % 2 else {**row, "context": row["context"].replace("96 ", "").replace(" 96", "")}
        for i, row in enumerate(X)
    ]
    answerer = make(XLMRobertaQuestionAnswerer, **LEARNS, allow_no_answer=True).fit(X, y)
    is_none = answerer.no_answer_score(X) > 0
    assert (is_none == (np.arange(120) % 2 == 0)).mean() > 0.9
    np.testing.assert_array_equal(answerer.predict(X) == "", is_none)
    assert answerer.score(X, y) > answerer.set_params(allow_no_answer=False).score(X, y)
