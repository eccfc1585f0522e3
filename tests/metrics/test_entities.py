"""Entity scores: recorded cases, and agreement with seqeval on random tags that follow no rules."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.exceptions import UndefinedMetricWarning

from skxlmr.metrics import (
    entities,
    entity_f1_score,
    entity_precision_recall_f1,
    entity_report,
    precision_recall_f1,
    split_tag,
    word_accuracy,
)

PERSON_PLACE = ["B-PER", "I-PER", "O", "B-LOC"]


@pytest.mark.parametrize(
    ("tags", "lenient", "iob2", "iobes"),
    [
        ("B-X I-X O B-Y", [("X", 0, 2), ("Y", 3, 4)], [("X", 0, 2), ("Y", 3, 4)], []),
        ("O I-X I-X", [("X", 1, 3)], [], []),
        ("B-X I-Y", [("X", 0, 1), ("Y", 1, 2)], [("X", 0, 1)], []),
        ("B-X B-X I-X", [("X", 0, 1), ("X", 1, 3)], [("X", 0, 1), ("X", 1, 3)], []),
        ("S-X B-Y I-Y E-Y", [("X", 0, 1), ("Y", 1, 4)], None, [("X", 0, 1), ("Y", 1, 4)]),
        ("B-X E-X I-X", [("X", 0, 2), ("X", 2, 3)], None, [("X", 0, 2)]),
        ("E-X S-X", [("X", 0, 1), ("X", 1, 2)], None, [("X", 1, 2)]),
        ("B-a-b I-a-b", [("a-b", 0, 2)], [("a-b", 0, 2)], []),
        ("", [], [], []),
    ],
)
def test_entities_of_each_scheme(tags, lenient, iob2, iobes):
    tags = tags.split()
    assert entities(tags) == lenient
    assert entities(tags, "IOBES") == iobes
    if iob2 is None:
        with pytest.raises(
            ValueError, match=r"is not a tag of the scheme 'IOB2': expected 'O' or 'B-\.\.\.', 'I-\.\.\.'"
        ):
            entities(tags, "IOB2")
    else:
        assert entities(tags, "IOB2") == iob2


def test_equal_neighbouring_plain_tags_are_one_entity():
    assert entities(["X-Y", "X-Y", "O", "Z"], "plain") == [("X-Y", 0, 2), ("Z", 3, 4)]


@pytest.mark.parametrize(("scheme", "letters"), [("BILOU", "BILU"), ("BMES", "BMES")])
def test_relatives_of_iobes(scheme, letters):
    """The same entities in other letters, broken ones too."""
    rng = np.random.default_rng(0)
    tags = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in "XY")]
    for _ in range(50):
        row = [str(tag) for tag in rng.choice(tags, 8)]
        theirs = ["O" if tag == "O" else letters["BIES".index(tag[0])] + tag[1:] for tag in row]
        assert entities(theirs, scheme) == entities(row, "IOBES")
        assert [split_tag(tag, scheme) for tag in theirs] == [split_tag(tag, "IOBES") for tag in row]
    with pytest.raises(ValueError, match=r"'L-X' is not a tag of the scheme 'BIO': .*; it is one of 'BILOU'"):
        entities(["L-X"])


def test_words_without_a_tag_are_left_out():
    true, predicted = [["B-PER", -100, "I-PER", np.int64(-100)], [-100]], [["B-PER", "O", "I-PER", "B-LOC"], ["B-X"]]
    assert entity_f1_score(true, predicted) == 1.0 == word_accuracy(true, predicted)
    assert list(entity_report(true, predicted, output_dict=True)) == ["PER", "micro avg", "macro avg", "weighted avg"]
    assert word_accuracy([[1, -100], [2]], [[1, 2], [1]]) == 0.5


@pytest.mark.parametrize(
    "container", [pd.Series, pl.Series, pa.array, lambda rows: np.array(rows, dtype=object), tuple]
)
def test_containers_of_rows(container):
    true, predicted = [PERSON_PLACE, ["B-X"]], [PERSON_PLACE, ["O"]]
    expected = entity_precision_recall_f1(true, predicted)
    assert entity_precision_recall_f1(container(true), container(predicted)) == expected
    assert word_accuracy(container(true), container(predicted)) == 0.8


REPORT = """\
              precision    recall  f1-score   support

         LOC       0.50      1.00      0.67         1
        MISC       0.00      0.00      0.00         1
         PER       1.00      0.50      0.67         2

   micro avg       0.67      0.50      0.57         4
   macro avg       0.50      0.50      0.44         4
weighted avg       0.62      0.50      0.50         4
"""


def test_report():
    true = [["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "O", "B-MISC", "O"]]
    predicted = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O", "B-LOC", "O"]]
    with pytest.warns(UndefinedMetricWarning, match="no entity of 'MISC' is predicted, or none is true"):
        assert entity_report(true, predicted) == REPORT
    report = entity_report(true, predicted, output_dict=True, zero_division=np.nan)
    assert report["PER"] == {"precision": 1.0, "recall": 0.5, "f1-score": pytest.approx(2 / 3), "support": 2.0}
    assert np.isnan(report["MISC"]["precision"]) and report["macro avg"]["precision"] == 0.75
    assert report["weighted avg"]["recall"] == 0.5
    assert entity_report(true, predicted, output_dict=True, zero_division=1.0)["MISC"]["precision"] == 1.0
    micro = entity_precision_recall_f1(true, predicted)
    assert tuple(report["micro avg"][key] for key in ("precision", "recall", "f1-score")) == pytest.approx(micro)
    weighted = entity_report(true, predicted, sample_weight=[3, 0.5], output_dict=True, zero_division=0.0)
    micro = entity_precision_recall_f1(true, predicted, sample_weight=[3, 0.5])
    assert tuple(weighted["micro avg"][key] for key in ("precision", "recall", "f1-score")) == pytest.approx(micro)
    assert weighted["PER"]["support"] == 3.5
    nothing = entity_report([["O"]], [["O"]], output_dict=True)
    assert set(nothing) == {"micro avg", "macro avg", "weighted avg"} and not any(nothing["macro avg"].values())


def test_report_on_spans():
    texts = ["Anna Lee ", "Rom"]
    true = [[(0, 9, "PER")], [{"start": 0, "end": 3, "label": "LOC"}]]
    report = entity_report(true, [[(0, 8, "PER")], [(0, 3, "LOC")]], texts=texts, output_dict=True)
    assert report["micro avg"] == {"precision": 1.0, "recall": 1.0, "f1-score": 1.0, "support": 2.0}
    with pytest.raises(ValueError, match=r"y_pred row 1: expected a span \(start, end, label\), got 'B-PER'"):
        entity_report(true, [[], ["B-PER"]], texts=texts)
    with pytest.raises(ValueError, match=r"zero_division must be 'warn', 0.0, 1.0 or nan, got 'zero'"):
        entity_report(true, true, texts=texts, zero_division="zero")
    with pytest.raises(ValueError, match="y_true has 2 rows for 1 texts"):
        entity_report(true, true, texts=texts[:1])


def test_recorded_scores():
    true = [PERSON_PLACE, ["O", "B-LOC"]]
    predicted = [["B-PER", "O", "O", "B-LOC"], ["B-LOC", "B-LOC"]]
    assert entity_precision_recall_f1(true, predicted) == (2 / 4, 2 / 3, 4 / 7)
    assert entity_f1_score(true, predicted) == 4 / 7
    assert entity_precision_recall_f1([["O"]], [["O"]]) == (0.0, 0.0, 0.0)
    assert entity_precision_recall_f1([["O"]], [["B-X"]]) == (0.0, 0.0, 0.0)
    assert word_accuracy([["a", "b"], []], [["a", "c"], []]) == 0.5 and word_accuracy([[]], [[]]) == 0.0


def test_weights_act_like_repetitions():
    true, predicted = (
        [PERSON_PLACE, ["O", "B-LOC"], ["B-PER"]],
        [["B-PER", "O", "O", "B-LOC"], ["B-LOC"] * 2, ["B-PER"]],
    )
    times = [3, 2, 0]
    again = [[row for row, n in zip(rows, times, strict=True) for _ in range(n)] for rows in (true, predicted)]
    for score in (entity_precision_recall_f1, entity_f1_score):
        np.testing.assert_allclose(score(true, predicted, sample_weight=times), score(*again), rtol=1e-12)
    assert word_accuracy(true, predicted, times) == word_accuracy(*again) != word_accuracy(true, predicted)
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(2,\), expected \(3,\)"):
        entity_f1_score(true, predicted, sample_weight=[1, 2])
    with pytest.raises(ValueError, match="Negative values"):
        entity_f1_score(true, predicted, sample_weight=[1, 2, -1])


@pytest.mark.parametrize(
    ("scheme", "prefixes"), [("BIO", "BI"), ("BIO", "BIES"), ("IOB2", "BI"), ("IOBES", "BIES"), ("BILOU", "BILU")]
)
def test_seqeval_agrees(scheme, prefixes):
    seqeval = pytest.importorskip("seqeval.metrics")
    schemes = pytest.importorskip("seqeval.scheme")
    strict = {} if scheme == "BIO" else {"mode": "strict", "scheme": getattr(schemes, scheme)}
    tags = np.array(["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in ("PER", "a-b"))])
    rng = np.random.default_rng(0)
    n_some = 0
    for _ in range(60):
        lengths = rng.integers(1, 12, 4)
        true = [tags[rng.integers(0, len(tags), n)].tolist() for n in lengths]
        predicted = [[tag if rng.random() < 0.7 else str(rng.choice(tags)) for tag in row] for row in true]
        expected = [
            getattr(seqeval, f"{name}_score")(true, predicted, zero_division=0, **strict)
            for name in ("precision", "recall", "f1")
        ]
        np.testing.assert_allclose(entity_precision_recall_f1(true, predicted, scheme=scheme), expected, atol=1e-12)
        n_some += 0 < expected[2] < 1
        expected = seqeval.classification_report(true, predicted, output_dict=True, zero_division=0, **strict)
        report = entity_report(true, predicted, scheme=scheme, output_dict=True, zero_division=0.0)
        assert list(report) == list(expected)
        for name, row in report.items():
            assert row == pytest.approx(expected[name], abs=1e-12)
    assert n_some > 30


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: entity_f1_score([["O"]], [["O"], ["O"]]), "the same number of rows, found 1 and 2"),
        (lambda: entity_f1_score([["O"], ["O"]], [["O"], []]), "row 1: y_true has 1 tags, y_pred has 0"),
        (lambda: precision_recall_f1([[]], []), "the same number of rows, found 1 and 0"),
        (
            lambda: word_accuracy(["NOUN", "VERB"], ["NOUN", "VERY"]),
            "y_true row 0: expected a sequence with a tag for each",
        ),
        (lambda: entity_f1_score([["O"], ["O"]], [["O"], None]), "y_pred row 1: expected .* got None"),
        (
            lambda: entity_report([[], [(0, 4, "PER")]], [[], [(0, 4, "PER")]]),
            r"y_true row 1: expected a tag for each word, got \(0, 4, 'PER'\) of type tuple: .*texts=texts",
        ),
        (lambda: entity_f1_score([["O"]], [[{"start": 0}]]), "y_pred row 0: expected a tag for each word"),
        (lambda: entities(["NOUN"]), "'NOUN' is not a tag of the scheme 'BIO'"),
        (lambda: entities(["B-"]), "'B-' is not a tag"),
        (
            lambda: entities(["B-X"], "BILUO"),
            "scheme must be one of BIO, IOB2, IOBES, BILOU, BMES, plain; found 'BILUO'",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_no_rows():
    assert entity_f1_score([], []) == word_accuracy([], []) == 0
    assert entity_report([], [], output_dict=True)["micro avg"]["support"] == 0


def test_tags_in_a_frame():
    true = pd.DataFrame({"tags": [["B-X", "O"], ["B-Y"]]})
    predicted = pd.DataFrame({"tags": [["O", "B-X"], ["B-Y"]]})
    assert entity_f1_score(true, predicted) == entity_f1_score(true["tags"], predicted["tags"]) == 0.5
    assert word_accuracy(true, predicted) == pytest.approx(1 / 3)
    two = true.assign(words=[["a", "b"], ["c"]])
    with pytest.raises(ValueError, match=r"expected one column, got a table with the columns \['tags', 'words'\]"):
        entity_f1_score(two, two)


@pytest.mark.parametrize(
    ("spans", "message"),
    [
        ([(0, 4, "PER")], r"y_pred row 1: start and end of the span \(0, 4, 'PER'\) must be whole numbers from 0 to 3"),
        ([(-1, 3, "PER")], "y_pred row 1: start and end of the span"),
        ([(2, 1, "PER")], "y_pred row 1: start and end of the span"),
        ([{"start": 0.5, "end": 3, "label": "PER"}], "y_pred row 1: start and end of the span"),
        ([5], r"y_pred row 1: expected a span \(start, end, label\), got 5"),
        (None, "y_pred row 1: expected a list of spans .*, got None"),
        ({"start": 0}, "y_pred row 1: expected a list of spans"),
    ],
)
def test_spans_of_a_report_lie_within_their_texts(spans, message):
    with pytest.raises(ValueError, match=message):
        entity_report([[], []], [[], spans], texts=["", "Ann"])


def test_a_report_needs_texts_and_types_of_its_own():
    with pytest.raises(ValueError, match="texts row 1: expected a text, got None"):
        entity_report([[], []], [[], []], texts=["", None])
    with pytest.raises(ValueError, match="entities of the type 'micro avg' have the name of a row of the report"):
        entity_report([["B-micro avg", "B-PER"]], [["B-micro avg", "O"]])


def test_a_report_of_tags_that_are_numbers():
    assert entity_report([[1, 0, 2]], [[1, 0, 1]], scheme="plain", zero_division=0).split()[4:6] == ["0", "1.00"]


@pytest.mark.parametrize("score", [word_accuracy, entity_f1_score])
def test_a_number_that_numpy_made_a_text(score):
    """It would count as a tag."""
    with pytest.raises(ValueError, match="y_true row 0 has the text '-100' as a tag, which NumPy makes of the number"):
        score(np.array([["B-A", -100]]), [["B-A", "O"]])
    assert score(np.array([["B-A", -100]], dtype=object), [["B-A", "O"]]) == 1


def test_types_of_several_kinds_have_rows_of_their_own():
    report = entity_report([["PER", 1, 10, 2]], [["PER", 1, 10, 2]], scheme="plain", output_dict=True)
    assert list(report)[:4] == [1, 2, 10, "PER"]
    with pytest.raises(ValueError, match=r"y_true row 0: expected a span \(start, end, label\), got \(0, 1, \['A'\]\)"):
        entity_report([[(0, 1, ["A"])]], [[]], texts=["a"])


@pytest.mark.parametrize(
    ("digits", "error", "message"),
    [
        (-1, ValueError, "digits must be 0 or more, got -1"),
        (1.5, TypeError, "digits must be a whole number, found 1.5"),
    ],
)
def test_digits_of_a_report(digits, error, message):
    with pytest.raises(error, match=message):
        entity_report([["B-A"]], [["B-A"]], digits=digits)
    assert entity_report([["B-A"]], [["B-A"]], digits=np.int64(3)).count("1.000") == 12


def test_a_scheme_is_looked_at_where_no_word_is_in_an_entity():
    with pytest.raises(ValueError, match=r"scheme must be one of BIO, .*; found 'IOB'"):
        entity_f1_score([["O"]], [["O"]], scheme="IOB")
