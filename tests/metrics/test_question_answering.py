"""Answer scores against recorded cases, and against a second implementation of the rules of the SQuAD and MLQA scripts."""

import collections
import random
import re
import string

import numpy as np
import pandas as pd
import polars as pl
import pytest

from skxlmr.metrics import answer_exact_match_score, answer_f1_score, normalize_answer
from skxlmr.metrics._answers import read_answers


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "The  Eiffel-Tower, a tower!", "eiffeltower tower"),
        ("en", "An $5 %", "5"),
        ("es", "¿Los Gatos de la Casa?", "gatos de casa"),
        ("de", "„Der Hund“ – des Königs", "hund königs"),
        ("vi", "Những con mèo của tôi", "con mèo tôi"),
        ("hi", "दिल्ली।", "दिल्ली"),
        ("ar", "الكتاب، والقلم", "كتاب و قلم"),
        ("zh", "北京，ABC 大学。", "北 京 abc 大 学"),
        ("en", "北京大学", "北京大学"),  # the script splits Chinese characters only for Chinese
        (None, "The 東京タワー is a tower!", "the 東 京 タ ワ ー is a tower"),
        ("ja", "「さくら」3本", "さ く ら 3 本"),
        ("ru", "«Дом», река", "дом река"),
        (None, "Der Hund", "der hund"),  # articles depend on the language, which is unknown
        (None, " ?!… ", ""),
    ],
)
def test_normalize_answer(language, text, expected):
    assert normalize_answer(text, language) == expected
    assert normalize_answer(normalize_answer(text, language), language) == expected


def squad_normalize(text):
    """``normalize_answer`` of SQuAD's evaluate-v2.0.py."""
    text = "".join(char for char in text.lower() if char not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def squad_f1(gold, predicted):
    gold, predicted = squad_normalize(gold).split(), squad_normalize(predicted).split()
    same = sum((collections.Counter(gold) & collections.Counter(predicted)).values())
    if not gold or not predicted:
        return int(gold == predicted)
    if same == 0:
        return 0
    precision, recall = same / len(predicted), same / len(gold)
    return 2 * precision * recall / (precision + recall)


def test_english_scores_equal_those_of_the_squad_script():
    draw = random.Random(0)
    words = ["The", "a", "an", "cat", "cat's", "Cats", "(dog)", "dog.", "39", "$5", "", "  ", "-", "A"]
    rows = [
        ([" ".join(draw.choices(words, k=draw.randint(1, 5))) for _ in range(draw.randint(1, 3))],
         " ".join(draw.choices(words, k=draw.randint(0, 5))))
        for _ in range(400)
    ]  # fmt: skip
    y_true, y_pred = [row[0] for row in rows], [row[1] for row in rows]
    kept = [[text for text in texts if squad_normalize(text)] or [""] for texts in y_true]
    pairs = list(zip(kept, y_pred, strict=True))
    f1 = np.mean([max(squad_f1(text, found) for text in texts) for texts, found in pairs])
    exact = np.mean([max(squad_normalize(text) == squad_normalize(found) for text in texts) for texts, found in pairs])
    assert 0.05 < exact < f1 < 0.9
    assert answer_f1_score(y_true, y_pred, language="en") == pytest.approx(f1, abs=1e-12)
    assert answer_exact_match_score(y_true, y_pred, language="en") == pytest.approx(exact, abs=1e-12)
    # but for punctuation beyond ASCII, as the guide says
    assert squad_f1("“1999–2001”", "1999-2001") == 0
    assert answer_f1_score(["“1999–2001”"], ["1999-2001"], language="en") == 1


@pytest.mark.parametrize(
    ("true", "found", "language", "f1", "exact"),
    [
        ("the black cat", "a black dog", "en", 0.5, 0.0),
        ("the black cat", "a black dog", None, 1 / 3, 0.0),
        ("cat cat dog", "cat dog dog", "en", 2 / 3, 0.0),
        ("北京大学", "北京", "zh", 2 / 3, 0.0),
        ("北京大学", "北京", None, 2 / 3, 0.0),
        (["39", "39 years"], "39 years!", "en", 1.0, 1.0),
        (["39", "39 years"], "at 39 years", "en", 0.8, 0.0),
        (None, "", "en", 1.0, 1.0),
        (None, "Berlin", "en", 0.0, 0.0),
        ("Berlin", "", "en", 0.0, 0.0),
        ([], "The", "en", 1.0, 1.0),  # nothing is left of "The"
    ],
)
def test_recorded_cases(true, found, language, f1, exact):
    assert answer_f1_score([true], [found], language=language) == pytest.approx(f1, abs=1e-12)
    assert answer_exact_match_score([true], [found], language=language) == exact


def test_codes_of_languages():
    for language in ("en", "EN", "en-US", "en_GB.UTF-8"):
        assert normalize_answer("The Tower", language) == "tower"
    assert normalize_answer("the Ω", "ell") == "the ω"
    for language in ("english", "", 3, "e"):
        with pytest.raises(ValueError, match="language must be a code such as 'en', or None, got "):
            answer_f1_score(["a"], ["a"], language=[language])


def test_languages_and_weights():
    true, found = ["the cat", "der Hund", "x"], ["cat", "Hund", "y"]
    assert answer_exact_match_score(true, found, language=["en", "de", "fr"]) == pytest.approx(2 / 3)
    assert answer_exact_match_score(true, found, language=["en", "en", "fr"]) == pytest.approx(1 / 3)
    assert answer_exact_match_score(true, found, language=["en", "de", "fr"], sample_weight=[1, 1, 6]) == 0.25
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        answer_f1_score(true, found[:2])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        answer_f1_score(true, found, language=["en"])
    with pytest.raises(ValueError, match="y_pred row 1: expected one answer, found 2"):
        answer_f1_score(true[:2], ["cat", ["a", "b"]])


# What answers may be --------------------------------------------------------------------------------------------------

READ = [[("39", 7)], [], [("Haus", None)]]


def nan_frame(library):
    return library.DataFrame({"text": ["39", None, "Haus"], "answer_start": [7.0, None, None]})


@pytest.mark.parametrize(
    "y",
    [
        [{"text": "39", "answer_start": 7}, {"text": "", "answer_start": 3}, {"text": "Haus"}],
        [{"text": ["39"], "answer_start": [7]}, {"text": [], "answer_start": []}, {"text": ["Haus"]}],
        [[{"text": "39", "answer_start": 7}], [], [{"text": "Haus", "answer_start": None}]],
        [("39", 7), None, "Haus"],
        [("39", np.int64(7)), (None, None), ("Haus", float("nan"))],
        np.array([("39", 7), (None, None), ("Haus", None)], dtype=object),
        pd.Series([("39", 7), None, "Haus"], index=[5, 3, 1]),
        nan_frame(pd),
        nan_frame(pl),
        nan_frame(pl).to_arrow(),
        pd.DataFrame({"answers": [{"text": ["39"], "answer_start": np.array([7])}, pd.NA, " Haus".split()]}),
        pl.Series([{"text": "39", "answer_start": 7}, {"text": None, "answer_start": None}, {"text": "Haus"}]),
    ],
    ids=str,
)
def test_forms_of_answers(y):
    assert read_answers(y) == READ


def test_several_answers():
    expected = [[("39", 7), ("age 39", 3)]]
    for value in (
        {"text": ["39", "age 39"], "answer_start": [7, 3]},
        [{"text": "39", "answer_start": 7}, {"text": "age 39", "answer_start": 3}],
        [("39", 7), ("age 39", 3)],
    ):
        assert read_answers([value]) == expected


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ("39", TypeError, "y must be a list, Series, array or DataFrame with one answer per row, got str"),
        ({"text": ["39"]}, TypeError, "got dict"),
        (5, TypeError, "got int"),
        (["39", 5], ValueError, r"y row 1: expected an answer \(text and start, or None\), found 5"),
        ([None, {"answer": "39"}], ValueError, "y row 1: expected an answer with 'text', found the keys 'answer'"),
        (
            [("39", -1)],
            ValueError,
            "y row 0: expected answer_start to be a character position, counted from 0, found -1",
        ),
        ([("39", 1.5)], ValueError, "found 1.5"),
        ([("39", True)], ValueError, "found True"),
        ([("39", "7")], ValueError, "found '7'"),
        (
            np.array([("39", 7), ("", 0)]),
            ValueError,
            "y is an array of strings, in which the starts have become strings too, such as '7'",
        ),
        (
            [{"text": ["39"], "answer_start": [1, 2]}],
            ValueError,
            "y row 0: expected as many values in 'answer_start'",
        ),
        (
            pd.DataFrame({"a": ["39"], "b": [0]}),
            ValueError,
            "y must have the columns text and answer_start, found a, b",
        ),
    ],
)
def test_bad_answers(y, error, message):
    with pytest.raises(error, match=message):
        read_answers(y)


@pytest.mark.parametrize("score", [answer_f1_score, answer_exact_match_score])
def test_weights_and_rows_of_a_score(score):
    for weights, message in (([2, -1], "[Nn]egative"), ([1, np.nan], "NaN")):
        with pytest.raises(ValueError, match=message):
            score(["a", "b"], ["a", "c"], sample_weight=weights)
    with pytest.raises(ValueError, match="y_true has no rows"):
        score([], [])
    assert score(["a", "b"], ["a", "c"], sample_weight=[3, 1]) == 0.75
