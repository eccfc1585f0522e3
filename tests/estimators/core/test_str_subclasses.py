"""A text is its content, whatever its class prints: a member of ``class X(str, Enum)`` prints its name."""

import enum

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skxlmr import (
    XLMMaskedLM,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaTokenClassifier,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
)
from skxlmr.estimators._answers.rows import check_questions, question_table, read_targets
from skxlmr.estimators._choices.rows import check_choices
from skxlmr.estimators._core.classes import check_classes
from skxlmr.estimators._dialogues.rows import check_candidates, check_dialogues
from skxlmr.estimators._sequence.targets import announced_targets, learn_targets, targets_of, weights_of_classes
from skxlmr.estimators._tokens.rows import check_tags, check_token_rows
from skxlmr.estimators._tokens.spans import check_spans
from skxlmr.estimators._xlm.family import XLM
from skxlmr.metrics import answer_f1_score, entities, entity_f1_score
from skxlmr.text._arguments import list_of_str
from skxlmr.utils._validation import check_texts


class Member(str, enum.Enum):  # noqa: UP042  # StrEnum prints its content, this one does not
    A = "a"
    B = "b"
    PER = "PER"
    TAG = "B-PER"
    O = "O"  # noqa: E741
    USER = "user"
    DE = "de"
    MINI = "skxlmr-mini"


class Loud(str):
    """Like texts of templating libraries, whose methods return texts of their class."""

    def __str__(self):
        return "<b>" + str.__str__(self) + "</b>"


ROWS = [Member.A, Loud("b"), np.str_("c")]


@pytest.mark.parametrize(
    "X",
    [
        ROWS,
        np.array(ROWS, dtype=object),
        pd.Series(ROWS, dtype=object),
        pd.Series(ROWS).astype("category"),
        pd.DataFrame({"text": pd.Series(ROWS, dtype=object)}),
        pl.Series(ROWS, dtype=pl.Object),
        pa.array(ROWS),
    ],
    ids=lambda X: type(X).__name__,
)
def test_texts(X):
    found = check_texts(X).first
    assert found == ["a", "b", "c"] and set(map(type, found)) == {str}


def test_pairs():
    texts = check_texts([(Member.A, Loud("b"))])
    assert (texts.first, texts.second) == (["a"], ["b"]) and {type(texts.first[0]), type(texts.second[0])} == {str}


def test_what_a_tokenizer_is_given():
    assert set(map(type, list_of_str(ROWS, "texts"))) == {str}


def test_words_tags_and_spans():
    rows = check_token_rows([ROWS])
    assert rows.words == [["a", "b", "c"]] and set(map(type, rows.words[0])) == {str}
    (tags,) = check_tags([[Member.TAG, Loud("I-PER"), Member.O]], rows)
    assert tags == ["B-PER", "I-PER", "O"] and set(map(type, tags)) == {str}
    texts = check_token_rows([Member.A])
    ((span,),) = check_spans([[(0, 1, Member.PER)]], texts)
    assert span == (0, 1, "PER") and type(span[2]) is str


def test_tags_in_metrics():
    assert entities([Member.TAG, "I-PER"]) == [("PER", 0, 2)]
    assert entity_f1_score([[Member.A, "O"]], [["a", "O"]], scheme="plain") == 1
    assert answer_f1_score([Member.A, (Loud("b"), 0)], ["a", Member.B]) == 1


def test_questions_and_answers():
    (target,) = read_targets(["a b"], [(Member.B, 2)], "y")
    assert target.answers == [("b", 2)] and type(target.answers[0][0]) is str
    found = check_questions(question_table([(Member.A, Loud("b"))], "X"), "X")
    assert {type(found.first[0]), type(found.second[0])} == {str}


def test_choices():
    found = check_choices([(Member.A, [Loud("b"), Member.B])])
    assert found.choices == [["b", "b"]] and {type(text) for text in found.prompts + found.choices[0]} == {str}


def test_dialogues_and_candidates():
    found = check_dialogues([[(Member.USER, Member.A), ("agent", Loud("b"))]], speakers={Loud("agent"): "system"})
    assert found.texts == ["a", "b"] and found.from_system.tolist() == [False, True]
    assert set(map(type, found.texts)) == {str}
    for candidates in (ROWS, [ROWS]):
        lists, _ = check_candidates(candidates, 1)
        assert lists == [["a", "b", "c"]] and set(map(type, lists[0])) == {str}
    assert ROWS[0] is Member.A  # the list of the caller stays as it is


@pytest.mark.parametrize(
    "y",
    [
        [Member.A, Member.B],
        np.array([Member.A, Member.B], dtype=object),
        pd.Series([Member.A, Member.B], dtype=object),
        [Loud("a"), Loud("b")],
    ],
    ids=["list", "array", "Series", "other"],
)
def test_labels(y):
    kind, codes = learn_targets(y, "y")
    assert kind.names == ["a", "b"] and codes.tolist() == [0, 1]
    assert set(map(type, kind.classes.tolist())) == {str}
    assert kind.encode(y, "y").tolist() == [0, 1]
    assert kind.read(y, "y").tolist() == ["a", "b"]
    check_classes(y, kind.classes)
    assert announced_targets(y, ["a"], "y").names == ["a", "b"]


def test_columns_of_labels():
    kind, codes = learn_targets([[Member.A, "x"], [Member.B, "y"]], "y")
    assert kind.names == ["0: a", "0: b", "1: x", "1: y"] and codes.tolist() == [[0, 0], [1, 1]]
    check_classes([[Member.A, Member.B], ["x", "y"]], kind.classes)
    labels, _ = learn_targets(pd.DataFrame({Member.A: [0, 1], Member.B: [1, 0]}), "y")
    assert labels.names == ["a", "b"]


def test_class_weight():
    codes, ones = np.array([0, 1]), np.ones(2, np.float32)
    found = weights_of_classes({Member.A: 2.0, Loud("b"): 3.0}, np.array(["a", "b"]), codes, ones)
    assert found.tolist() == [2, 3]
    labels = targets_of("multilabel-indicator", np.array(["a", "b"]))
    assert labels._weights_2K(np.eye(2), ones, {Member.B: 4.0}).tolist() == [[1, 1], [1, 4]]


def test_score():
    classifier = XLMRobertaClassifier()
    classifier.classes_, classifier.target_type_ = np.array(["a", "b"]), "binary"
    classifier.predict = lambda X: np.array(["a", "b"])
    assert classifier.score(["x", "y"], [Member.A, Member.A]) == 0.5


def test_labels_of_zero_shot_classification():
    for labels in ([Member.A, Loud("b")], pd.Series([Member.A, Member.B], dtype=object), pa.array(["a", "b"])):
        found = XLMRobertaZeroShotClassifier(candidate_labels=labels)._candidates(None)
        assert found.tolist() == ["a", "b"]
    assert XLMRobertaZeroShotClassifier()._candidates([Member.A, Loud("b")]).tolist() == ["a", "b"]


def test_languages():
    assert XLM.languages(XLMMaskedLM(lang=(Member.DE, Loud("en")), objective="tlm")) == ["de", "en"]
    assert type(XLM.languages(XLMMaskedLM(lang=Member.DE))[0]) is str


def test_names_of_checkpoints(tmp_path, tiny_checkpoint):
    expected = XLMRobertaVectorizer("skxlmr-mini").transform(["a"])
    vectorizer = XLMRobertaVectorizer(Member.MINI).fit(["a"])
    assert np.array_equal(vectorizer.transform(["a"]), expected)
    assert vectorizer.module_.origin.name == "skxlmr-mini"
    assert XLMRobertaVectorizer(Loud(tiny_checkpoint)).fit(["a"]).module_.origin.name == str(tiny_checkpoint)


def test_stop_tokens(tiny_tokenizer):
    lm = XLMRobertaCausalLM()
    lm.tokenizer_ = tiny_tokenizer
    assert len(lm._stop_ids(["a"])) > 1
    assert lm._stop_ids([Member.A]) == lm._stop_ids([Loud("a")]) == lm._stop_ids(["a"])


def test_ignored_types(make):
    tagger = make(XLMRobertaTokenClassifier, max_epochs=1).fit([["a", "b"]] * 2, [[Member.TAG, Member.O]] * 2)
    assert tagger.classes_.tolist() == ["B-PER", "O"]
    assert tagger.predict_entities(["a b"], ignore_labels={Member.PER, Member.O}) == [[]]


def test_names_of_columns(make):
    for X in (pd.Series(["x"], name=Member.A), pd.DataFrame({Member.A: ["x"]}), pd.DataFrame({Loud("a"): ["x"]})):
        assert make(XLMRobertaVectorizer).fit(X).get_feature_names_out()[0] == "a_0"
