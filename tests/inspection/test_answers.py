"""Answers in their contexts: what is read, what is compared, and what is drawn."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxlmr import XLMRobertaQuestionAnswerer, XLMRobertaVectorizer
from skxlmr.inspection import AnswerDisplay, EntityDisplay
from skxlmr.metrics import answer_exact_match_score, answer_f1_score
from tests.browser import needs_chromium, shown

X = [
    ("Who sings?", "A small bird sings, and a dog runs."),
    ("איפה גרה נועה?", "נועה גרה בתל אביב."),
    ("How old is she?", "Nothing <b>says</b> it."),
]


def answer(row, text, score):
    start = X[row][1].index(text)
    return {"answer": text, "score": score, "start": start, "end": start + len(text)}


NONE = {"answer": "", "score": 0.75, "start": 0, "end": 0}
FOUND = [
    [answer(0, "A small bird", 0.8), answer(0, "small bird", 0.1), answer(0, "a dog", 0.02)],
    [answer(1, "בתל אביב", 0.9)],
    [NONE, answer(2, "Nothing", 0.2)],
]
TRUE = [["a small bird", "bird"], ("תל אביב", 10), None]


@pytest.fixture(scope="module")
def fitted(make_any):
    return make_any(XLMRobertaQuestionAnswerer).fit(X, ["A small bird", "תל אביב", None])


def marks(html):
    return html.rpartition("</style>")[2].split('class="skxlmr-texts"')[1].count("<mark")


def test_answers_are_compared_as_the_scores_do():
    display = AnswerDisplay.from_predictions(X, FOUND, TRUE)
    best = [row[0]["answer"] for row in FOUND]
    np.testing.assert_array_equal(display.exact_match, [1, 0, 1])
    assert display.exact_match.mean() == answer_exact_match_score(TRUE, best)
    assert display.f1.mean() == pytest.approx(answer_f1_score(TRUE, best))
    assert repr(display).startswith("AnswerDisplay of 3 questions: exact match 0.667, F1 0.8")
    html = display.to_html()
    assert html.count("✓ right") == 2 and "✗ wrong, F1 0.50" in html and "exact match 0.667" in html
    english = AnswerDisplay.from_predictions(X[:1], ["a dog"], ["dog"], language="en")
    assert english.exact_match.tolist() == [1]


def test_all_answers_are_marked_and_listed():
    html = AnswerDisplay.from_predictions(X, FOUND).to_html()
    assert marks(html) == 5  # no answer has no mark
    assert html.count("<em>no answer</em>") == 1 and "0.750" in html and "score 0.800, characters 0 to 12" in html
    with_true = AnswerDisplay.from_predictions(X, FOUND, TRUE).to_html()
    assert marks(with_true) == 6  # the true one beside the wrong one
    assert with_true.count("<td>true</td>") == 4 and with_true.count("<em>no answer</em>") == 2


def test_texts_are_answers_too():
    display = AnswerDisplay.from_predictions(X, np.array(["small bird", "", "it"], object))
    assert [(row[0]["start"], row[0]["end"], row[0]["score"]) for row in display.answers] == [
        (2, 12, None),
        (0, 0, None),
        (20, 22, None),
    ]
    with pytest.raises(ValueError, match="no scores"):
        display.plot()


def test_an_answerer(fitted):
    display = AnswerDisplay.from_estimator(fitted, X, TRUE, n_best=2)
    assert display.answers == fitted.predict_spans(X, 2)
    assert display.exact_match.mean() == answer_exact_match_score(TRUE, fitted.predict(X))
    in_pipeline = make_pipeline(FunctionTransformer(lambda rows: rows), fitted)
    assert AnswerDisplay.from_estimator(in_pipeline, X, n_best=2).answers == display.answers
    with pytest.raises(TypeError, match=r"needs an estimator with predict_spans.*got XLMRobertaVectorizer"):
        AnswerDisplay.from_estimator(XLMRobertaVectorizer("skxlmr-mini"), X)


@pytest.mark.parametrize(
    ("answers", "true", "message"),
    [
        (FOUND[:2], None, "answers has 2 rows for 3 questions"),
        (FOUND, TRUE[:2], "y_true has 2 rows for 3 questions"),
        (["no", "", ""], None, "answers row 0: the answer 'no' .* not in its context"),
        ([FOUND[1], [], []], None, "answers row 0: the answer .* is of another context"),
        ([[], [{"answer": "x"}], []], None, "answers row 1: an answer has no end, start"),
        ([[], 3, []], None, "answers row 1: expected a list of dicts"),
        (FOUND, ["bird", ("תל אביב", 3), None], "y_true row 1: expected the answer"),
    ],
)
def test_what_is_refused(answers, true, message):
    with pytest.raises(ValueError, match=message):
        AnswerDisplay.from_predictions(X, answers, true)


def test_no_rows_and_no_answers(tmp_path):
    nothing = AnswerDisplay.from_predictions([], [], [])
    assert repr(nothing) == "AnswerDisplay of 0 questions" and "No questions" in nothing._repr_html_()
    empty = AnswerDisplay.from_predictions(X[:1], [[]], [None])
    assert empty.exact_match.tolist() == [1] and "no answer" in empty.to_html(tmp_path / "a.html")


def test_long_contexts_are_folded():
    long = [("Where?", "x" * 5000 + " here " + "y" * 5000)]
    display = AnswerDisplay.from_predictions(long, ["here"])
    assert "4,701 characters" in display.to_html() and len(display.to_html()) < 8000
    assert "characters …" not in AnswerDisplay.from_predictions(long, ["here"], context=None).to_html()


def test_plot():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    display = AnswerDisplay.from_predictions(X, FOUND, TRUE)
    assert display.plot() is display and display.figure_ is display.ax_.figure
    assert sum(patch.get_height() for patch in display.ax_.patches) == 3
    ax = pyplot.subplots()[1]
    assert AnswerDisplay.from_predictions(X, FOUND).plot(ax=ax).ax_ is ax
    AnswerDisplay.from_predictions([], []).plot()
    pyplot.close("all")


def test_scores_that_are_no_probabilities_are_drawn():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    found = [[{"answer": "a", "score": score, "start": 0, "end": 1}] for score in (-2.0, 0.5, 8.0)]
    display = AnswerDisplay.from_predictions([("q", "a b")] * 3, found).plot()
    assert [bar.get_height() for bar in display.ax_.patches] == [1, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert display.ax_.get_xlim() == (-2, 8)
    pyplot.close("all")


@pytest.mark.parametrize("score", [np.nan, -np.inf])
def test_a_score_that_is_not_finite_is_refused_by_pictures(score):
    pytest.importorskip("matplotlib")
    found = [[], [{"answer": "a", "score": score, "start": 0, "end": 1}]]
    with pytest.raises(
        ValueError, match=rf"answers row 1: the score of the best answer is {score}, which can't be drawn"
    ):
        AnswerDisplay.from_predictions([("q", "a b")] * 2, found).plot()


def test_there_is_a_language_for_each_question():
    with pytest.raises(ValueError, match="language has 2 rows for 3 questions"):
        AnswerDisplay.from_predictions(X, FOUND, TRUE, language=["en", "de"])


def test_legends_cover_no_bars():
    pyplot = pytest.importorskip("matplotlib.pyplot")
    of_entities = EntityDisplay.from_predictions(["a b"], [[(0, 1, "A")]], y_true=[[(0, 1, "A")]])
    for display in (AnswerDisplay.from_predictions(X, FOUND, TRUE), of_entities):
        display.plot().figure_.canvas.draw()
        assert display.ax_.get_legend().get_window_extent().y0 >= display.ax_.bbox.y1 - 1
    pyplot.close("all")


@needs_chromium
def test_the_page_opens(tmp_path):
    html = AnswerDisplay.from_predictions(X, FOUND, TRUE).to_html()
    with shown(html, tmp_path, width=400, color_scheme="dark") as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        assert page.locator(".skxlmr-text").nth(1).get_attribute("dir") == "rtl"
        assert "Nothing" in page.locator(".skxlmr-text").nth(2).inner_text()
        assert page.locator("b").count() == 0


@pytest.mark.parametrize(
    ("start", "end", "error", "message"),
    [
        (-13, -7, ValueError, "row 0: the characters -13 to -7 are not within the 13 of the context"),
        (7, 99, ValueError, "row 0: the characters 7 to 99 are not within the 13 of the context"),
        (0.5, 6, TypeError, "answers row 0: start must be a whole number, found 0.5"),
        (0, None, TypeError, "answers row 0: end must be a whole number, found None"),
    ],
)
def test_answers_lie_within_their_contexts(start, end, error, message):
    text = "A bird sings."
    with pytest.raises(error, match=message):
        AnswerDisplay.from_predictions([("q", text)], [[{"answer": text[7:], "start": start, "end": end}]])


def test_places_may_be_floats_that_are_whole():
    best = {"answer": "A bird", "start": 0.0, "end": 6.0}
    display = AnswerDisplay.from_predictions([("q", "A bird sings.")], [[best]], context=10.0)
    assert ">A bird<" in display.to_html() and isinstance(display.answers[0][0]["end"], int)
