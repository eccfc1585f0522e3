"""Tokens as people read them, their words, and which text they belong to."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

import skxlmr
from skxlmr import XLMRobertaClassifier, XLMRobertaMaskedLM, XLMRobertaVectorizer, XLMVectorizer
from skxlmr.inspection import AttentionDisplay
from skxlmr.inspection._attention.rows import words_of
from tests.contract import FAST, TEXTS, Y
from tests.trimming.kinds import write


def looked_at(estimator, X, **options):
    display = AttentionDisplay.from_estimator(estimator, X, **options)
    return display.tokens, display.word_ids, display.sequence_ids, display.sources


@pytest.fixture(scope="module")
def vectorizer():
    return XLMRobertaVectorizer("skxlmr-mini")


def test_pairs(vectorizer):
    (tokens,), (words,), (texts,), (sources,) = looked_at(vectorizer, [["The screen, again.", "الشاشة"]])
    assert "".join(tokens) == "<s>Thescreen,again.</s></s>الشاشة</s>"
    ends = [i for i, token in enumerate(tokens) if token in ("<s>", "</s>")]
    assert (
        [i for i, text in enumerate(texts) if text == -1] == ends == [i for i, word in enumerate(words) if word == -1]
    )
    assert texts[1 : ends[1]] == [0] * (ends[1] - 1) and texts[ends[2] + 1 : -1] == [1] * (len(tokens) - ends[2] - 2)
    joined = ["".join(t for t, w in zip(tokens, words, strict=True) if w == word) for word in range(max(words) + 1)]
    assert joined == ["The", "screen", ",", "again", ".", "الشاشة"]
    assert sources == ["The screen, again.", "الشاشة"]


def test_tokens_of_thai_are_words_of_their_own_but_for_marks(vectorizer):
    (tokens,), (words,), _, (sources,) = looked_at(vectorizer, ["แบตเตอรี่ใช้งาน"])
    assert sources == ["แบตเตอรี่ใช้งาน"] and tokens[1] == "\u2423"
    joined = ["".join(t for t, w in zip(tokens, words, strict=True) if w == word) for word in range(max(words) + 1)]
    assert joined[0].startswith("\u2423") and "รี่" in joined and len(joined) > 5


@pytest.mark.parametrize(
    ("surfaces", "expected"),
    [
        ([" The", " ba", "tter", "y", "."], [0, 1, 1, 1, 2]),
        ([" ", "hält", " zwei"], [0, 0, 1]),
        ([" don", "'", "t"], [0, 1, 2]),
        ([" ใช้", "ง", "าน"], [0, 1, 2]),
        ([" ร", "ี", "่"], [0, 0, 0]),
        ([" ba", " <mask>", "y"], [0, 1, 2]),
    ],
)
def test_words_of_tokens(surfaces, expected):
    assert words_of(surfaces, [0] * len(surfaces)) == expected
    texts = [-1, *[0] * len(surfaces), -1, *[1] * len(surfaces), -1]
    n_words = max(expected) + 1
    both = [-1, *expected, -1, *[word + n_words for word in expected], -1]
    assert words_of(["<s>", *surfaces, "</s>", *surfaces, "</s>"], texts) == both


@pytest.mark.parametrize(
    ("kind", "tokens", "words"),
    [
        ("bert", ["[CLS]", "the", "bird", "s", "[SEP]"], [-1, 0, 1, 1, -1]),
        ("roberta", ["<s>", "t", "he", "bird", "s", "</s>"], [-1, 0, 0, 1, 1, -1]),
        ("xlm", ["<s>", "the", "bir", "d", "s", "</s>"], [-1, 0, 1, 1, 1, -1]),
    ],
)
def test_marks_of_other_vocabularies(kind, tokens, words, tmp_path):
    estimator = XLMVectorizer if kind == "xlm" else XLMRobertaVectorizer
    options = {"lang": "en"} if kind == "xlm" else {}
    made = estimator(write(kind, tmp_path / "checkpoint"), **options)
    found = looked_at(made, ["the birds"])
    assert (found[0], found[1], found[3]) == ([tokens], [words], [["the birds"]])


def test_letters_that_are_several_bytes(tmp_path):
    made = XLMRobertaVectorizer(write("roberta", tmp_path / "checkpoint"))
    (tokens,), (words,), _, (sources,) = looked_at(made, ["the แบ"])
    assert "\ufffd" in tokens and sources == ["the แบ"] and max(words) == 1


def test_words_that_were_passed_stay_whole(tiny_checkpoint):
    made = skxlmr.XLMRobertaTokenClassifier(tiny_checkpoint, **FAST).fit([["the", "bird"]] * 2, [["O", "B-X"]] * 2)
    (tokens,), (words,), _, (sources,) = looked_at(made, [["red-house", "walk", "!"]])
    assert max(words) == 2 and sources == ["red-house walk !"]
    assert "".join(t for t, w in zip(tokens, words, strict=True) if w == 0).strip("\u2423") == "red-house"


def test_a_mask_is_a_token_of_the_text(tiny_checkpoint):
    made = XLMRobertaMaskedLM.from_checkpoint(tiny_checkpoint)
    (tokens,), _, (texts,), _ = looked_at(made, ["the <mask> sings"])
    assert texts[tokens.index("<mask>")] == 0
    assert "<mask>" not in looked_at(XLMRobertaVectorizer(tiny_checkpoint), ["the <mask> sings"])[0][0]


def test_dialogues_show_who_speaks(fitted):
    made = fitted(skxlmr.XLMRobertaDialogueLM)
    (tokens,), _, (texts,), _ = looked_at(made, [[("user", "the bird"), ("system", "sings")]])
    assert [tokens[i] for i, text in enumerate(texts) if text == -1] == ["<s>", "[USR]", "[SYS]", "</s>"]


def test_a_row_for_each_choice_and_each_label(fitted):
    choices = fitted(skxlmr.XLMRobertaMultipleChoiceClassifier)
    assert [s[1] for s in looked_at(choices, [("the bird", ["sings", "walks"])])[3]] == ["sings", "walks"]
    labels = fitted(skxlmr.XLMRobertaZeroShotClassifier)
    tokens, _, texts, sources = looked_at(labels, ["the bird"])
    assert len(tokens) == len(labels.classes_) and all({0, 1} <= set(of_row) for of_row in texts)
    assert [source[0] for source in sources] == ["the bird"] * len(tokens)


def test_pipelines_and_searches(tiny_checkpoint):
    classifier = XLMRobertaClassifier(tiny_checkpoint, **FAST)
    pipeline = make_pipeline(FunctionTransformer(lambda texts: [text.upper() for text in texts]), classifier)
    search = GridSearchCV(pipeline, {"xlmrobertaclassifier__learning_rate": [1e-3]}, cv=2).fit(TEXTS, Y)
    found = AttentionDisplay.from_estimator(search, ["das Haus"])
    expected = AttentionDisplay.from_estimator(search.best_estimator_[-1], ["DAS HAUS"])
    assert found.tokens == expected.tokens
    np.testing.assert_array_equal(found.attentions[0], expected.attentions[0])
    other = make_pipeline(XLMRobertaVectorizer(tiny_checkpoint), LogisticRegression()).fit(TEXTS, Y)
    with pytest.raises(
        TypeError, match=r"^AttentionDisplay looks at an estimator of skxlmr, .* got LogisticRegression"
    ):
        AttentionDisplay.from_estimator(other, TEXTS)
    assert AttentionDisplay.from_estimator(other[0], TEXTS[:1]).tokens


def test_what_is_refused(tiny_checkpoint, vectorizer):
    with pytest.raises(ValueError, match=r"^X row 1: \d+ tokens are more than max_tokens=20: pass a shorter text"):
        AttentionDisplay.from_estimator(vectorizer, ["short", "a text of many words " * 9], max_tokens=20)
    for X, n in (([], 0), (["a"] * 17, 17)):
        with pytest.raises(ValueError, match=rf"^X has {n} rows to look at, expected 1 to 16"):
            AttentionDisplay.from_estimator(vectorizer, X)
    windows = XLMRobertaVectorizer(tiny_checkpoint, long_text="window", max_length=8, stride=2)
    with pytest.raises(ValueError, match=r"^X row 1: the text is read in \d+ windows"):
        AttentionDisplay.from_estimator(windows, ["the", "the bird sings over the river and walks slowly"])
    columns = XLMRobertaVectorizer(tiny_checkpoint, pairs=False)
    with pytest.raises(ValueError, match=r"^X has 2 columns of single texts: pass one column"):
        AttentionDisplay.from_estimator(columns, [["the", "bird"]])
    with pytest.raises(NotFittedError, match="not fitted"):
        AttentionDisplay.from_estimator(XLMRobertaClassifier(tiny_checkpoint), ["the"])
    cut = XLMRobertaVectorizer(tiny_checkpoint, max_length=8)
    with pytest.warns(skxlmr.TruncationWarning):
        assert len(AttentionDisplay.from_estimator(cut, ["the bird sings over the river today"]).tokens[0]) == 8
