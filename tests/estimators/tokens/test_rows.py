"""What may be passed to a tagger, how texts are cut into words, spans made of tags and back, and what is refused."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skxlmr.estimators._tokens.rows import check_spans, check_tags, check_token_rows, spans_of_tags, tags_of_spans
from skxlmr.estimators._tokens.words import cut_words

ROWS = [["Anna", "lebt", "in", "Rom"], ["да"], ["a", "b"]]
TAGS = [["B-PER", "O", "O", "B-LOC"], ["O"], ["O", "O"]]
CONTAINERS = {
    "tuples": lambda rows: tuple(map(tuple, rows)),
    "arrays": lambda rows: [np.array(row) for row in rows],
    "object array": lambda rows: np.array(rows, dtype=object),
    "column": lambda rows: np.array(rows, dtype=object)[:, None],
    "Series": lambda rows: pd.Series(rows, index=[7, 8, 9]),
    "Series of arrays": lambda rows: pd.Series([np.array(row, dtype=object) for row in rows]),
    "list of Series": lambda rows: [pd.Series(row, index=range(5, 5 + len(row))) for row in rows],
    "list of categoricals": lambda rows: list(map(pd.Categorical, rows)),
    "list of arrow arrays": lambda rows: list(map(pa.array, rows)),
    "list of polars Series": lambda rows: list(map(pl.Series, rows)),
    "DataFrame": lambda rows: pd.DataFrame({"words": rows}),
    "polars Series": pl.Series,
    "polars DataFrame": lambda rows: pl.DataFrame({"words": rows}),
    "arrow": pa.array,
    "arrow table": lambda rows: pa.table({"words": rows}),
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_containers_make_no_difference(container):
    rows = check_token_rows(container(ROWS))
    assert rows.words == ROWS and rows.kind == "words" and rows.n_words.tolist() == [4, 1, 2]
    assert {type(word) for row in rows.words for word in row} == {str}
    assert rows.joined() == ["Anna lebt in Rom", "да", "a b"]
    assert check_tags(container(TAGS), rows) == TAGS


def test_equally_long_rows_may_be_an_array():
    rows = check_token_rows(np.array([["a", "b"], ["c", "d"]]))
    assert rows.words == [["a", "b"], ["c", "d"]]
    assert check_tags(np.array([[1, 2], [2, 1]]), rows) == [[1, 2], [2, 1]]
    assert check_token_rows([[], ["a"], [""]]).words == [[], ["a"], [""]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't go, 3.5 km!", ["Don", "'", "t", "go", ",", "3", ".", "5", "km", "!"]),
        ("naïve cafe\u0301 Ελλάδα Москва2", ["naïve", "cafe\u0301", "Ελλάδα", "Москва2"]),
        ("हिन्दी में நான்", ["हिन्दी", "में", "நான்"]),
        ("می\u200cخواهم", ["می\u200cخواهم"]),
        ("我在Berlin工作。", ["我", "在", "Berlin", "工", "作", "。"]),
        ("カタカナ ﾊﾝ", ["カ", "タ", "カ", "ナ", "ﾊ", "ﾝ"]),
        ("ที่นี่ abc", ["ที่", "นี่", "abc"]),
        ("한국어 말", ["한국어", "말"]),
        ("a_b\tc\nd\u00a0e", ["a", "_", "b", "c", "d", "e"]),
        ("👍🏽 \U00020000\U00020001", ["👍", "🏽", "\U00020000", "\U00020001"]),
        (" \u0301a", ["\u0301a"]),
        ("  ", []),
    ],
)
def test_words_of_texts(text, words):
    places = cut_words(text)
    assert [text[start:end] for start, end in places] == words
    rows = check_token_rows([text])
    assert rows.kind == "texts" and rows.words == [words] and rows.places == [places] and rows.joined() == [text]


@pytest.mark.parametrize(
    ("scheme", "tags"),
    [
        ("BIO", ["B-PER", "I-PER", "O", "B-ORG", "B-LOC", "I-LOC", "I-LOC"]),
        ("IOB2", ["B-PER", "I-PER", "O", "B-ORG", "B-LOC", "I-LOC", "I-LOC"]),
        ("IOBES", ["B-PER", "E-PER", "O", "S-ORG", "B-LOC", "I-LOC", "E-LOC"]),
        ("plain", ["PER", "PER", "O", "ORG", "LOC", "LOC", "LOC"]),
    ],
)
def test_spans_become_tags_and_come_back(scheme, tags):
    text = "Anna Lee, UN New York City"
    rows = check_token_rows([text])
    spans = [(0, 8, "PER"), (10, 12, "ORG"), (13, 26, "LOC")]
    for y in (spans, spans[::-1], [{"start": s, "end": e, "label": label} for s, e, label in spans]):
        assert check_spans([y], rows) == [spans]
    assert tags_of_spans([spans], rows, scheme) == [tags]
    assert spans_of_tags(tags, rows.places[0], scheme) == spans


def test_white_space_in_a_span_does_no_harm():
    rows = check_token_rows(["Anna Lee lives"])
    assert tags_of_spans(check_spans([[(0, 9, "PER")]], rows), rows, "BIO") == [["B-PER", "I-PER", "O"]]


@pytest.mark.parametrize(
    ("X", "kind", "said"),
    [
        ("one text", TypeError, "got a single str"),
        ({"a": ["b"]}, TypeError, "got a dict"),
        (iter([["a"]]), TypeError, "iterator, which can be read only once"),
        (3, TypeError, "got a int"),
        ([], ValueError, "X has no rows"),
        (pd.DataFrame({"a": [["x"]], "b": [["y"]]}), ValueError, "X must have one column of word rows or texts, got 2"),
        ([["a"], "b"], ValueError, "X row 1: expected a list of words, got 'b' of type str"),
        (["a", ["b"]], ValueError, r"X row 1: expected a text, got \['b'\]"),
        ([["a"], None], ValueError, "X row 1: expected a list of words, got None"),
        ([["a"], ["b", None]], ValueError, "X row 1, word 1: expected a word, got None"),
        ([["a", 3]], ValueError, "X row 0, word 1: expected a word, got 3 of type int"),
        (np.zeros((2, 2)), ValueError, "X row 0, word 0: expected a word, got .* of type float64"),
    ],
)
def test_rows_that_are_refused(X, kind, said):
    with pytest.raises(kind, match=said):
        check_token_rows(X)


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (TAGS[:2], "y has 2 rows for 3 rows of X"),
        ([TAGS[0], TAGS[1], ["O"]], "y row 2: 1 tags for 2 words"),
        (["O", "O", "O"], "y row 0: expected a list of tags, one for each word, got 'O'"),
        ([TAGS[0], [None], TAGS[2]], "y row 1, word 0: expected a tag, str or int, got None"),
        ([TAGS[0], [float("nan")], TAGS[2]], "y row 1, word 0: expected a tag, str or int, got NaN"),
        ([TAGS[0], [1], TAGS[2]], "y mixes tags of the types int, str"),
        ("OOO", "y must hold one text per row, got a single str"),
    ],
)
def test_tags_that_are_refused(y, said):
    with pytest.raises((ValueError, TypeError), match=said):
        check_tags(y, check_token_rows(ROWS))


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ([(0, 2, "PER")], r"y row 1: the span \(0, 2, 'PER'\) cuts the word 'Anna' at \(0, 4\) apart"),
        ([(5, 11, "PER")], r"y row 1: the span \(5, 11, 'PER'\) cuts the word 'live' at \(9, 13\) apart"),
        ([(0, 8, "PER"), (5, 8, "LOC")], r"y row 1: the spans \(0, 8, 'PER'\) and \(5, 8, 'LOC'\) overlap"),
        ([(4, 5, "PER")], r"y row 1: the span \(4, 5, 'PER'\) holds no word"),
        ([(0, 99, "PER")], "does not lie within the 13 characters of the text"),
        ([(4, 4, "PER")], "does not lie within"),
        ([(-1, 4, "PER")], "does not lie within"),
        ([(0, 4)], r"y row 1: expected a span \(start, end, label\), got \(0, 4\)"),
        ([{"start": 0, "stop": 4, "label": "PER"}], "y row 1: expected a span with 'start', 'end' and 'label', got"),
        ([(0.0, 4.0, "PER")], "a span is two whole numbers and a label"),
        ([(0, 4, "")], "a span is two whole numbers and a label"),
        ([(0, 4, "O")], "'O' is what stands outside of spans"),
        (["B-PER", "I-PER", "O"], r"y row 1: expected a span \(start, end, label\), got 'B-PER'"),
        ("PER", "y row 1: expected a list of spans"),
    ],
)
def test_spans_that_are_refused(spans, said):
    rows = check_token_rows(["Paul", "Anna Lee live"])
    with pytest.raises(ValueError, match=said):
        tags_of_spans(check_spans([[], spans], rows), rows, "BIO")
