"""Rows of words and texts that may be passed to a tagger, the tags of words, and what is refused."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skxlmr.estimators._tokens.rows import check_tags, check_token_rows

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


def test_texts_are_cut_into_words():
    rows = check_token_rows(["Anna, hi", ""])
    assert (
        rows.kind == "texts" and rows.words == [["Anna", ",", "hi"], []] and rows.places[0] == [(0, 4), (4, 5), (6, 8)]
    )
    assert rows.joined() == ["Anna, hi", ""]


def test_words_without_a_tag():
    """As transformers marks them; they don't count as tags of another type."""
    tags = [["B-PER", -100, "O", np.int64(-100)], [-100], ["O", "O"]]
    assert check_tags(tags, check_token_rows(ROWS)) == tags


def test_equally_long_rows_may_be_an_array():
    rows = check_token_rows(np.array([["a", "b"], ["c", "d"]]))
    assert rows.words == [["a", "b"], ["c", "d"]]
    assert check_tags(np.array([[1, 2], [2, 1]]), rows) == [[1, 2], [2, 1]]
    assert check_token_rows([[], ["a"], [""]]).words == [[], ["a"], [""]]


@pytest.mark.parametrize(
    ("X", "kind", "said"),
    [
        ("one text", TypeError, "got a single str"),
        (np.array(3), ValueError, r"must have one text per row, got a ndarray of shape \(\)"),
        ({"a": ["b"]}, TypeError, "got a dict"),
        (iter([["a"]]), TypeError, "iterator, which can be read only once"),
        (3, TypeError, "got a int"),
        ([], ValueError, "X has no rows"),
        (pd.DataFrame({"a": [["x"]], "b": [["y"]]}), ValueError, "X must have one column of word rows or texts, got 2"),
        ([["a"], "b"], ValueError, "X row 1: expected a list of words, got 'b' of type str"),
        (["a", ["b"]], ValueError, r"X row 1: expected a text, got \['b'\]"),
        ([["a"], None], ValueError, "X row 1: expected a list of words, got None"),
        (
            [["a"], ["b", None]],
            ValueError,
            "X row 1, word 1: expected a word, got None .*: fill it, or drop it with its tag$",
        ),
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
        (
            [TAGS[0], [None], TAGS[2]],
            "y row 1, word 0: expected a tag, str or int, got None .*: tag it, or leave it out of the loss with ",
        ),
        ([TAGS[0], [float("nan")], TAGS[2]], "y row 1, word 0: expected a tag, str or int, got NaN"),
        ([TAGS[0], [1], TAGS[2]], "y mixes tags of the types int, str"),
        ([TAGS[0], np.array([-100, "O"])[:1], TAGS[2]], "y row 1 has the text '-100' as a tag, which NumPy makes"),
        ("OOO", "y must hold one text per row, got a single str"),
    ],
)
def test_tags_that_are_refused(y, said):
    with pytest.raises((ValueError, TypeError), match=said):
        check_tags(y, check_token_rows(ROWS))
