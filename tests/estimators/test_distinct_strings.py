"""Each distinct string is tokenised once per call of a method, however often it occurs in the rows."""

from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest

from skxlmr import (
    XLMRobertaClassifier,
    XLMRobertaMultipleChoiceClassifier,
    XLMRobertaQuestionAnswerer,
    XLMRobertaTokenClassifier,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
)


@pytest.fixture
def tokenised(monkeypatch, tiny_tokenizer):
    """The strings that a tokenizer reads inside a block."""
    kind = type(tiny_tokenizer)

    @contextmanager
    def strings():
        read, original = Counter(), kind._encode_texts
        with monkeypatch.context() as patch:
            patch.setattr(kind, "_encode_texts", lambda self, some, how: read.update(some) or original(self, some, how))
            yield read

    return strings


def test_equal_texts(make, tokenised):
    vectorizer = make(XLMRobertaVectorizer)
    with tokenised() as fitting:
        vectorizer.fit(["a bird"] * 50)
    with tokenised() as read:
        features = vectorizer.transform(["a bird"] * 50)
    assert fitting == read == {"a bird": 1} and features.shape == (50, 32)
    with tokenised() as read:
        np.testing.assert_array_equal(make(XLMRobertaVectorizer).fit_transform(["a bird"] * 50), features)
    assert read == {"a bird": 2}  # `fit` and `transform`


@pytest.mark.parametrize("long_text", ["truncate", "window"])
def test_both_columns_of_pairs(make, tokenised, long_text):
    vectorizer = make(XLMRobertaVectorizer, long_text=long_text, max_length=63)  # odd: whole texts are compared
    with tokenised() as read:
        vectorizer.fit([("a", "b"), ("b", "a"), ("a", "a"), ("c", "b")])
    assert read == {"a": 1, "b": 1, "c": 1}


def test_training_rows(make, tokenised, texts, languages):
    with tokenised() as read:
        make(XLMRobertaClassifier).fit([*texts[:8]] * 6, languages)
    assert read == dict.fromkeys(texts[:8], 1)


def test_texts_with_labels(make, tokenised, texts):
    nli = make(XLMRobertaClassifier).fit(
        list(zip(texts, texts[::-1], strict=True)), ["contradiction", "entailment"] * 24
    )
    labels = [f"number {i}" for i in range(20)]
    zero_shot = XLMRobertaZeroShotClassifier(nli, candidate_labels=labels, dtype="float32").fit()
    with tokenised() as read:
        assert zero_shot.predict_proba(texts[:10]).shape == (10, 20)
    assert read == dict.fromkeys([*texts[:10], *(f"This example is {label}." for label in labels)], 1)


def test_repeated_words(make, tokenised):
    X, y = [["the", "Haus"], ["Haus", "the", "the"], ["Haus"]], [["O", "B-X"], ["B-X", "O", "O"], ["B-X"]]
    tagger = make(XLMRobertaTokenClassifier)
    with tokenised() as fitting:
        tagger.fit(X, y)
    with tokenised() as read:
        tags = tagger.predict([["the"] * 7, ["Haus", "the"], ["Vogel"] * 2])
    assert fitting == {"the": 1, "Haus": 1} and read == {"the": 1, "Haus": 1, "Vogel": 1}
    assert [len(row) for row in tags] == [7, 2, 2]


def test_repeated_questions_and_contexts(make, tokenised):
    X = [("Wer?", "ein Vogel singt"), ("Was?", "ein Vogel singt"), ("Wer?", "das Haus"), ("Wer?", "ein Vogel singt")]
    answerer = make(XLMRobertaQuestionAnswerer)
    with tokenised() as fitting:
        answerer.fit(X, ["Vogel", "singt", "Haus", "Vogel"])
    with tokenised() as read:
        answerer.predict(X)
    assert fitting == read == dict.fromkeys(["Wer?", "Was?", "ein Vogel singt", "das Haus"], 1)


def test_prompt_of_several_choices(make, tokenised):
    X = [("why?", ["so", "because"]), ("Warum?", ["so", "darum", "nie"])]
    chooser = make(XLMRobertaMultipleChoiceClassifier).fit(X, [1, 2])
    with tokenised() as read:
        chooser.predict(X)
    assert read == dict.fromkeys(["why?", "Warum?", "so", "because", "darum", "nie"], 1)
