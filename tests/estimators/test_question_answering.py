"""Questions and contexts to answers: training, the best spans against the reference pipeline, no answer, and bad input."""

import json
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils._param_validation import InvalidParameterError

from skxlmr import XLMRobertaQuestionAnswerer, XLMRobertaVectorizer, load, save
from skxlmr.estimators._answer_spans import best_answers
from skxlmr.metrics import answer_exact_match_score, answer_f1_score
from tests.estimators.conftest import padded, weights_of
from tests.tiny import WORDS

LEARNS = {"max_epochs": 12, "batch_size": 8, "learning_rate": 3e-3, "warmup_ratio": 0.1}
KEY = {"en": "river", "de": "Fluss", "ru": "река", "el": "ποτάμι"}


def draw_rows(n, seed=0, length=(4, 9)):
    """Contexts of random words with the word before a number as the answer, asked for by a word of its language."""
    rng, X, y = np.random.default_rng(seed), [], []
    for i in range(n):
        language = sorted(WORDS)[i % 4]
        words = [str(word) for word in rng.choice(WORDS[language].split(), rng.integers(*length))]
        place = int(rng.integers(len(words)))
        start = len(" ".join(words[:place])) + bool(place)
        answer = words[place]
        words.insert(place + 1, "96")
        X.append({"question": f"96 {KEY[language]}?", "context": " ".join(words)})
        y.append({"text": answer, "answer_start": start})
    return X, y


@pytest.fixture(scope="module")
def rows():
    return draw_rows(24)


@pytest.fixture(scope="module")
def long_rows():
    """Rows whose contexts need several windows of 30 tokens."""
    return draw_rows(8, seed=1, length=(14, 24))


@pytest.fixture(scope="module")
def fitted(make, rows):
    return make(XLMRobertaQuestionAnswerer).fit(*rows)


def same_weights(found, expected):
    return all(torch.equal(found[name], expected[name]) for name in expected)


# Training -------------------------------------------------------------------------------------------------------------


def test_learns_where_answers_are(make):
    X, y = draw_rows(160, seed=2)
    X_test, y_test = draw_rows(40, seed=3)
    answerer = make(XLMRobertaQuestionAnswerer, **LEARNS)
    before = clone(answerer).set_params(max_epochs=1, learning_rate=1e-9).fit(X, y).score(X_test, y_test)
    answerer.fit(X, y)
    assert answerer.loss_curve_[-1] < 0.5 * answerer.loss_curve_[0]
    assert before < 0.3 and answerer.score(X_test, y_test) > 0.5
    predicted = answerer.predict(X_test)
    assert predicted.dtype == object and set(map(type, predicted)) == {str}
    assert all(answer in row["context"] for answer, row in zip(predicted, X_test, strict=True))
    assert answerer.score(X_test, y_test) == answer_f1_score(y_test, predicted)
    assert answer_exact_match_score(y_test, predicted) <= answerer.score(X_test, y_test)
    assert answerer.n_truncated_ == 0 and answerer.n_features_in_ == 2


def test_one_step_is_that_of_transformers(make, still_checkpoint, tmp_path, long_rows):
    """A batch of all windows: its loss and what the step makes of it are those of the reference on the same windows."""
    transformers = pytest.importorskip("transformers")
    X, y = long_rows
    settings = {"max_length": 30, "stride": 5, "batch_size": 64, "schedule": "constant", "max_grad_norm": None}
    answerer = make(XLMRobertaQuestionAnswerer, still_checkpoint, **settings)
    started = make(XLMRobertaQuestionAnswerer, still_checkpoint, **settings | {"learning_rate": 1e-20}).fit(X, y)
    save(started, tmp_path / "started")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "started").eval()
    assert type(model).__name__ == "XLMRobertaForQuestionAnswering"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "started")
    losses = []
    for question, answer in zip(X, y, strict=True):
        parts = tokenizer(
            question["question"], question["context"], truncation="only_second", max_length=30, stride=5,
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        for i, ids in enumerate(parts["input_ids"]):
            of_context = [k for k, kind in enumerate(parts.sequence_ids(i)) if kind == 1]
            touched = [
                k for k in of_context if parts["offset_mapping"][i][k][0] < end and parts["offset_mapping"][i][k][1] > start
            ]  # fmt: skip
            whole = touched and (
                parts["offset_mapping"][i][of_context[0]][0] <= start and parts["offset_mapping"][i][of_context[-1]][1] >= end
            )  # fmt: skip
            first, last = (touched[0], touched[-1]) if whole else (0, 0)
            positions = {"start_positions": torch.tensor([first]), "end_positions": torch.tensor([last])}
            losses.append(model(torch.tensor([ids]), **positions).loss)
    assert len(losses) > 1.5 * len(X)
    expected = torch.stack(losses).mean()
    assert started.loss_curve_[0] == pytest.approx(expected.item(), abs=1e-5)
    assert answerer.fit(X, y).loss_curve_ == started.loss_curve_
    assert not same_weights(weights_of(answerer), weights_of(started))


def test_weights_count_like_repeated_rows(make, still_checkpoint, rows):
    X, y = (values[:6] for values in rows)
    whole = {"batch_size": 64, "max_grad_norm": None}
    weighted = make(XLMRobertaQuestionAnswerer, still_checkpoint, **whole).fit(X, y, sample_weight=[2, 1, 1, 0, 1, 1])
    kept = [0, 0, 1, 2, 4, 5]
    repeated = make(XLMRobertaQuestionAnswerer, still_checkpoint, **whole).fit(
        [X[i] for i in kept], [y[i] for i in kept]
    )
    assert weighted.loss_curve_[0] == pytest.approx(repeated.loss_curve_[0], abs=1e-6)
    unweighted = make(XLMRobertaQuestionAnswerer, still_checkpoint, **whole).fit(X, y)
    assert abs(unweighted.loss_curve_[0] - weighted.loss_curve_[0]) > 1e-4


def test_early_stopping_scores_token_f1(make, rows):
    X, y = rows
    answerer = make(XLMRobertaQuestionAnswerer, max_epochs=2).fit(X, y, X_val=X[:5], y_val=y[:5])
    assert answerer.validation_scores_[-1] == pytest.approx(answerer.score(X[:5], y[:5]))
    stopped = make(XLMRobertaQuestionAnswerer, max_epochs=30, early_stopping=True, n_iter_no_change=1, tol=1.0).fit(
        X, y
    )
    assert stopped.n_iter_ == 2 and len(stopped.validation_scores_) == 2


def test_warm_start_goes_on(make, rows):
    answerer = make(XLMRobertaQuestionAnswerer, warm_start=True, max_epochs=3).fit(*rows)
    first = answerer.loss_curve_
    assert answerer.fit(*rows).loss_curve_[0] < first[0]


def test_segmentations_are_drawn(make, rows):
    drawn = make(XLMRobertaQuestionAnswerer, subword_sampling=0.1, max_epochs=2).fit(*rows)
    assert drawn.loss_curve_ != make(XLMRobertaQuestionAnswerer, max_epochs=2).fit(*rows).loss_curve_


# Forms of X and y -----------------------------------------------------------------------------------------------------


def test_forms_of_X_make_no_difference(make, rows):
    X, y = rows
    frame = pd.DataFrame(X)
    expected = make(XLMRobertaQuestionAnswerer).fit(X, y).predict(X)
    pairs = [(row["question"], row["context"]) for row in X]
    for name, form in {
        "frame": frame,
        "other order, other columns": frame.assign(id=1)[["id", "context", "question"]],
        "other names": frame.rename(columns={"question": "q", "context": "c"}),
        "pairs": pairs,
        "array": np.array(pairs),
        "object array": np.array(pairs, dtype=object),
        "Series of dicts": pd.Series(X, index=range(100, 124)),
        "polars": pl.DataFrame(X).select("context", "question"),
        "arrow": pl.DataFrame(X).to_arrow(),
    }.items():
        np.testing.assert_array_equal(make(XLMRobertaQuestionAnswerer).fit(form, y).predict(form), expected, name)


def test_names_of_columns(make, rows):
    X, y = rows
    answerer = make(XLMRobertaQuestionAnswerer).fit(pd.DataFrame(X).assign(id=1)[["context", "id", "question"]], y)
    assert answerer.feature_names_in_.tolist() == ["question", "context"] and answerer.n_features_in_ == 2
    expected = answerer.predict(pd.DataFrame(X))
    np.testing.assert_array_equal(answerer.predict(X), expected)  # dicts say which is which
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        answerer.predict([(row["question"], row["context"]) for row in X])
    with pytest.raises(ValueError, match="feature names should match"):
        answerer.predict(pd.DataFrame({"q": ["a"], "c": ["b"]}))
    assert not hasattr(answerer.fit(X, y), "feature_names_in_")


def test_forms_of_y_make_no_difference(make, rows):
    X, y = rows
    expected = weights_of(make(XLMRobertaQuestionAnswerer).fit(X, y))
    for name, form in {
        "tuples": [(answer["text"], answer["answer_start"]) for answer in y],
        "frame": pd.DataFrame(y)[["answer_start", "text"]],
        "Series": pd.Series(y, index=range(50, 74)),
        "object array": np.array(y, dtype=object),
        "SQuAD": [{key: [value, other] for (key, value), other in zip(a.items(), ("x", 0), strict=True)} for a in y],
        "white space around": [(" " + a["text"], a["answer_start"] - 1) if a["answer_start"] else a for a in y],
    }.items():
        assert same_weights(weights_of(make(XLMRobertaQuestionAnswerer).fit(X, form)), expected), name


def test_answer_without_a_start_is_its_first_occurrence(make):
    X = [("Wer?", "ein Vogel und ein Vogel")] * 2
    found, first, second = (
        weights_of(make(XLMRobertaQuestionAnswerer).fit(X, [("Vogel", start)] * 2)) for start in (None, 4, 18)
    )
    assert same_weights(found, first) and not same_weights(found, second)


def test_only_the_first_answer_is_trained_on_and_all_are_right(fitted, rows):
    X, _ = rows
    predicted = fitted.predict(X)
    assert fitted.score(X, [["nothing like it", text] for text in predicted]) == 1.0
    assert fitted.score(X, list(predicted)) == 1.0
    assert fitted.score(X, [None] * len(X)) == 0.0


@pytest.mark.parametrize("as_frames", [True, False])
def test_model_selection(make, rows, as_frames):
    X, y = rows
    if as_frames:
        X, y = pd.DataFrame(X), pd.DataFrame(y)
    search = GridSearchCV(make(XLMRobertaQuestionAnswerer), {"learning_rate": [1e-4, 3e-3]}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.predict(X)) == len(X)
    scores = cross_val_score(make(XLMRobertaQuestionAnswerer), X, pd.Series(y) if not as_frames else y, cv=3)
    assert scores.shape == (3,) and np.isfinite(scores).all()


# Best spans -----------------------------------------------------------------------------------------------------------


def test_equals_the_reference_pipeline(shared_data):
    """Recorded n-best lists of transformers 4.46.3, but that no answer of ours begins with white space."""
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


# Parameters -----------------------------------------------------------------------------------------------------------


def test_window_parameters_reach_the_encoding(fitted, long_rows):
    X = long_rows[0]
    scores = [
        fitted.set_params(max_length=max_length, stride=stride).no_answer_score(X)
        for max_length, stride in [(None, None), (32, None), (32, 8), (32, 2), (40, 8)]
    ]
    fitted.set_params(max_length=None, stride=None)
    np.testing.assert_array_equal(scores[1], scores[2])  # a quarter of 32
    for i, j in [(0, 1), (2, 3), (2, 4)]:
        assert np.abs(scores[i] - scores[j]).max() > 1e-4


def test_long_answers_are_found_when_allowed(fitted, rows):
    lengths = []
    for max_answer_length in (1, 4):
        spans = fitted.set_params(max_answer_length=max_answer_length).predict_spans(rows[0], n_best=100)
        lengths.append(max(span["end"] - span["start"] for row in spans for span in row))
    fitted.set_params(max_answer_length=15)
    assert lengths[1] > lengths[0]


@pytest.mark.parametrize(
    "params",
    [
        {"stride": -1},
        {"stride": 1.5},
        {"max_answer_length": 0},
        {"align_to_words": "yes"},
        {"allow_no_answer": None},
        {"no_answer_threshold": "low"},
        {"no_answer_threshold": float("inf")},
    ],
    ids=str,
)
def test_parameters_out_of_range(make, rows, params):
    (name,) = params
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of XLMRobertaQuestionAnswerer must be"):
        make(XLMRobertaQuestionAnswerer, **params).fit(*rows)


# Folders --------------------------------------------------------------------------------------------------------------


def test_saved_folder_comes_back_and_opens_elsewhere(fitted, rows, tmp_path):
    X = rows[0]
    save(fitted, tmp_path / "saved")
    expected = fitted.predict_spans(X)
    assert load(tmp_path / "saved").predict_spans(X) == expected
    assert XLMRobertaQuestionAnswerer.from_checkpoint(tmp_path / "saved", dtype="float32").predict_spans(X) == expected
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["XLMRobertaForQuestionAnswering"]
    assert len(XLMRobertaVectorizer(tmp_path / "saved").fit_transform(["ein Vogel"])) == 1


def test_fit_starts_a_new_head_and_says_so(make, fitted, rows, tmp_path):
    save(fitted, tmp_path / "saved")
    with pytest.warns(UserWarning, match="has a head of its own"):
        make(XLMRobertaQuestionAnswerer, tmp_path / "saved").fit(*rows)


# Bad input ------------------------------------------------------------------------------------------------------------

GOOD = {"question": "Wer?", "context": "ein Vogel singt"}


@pytest.mark.parametrize(
    ("X", "error", "said"),
    [
        ([GOOD, {"question": "Wer?"}], ValueError, "X row 1: expected a dict with 'question' and 'context', found"),
        ([GOOD, ("Wer?", "ein")], ValueError, "X row 1: expected a dict with 'question' and 'context', found"),
        ([GOOD, {**GOOD, "context": ""}], ValueError, "X row 1: expected a context with some text, found ''"),
        ([GOOD, {**GOOD, "context": " \n"}], ValueError, "X row 1: expected a context with some text"),
        ([{**GOOD, "question": " "}, GOOD], ValueError, "X row 0: expected a question with some text, found ' '"),
        ([GOOD, {**GOOD, "context": None}], ValueError, "X row 1: expected a text, got None"),
        ([("Wer?", float("nan")), ("Wer?", "ein")], ValueError, "X row 0: expected a text, got NaN"),
        (pd.DataFrame([GOOD, {**GOOD, "question": None}]), ValueError, "X row 1: expected a text, got N"),
        (["Wer?", "Was?"], ValueError, "X must have a question and a context in each row"),
        (pd.DataFrame([["a", "b", "c"]] * 2), ValueError, "got 3 columns"),
        (GOOD, TypeError, "X must be a list, array, Series or DataFrame of texts, got a dict"),
        ("Wer?", TypeError, "X must hold one text per row"),
        ([], ValueError, "X has no rows"),
    ],
)
def test_bad_X(make, fitted, X, error, said):
    for call in (lambda: make(XLMRobertaQuestionAnswerer).fit(X, [("Vogel", 4)] * 2), lambda: fitted.predict(X)):
        with pytest.raises(error, match=said) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (("Vogel", 5), "y row 1: expected the answer 'Vogel' at character 5 of the context, found 'ogel ' there"),
        (("Vogel", 99), "y row 1: expected the answer 'Vogel' at character 99 of the context, found '' there"),
        ({"text": "Hund"}, "y row 1: expected a part of the context, found 'Hund', which is not in 'ein Vogel singt'"),
        ("vogel", "y row 1: expected a part of the context, found 'vogel'"),
        (7, "y row 1: expected an answer"),
        (("Vogel", "4"), "y row 1: expected answer_start to be a character's number from 0, found '4'"),
    ],
    ids=str,
)
def test_bad_y(make, answer, said):
    X, y = [GOOD, GOOD], [("Vogel", 4), answer]
    answerer = make(XLMRobertaQuestionAnswerer)
    with pytest.raises(ValueError, match=said) as caught:
        answerer.fit(X, y)
    assert "\n" not in str(caught.value) and not hasattr(answerer, "module_")
    with pytest.raises(ValueError, match=said.replace("y row", "y_val row")):
        answerer.fit(X, [("Vogel", 4)] * 2, X_val=X, y_val=y)


def test_rows_that_do_not_match(make, fitted):
    answerer = make(XLMRobertaQuestionAnswerer)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        answerer.fit([GOOD] * 3, [("Vogel", 4)] * 2)
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        answerer.fit([GOOD] * 3, None)
    with pytest.raises(ValueError, match="X_val and y_val belong together"):
        answerer.fit([GOOD], ["Vogel"], X_val=[GOOD])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        fitted.score([GOOD] * 3, ["Vogel"])


def test_question_that_leaves_no_room(make, fitted):
    long = {
        "question": "Wer singt heute über das kleine rote Haus und läuft morgen?" * 2,
        "context": GOOD["context"] * 9,
    }
    with pytest.raises(ValueError, match="row 1 can show: max_length leaves"):
        fitted.predict([GOOD, long])


def test_context_that_the_tokenizer_sees_nothing_in(make):
    answerer = make(XLMRobertaQuestionAnswerer).fit([tuple(GOOD.values()), ("Wer?", "\u200b\ufeff")], ["Vogel", None])
    assert answerer.predict([("Wer?", "\u200b\ufeff")]).tolist() == [""]
    assert answerer.predict_spans([("Wer?", "\u200b\ufeff"), tuple(GOOD.values())])[0] == []
    assert answerer.no_answer_score([("Wer?", "\u200b\ufeff")]).tolist() == [np.inf]
