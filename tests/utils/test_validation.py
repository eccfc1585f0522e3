"""What people pass as texts becomes lists of str; what is no text is refused by its row."""

import math
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skxlmr.utils._validation import Texts, check_texts

ROWS = ["один", "two", ""]
OTHER = ["uno", "zwei", "drei"]

SINGLE = {
    "list": ROWS,
    "tuple": tuple(ROWS),
    "list of one-element lists": [[text] for text in ROWS],
    "object array": np.array(ROWS, dtype=object),
    "str array": np.array(ROWS),
    "StringDType array": np.array(ROWS, dtype=np.dtypes.StringDType()),
    "2-D array": np.array(ROWS)[:, None],
    "Series": pd.Series(ROWS, index=[7, 7, -1]),
    "object Series": pd.Series(ROWS, dtype=object),
    "string Series": pd.Series(ROWS, dtype="string"),
    "arrow Series": pd.Series(ROWS, dtype="string[pyarrow]"),
    "categorical Series": pd.Series(ROWS, dtype="category"),
    "Index": pd.Index(ROWS),
    "DataFrame": pd.DataFrame({"text": ROWS}, index=list("zyx")),
    "polars Series": pl.Series(ROWS),
    "polars categorical": pl.Series(ROWS, dtype=pl.Categorical),
    "polars DataFrame": pl.DataFrame({"text": ROWS}),
    "arrow array": pa.array(ROWS),
    "large arrow array": pa.array(ROWS, pa.large_string()),
    "chunked arrow array": pa.chunked_array([ROWS[:1], ROWS[1:]]),
    "arrow dictionary": pa.array(ROWS).dictionary_encode(),
    "arrow table": pa.table({"text": ROWS}),
    "arrow record batch": pa.record_batch({"text": ROWS}),
}
PAIRS = {
    "list of tuples": list(zip(ROWS, OTHER, strict=True)),
    "tuple of lists": tuple(map(list, zip(ROWS, OTHER, strict=True))),
    "Series of tuples": pd.Series(list(zip(ROWS, OTHER, strict=True)), index=[7] * len(ROWS)),
    "array of tuples": np.fromiter(zip(ROWS, OTHER, strict=True), object),
    "polars lists": pl.Series(list(map(list, zip(ROWS, OTHER, strict=True)))),
    "arrow lists": pa.array(list(map(list, zip(ROWS, OTHER, strict=True)))),
    "list of arrays": [np.array(pair) for pair in zip(ROWS, OTHER, strict=True)],
    "array": np.array([ROWS, OTHER]).T,
    "object array": np.array([ROWS, OTHER], dtype=object).T,
    "DataFrame": pd.DataFrame({"a": ROWS, "b": OTHER}, index=[3, 3, 3]),
    "DataFrame with twice the same name": pd.DataFrame(zip(ROWS, OTHER, strict=True), columns=["a", "a"]),
    "polars DataFrame": pl.DataFrame({"a": ROWS, "b": OTHER}),
    "StringDType array": np.array(list(zip(ROWS, OTHER, strict=True)), dtype=np.dtypes.StringDType()),
    "arrow table": pa.table({"a": ROWS, "b": OTHER}),
}


@pytest.mark.parametrize("X", SINGLE.values(), ids=SINGLE)
def test_texts(X):
    texts = check_texts(X)
    assert texts == Texts(ROWS)
    assert set(map(type, texts.first)) == {str}
    assert len(texts) == 3 and texts.n_columns == 1


@pytest.mark.parametrize("X", PAIRS.values(), ids=PAIRS)
def test_pairs(X):
    texts = check_texts(X)
    assert texts == Texts(ROWS, OTHER)
    assert set(map(type, texts.first + texts.second)) == {str}
    assert len(texts) == 3 and texts.n_columns == 2


def test_input_is_left_alone():
    class Text(str):
        pass

    X = [Text("a"), np.str_("b")]
    texts = check_texts(X)
    assert [type(text) for text in X] == [Text, np.str_] and set(map(type, texts.first)) == {str}
    texts.first[0] = "changed"
    assert X == ["a", "b"]


BAD_VALUES = [
    (None, "None"),
    (math.nan, "NaN"),
    (pd.NA, "<NA>"),
    (pd.NaT, "NaT"),
    (3, "3 of type int"),
    (Decimal("1.5"), "Decimal"),
    (b"abc", "b'abc' of type bytes"),
    (["a"], "['a'] of type list"),
    (np.float64("nan"), "NaN"),
]


@pytest.mark.parametrize(("value", "said"), BAD_VALUES, ids=[said for _, said in BAD_VALUES])
def test_no_text_is_named_by_its_row(value, said):
    with pytest.raises(ValueError, match="X row 2: expected a text, got") as caught:
        check_texts(["a", "b", value, None])
    assert said in str(caught.value)
    with pytest.raises(ValueError, match="X row 1: expected a text, got"):
        check_texts([("a", "b"), ("c", value)])


@pytest.mark.parametrize(
    "X",
    [
        pd.Series(["a", None, "c"], index=[5, 6, 7]),
        pd.Series(["a", None, "c"], dtype="string"),
        pd.Series(["a", None, "c"], dtype="category"),
        pd.DataFrame({"text": ["a", math.nan, "c"]}),
        pl.Series(["a", None, "c"]),
        pa.array(["a", None, "c"]),
        np.array(["a", None, "c"], dtype=object),
    ],
    ids=lambda X: f"{type(X).__module__.partition('.')[0]} {type(X).__name__}",
)
def test_missing_value_in_a_column_is_named_by_its_place(X):
    with pytest.raises(ValueError, match=r"X row 1: expected a text, got (None|NaN|nan|<NA>)"):
        check_texts(X)


@pytest.mark.parametrize(
    ("X", "error", "said"),
    [
        ("a bare text", TypeError, "X must hold one text per row, got a single str: wrap it in a list"),
        (b"bytes", TypeError, "got a single bytes"),
        (np.str_("a"), TypeError, "got a single str_"),
        ({"a": "b"}, TypeError, "X must be a list, array, Series or DataFrame of texts, got a dict"),
        ({"a"}, TypeError, "got a set"),
        ({"a": "b"}.values(), TypeError, "got a dict_values"),
        (3, TypeError, "got a int"),
        (None, TypeError, "got a NoneType"),
        ((text for text in "ab"), TypeError, r"X is an iterator, which can be read only once: pass list\(X\)"),
        (map(str, range(3)), TypeError, "X is an iterator"),
        (pl.LazyFrame({"a": ["b"]}), TypeError, "got a LazyFrame"),
        ([], ValueError, "X has no rows"),
        (np.array([], dtype=object), ValueError, "X has no rows"),
        (pd.Series([], dtype=object), ValueError, "X has no rows"),
        (pd.DataFrame({"a": []}), ValueError, "X has no rows"),
        (pd.DataFrame(index=[0, 1]), ValueError, "X must have one column of texts or two .* got 0 columns"),
        (pd.DataFrame([["a"] * 3]), ValueError, "X must have one column of texts or two .* got 3 columns"),
        ([("a", "b", "c")], ValueError, "got 3 columns"),
        ([()], ValueError, "got 0 columns"),
        (np.array([["a", "b", "c"]]), ValueError, "got 3 columns"),
        (np.array("a"), ValueError, r"X must have one text per row, got a ndarray of shape \(\)"),
        (np.array([[["a"]]]), ValueError, r"got a ndarray of shape \(1, 1, 1\)"),
        ([("a", "b"), "c"], ValueError, "X row 1: expected 2 texts as in row 0, got 'c' of type str"),
        ([("a", "b"), ("c",)], ValueError, r"X row 1: expected 2 texts as in row 0, got \('c',\)"),
        ([("a", "b"), None], ValueError, "X row 1: expected 2 texts as in row 0, got None"),
        (["a", ("b", "c")], ValueError, r"X row 1: expected a text, got \('b', 'c'\) of type tuple"),
        (np.array([1.0, 2.0]), ValueError, "X row 0: expected a text, got 1.0 of type float"),
    ],
)
def test_what_is_no_column_of_texts_is_refused(X, error, said):
    with pytest.raises(error, match=said):
        check_texts(X)


def test_pairs_are_refused_where_texts_are_wanted():
    with pytest.raises(ValueError, match="texts must have one column of texts, got 2 columns"):
        check_texts([("a", "b")], "texts", pairs_allowed=False)


def test_long_value_is_shortened_in_the_message():
    with pytest.raises(ValueError, match="X row 0") as caught:
        check_texts([b"x" * 1000])
    assert len(str(caught.value)) < 120
