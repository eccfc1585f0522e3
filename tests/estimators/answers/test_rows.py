"""Forms in which questions, contexts and answers may come, and bad input."""

import copy

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skxlmr import TruncationWarning, XLMRobertaQuestionAnswerer
from tests.contract import assert_same
from tests.estimators.answers.questions import draw_rows, same_weights
from tests.estimators.conftest import weights_of


@pytest.fixture(scope="module")
def rows():
    return draw_rows(24)


@pytest.fixture(scope="module")
def fitted(make, rows):
    return make(XLMRobertaQuestionAnswerer).fit(*rows)


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


@pytest.mark.parametrize(
    ("columns", "absent"),
    [
        (["passage", "question"], "context"),
        (["context", "query"], "question"),
        (["question", "passage", "id"], "context"),
        (["q", "c", "id"], "question"),
    ],
)
@pytest.mark.parametrize("frame", [pd.DataFrame, lambda table: pl.DataFrame(table).to_arrow()])
def test_names_that_contradict_the_places_of_two_columns(fitted, columns, absent, frame):
    with pytest.raises(
        ValueError, match=f"^X has no column '{absent}'.*got {len(columns)} columns .*'{columns[0]}', '{columns[1]}'"
    ):
        fitted.predict(frame({column: ["a"] for column in columns}))


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
        (("Vogel", "4"), "y row 1: expected answer_start to be a character position, counted from 0, found '4'"),
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
    with pytest.raises(ValueError, match=r"X row 1: the question 'Wer singt .* set long_question='truncate'"):
        fitted.predict([GOOD, long])


def test_a_question_is_cut_by_option(make, fitted):
    good, question = (GOOD["question"], GOOD["context"]), GOOD["question"] * 20
    long, short = (question, GOOD["context"] * 9), (question, "ok")
    truncating = copy.copy(fitted).set_params(long_question="truncate", max_length=40)
    with pytest.warns(
        TruncationWarning, match="2 of 3 questions are longer than 18 tokens and were cut; the longest lost"
    ):
        together = truncating.predict_spans([good, long, short])
    with pytest.warns(TruncationWarning, match="1 of 1 questions are longer"):
        assert_same(truncating.predict_spans([long]), together[1:2])  # whatever the other rows
    kept = truncating.tokenizer_.encode_batch([question], return_offsets=True).offsets[18, 1]
    assert_same(truncating.predict_spans([(question[:kept], long[1])]), together[1:2])
    with pytest.warns(TruncationWarning, match="1 of 2 questions"):
        learnt = make(XLMRobertaQuestionAnswerer, long_question="truncate", max_length=40).fit(
            [good, long], ["Vogel"] * 2
        )
    assert learnt.n_truncated_ == 1


@pytest.mark.parametrize(
    "question",
    ["\u33c2" * 20, "Wer singt \u33c2" * 9, "b\u2475\u33c2" * 12],
    ids=["one alone", "after words", "of two kinds"],
)
def test_a_character_of_several_tokens_is_cut_as_a_whole(fitted, question):
    """NFKC makes a.m. of U+33C2 and (2) of U+2475; what is left has the most tokens that there is room for, or fewer."""
    context = GOOD["context"] * 9
    truncating = copy.copy(fitted).set_params(long_question="truncate", max_length=40, stride=20)

    def n_tokens(text):
        return int(truncating.tokenizer_.encode_batch([text]).lengths[0]) - 2

    n_kept = 36 - 20 - 1  # of 40 tokens, <s>, </s></s> and </s> take four, and windows share 20
    left = max((question[:end] for end in range(len(question)) if n_tokens(question[:end]) <= n_kept), key=len)
    lost = n_tokens(question) - n_tokens(left)
    with pytest.warns(
        TruncationWarning, match=f"longer than {n_kept} tokens and were cut; the longest lost {lost} token"
    ):
        found = truncating.predict_spans([(question, context)])
    assert_same(found, truncating.predict_spans([(left, context)]))


def test_no_question_is_short_enough(make, fitted):
    """Windows that share all tokens but one, or a segmentation that is drawn in an epoch and has more tokens."""
    question, context = "the bird sings " * 9, GOOD["context"] * 9
    truncating = copy.copy(fitted).set_params(long_question="truncate", max_length=40, stride=35)
    with pytest.raises(
        ValueError, match=r"X row 0: the question 'the bird.* of which windows share 35\. .*lower stride$"
    ):
        truncating.predict([(question, context)])
    drawn = make(XLMRobertaQuestionAnswerer, subword_sampling=0.1, long_question="truncate", max_length=40, stride=32)
    with (
        pytest.warns(TruncationWarning),
        pytest.raises(ValueError, match=r"X row 0: the question .*, or lower stride$"),
    ):
        drawn.fit([(question, context)], ["Vogel"])


def test_context_without_tokens(make):
    answerer = make(XLMRobertaQuestionAnswerer).fit([tuple(GOOD.values()), ("Wer?", "\u200b\ufeff")], ["Vogel", None])
    assert answerer.predict([("Wer?", "\u200b\ufeff")]).tolist() == [""]
    assert answerer.predict_spans([("Wer?", "\u200b\ufeff"), tuple(GOOD.values())])[0] == []
    assert answerer.no_answer_score([("Wer?", "\u200b\ufeff")]).tolist() == [np.inf]


def test_answers_that_no_window_shows_are_counted(make):
    words = " ".join(["река"] * 30)
    X = [{"question": "дом?", "context": words}] * 3
    answerer = make(XLMRobertaQuestionAnswerer, max_length=16, stride=2)
    with pytest.warns(
        UserWarning, match="1 of the 3 rows are learnt as rows without an answer.* max_length=16 .* stride=2"
    ):
        answerer.fit(X, [(words, 0), ("река", 5), None])
    with pytest.warns(UserWarning, match="1 of the 1 rows are learnt"):
        answerer.partial_fit(X[:1], [(words, 0)])
