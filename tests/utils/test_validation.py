"""What people pass as texts becomes lists of str; what is no text is refused by its row."""

import math
from decimal import Decimal

import narwhals as nw
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skxlmr import XLMRobertaClassifier
from skxlmr.estimators._answers.rows import check_questions, question_table
from skxlmr.estimators._choices.rows import check_choices
from skxlmr.estimators._dialogues.rows import check_dialogues
from skxlmr.estimators._tokens.rows import check_token_rows
from skxlmr.utils._labels import plain_array
from skxlmr.utils._validation import Texts, check_texts, warn_of_category

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
        (
            pl.LazyFrame({"a": ["b"]}),
            TypeError,
            r"X is a LazyFrame of polars, whose rows are not in memory: pass X.collect\(\)",
        ),
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
    assert len(str(caught.value)) < 180


# What to do ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("X", "code"),
    [
        (["a", None], "[text if isinstance(text, str) else '' for text in X]"),
        (pd.Series(["a", None]), "X.fillna('') or X.dropna()"),
        (pd.Series(["a", None], dtype="category"), "X.astype(object).fillna('')"),
        (pd.DataFrame({"t": ["a", None]}), "X.fillna('') or X.dropna()"),
        (pd.DataFrame({"t": ["a", None]}, dtype="category"), "X.astype(object).fillna('')"),
        (pl.Series(["a", None], dtype=pl.Enum(["a"])), "X.cast(str).fill_null('')"),
        (pl.DataFrame({"t": ["a", None]}, schema={"t": pl.Enum(["a"])}), "X.cast(str).fill_null('')"),
        (pl.Series(["a", None]), "X.fill_null('') or X.drop_nulls()"),
        (pa.array(["a", None]), "X.fill_null('') or X.drop_null()"),
        ([b"a"], "[text.decode('utf-8') for text in X]"),
        (np.array([b"a"]), "[text.decode('utf-8') for text in X]"),
        (pd.Series([b"a"]), "X.str.decode('utf-8')"),
        (["a", 1], "list(map(str, X))"),
        (pd.Series(["a", 1], dtype=object), "X.astype(str)"),
    ],
    ids=str,
)
def test_messages_have_the_code_that_mends_it(X, code):
    with pytest.raises(ValueError, match="first, such as with ") as caught:
        check_texts(X)
    said = str(caught.value)
    assert code in said and ("drop" in code) == ("(with the same rows of y)" in said)
    if "missing" not in said or "fillna" in said or "fill_null" in said:  # the code is right
        columns = [eval(part, {"X": X}) for part in code.split(" or ")]
        for column in columns:
            assert len(check_texts(column)) in (len(X), len(X) - 1)


def test_missing_values_may_be_read_as_empty_texts():
    for value in (None, math.nan, np.float32("nan"), pd.NA, pd.NaT):
        assert check_texts(["a", value, " "], missing="empty").first == ["a", "", " "]
        assert check_texts([("a", value)], missing="empty").second == [""]
        with pytest.raises(ValueError, match="or let missing='empty' read it as an empty text"):
            check_texts(["a", value], missing="error")
    for column in (pl.Series(["a", None]), pa.array(["a", None]), pd.Series(["a", None], dtype="string")):
        assert check_texts(column, missing="empty").first == ["a", ""]
    with pytest.raises(ValueError, match="X row 1: expected a text, got 3"):
        check_texts(["a", 3], missing="empty")


def test_a_column_without_texts():
    for X in ([1, 2], np.array([1.0, 2.0]), pd.Series(pd.date_range("2020", periods=2))):
        with pytest.raises(ValueError, match="the column holds no texts; are X and y swapped"):
            check_texts(X)
    with pytest.raises(ValueError, match=r"the column holds no texts; pass its column of texts, X\['t'\]"):
        check_texts(pd.DataFrame({"n": [1, 2], "t": ["a", "b"]}))


REVIEWS = pd.DataFrame({"review": [f"text number {i}" for i in range(20)], "topic": ["food", "drink"] * 10})


@pytest.mark.parametrize(
    "X", [REVIEWS, REVIEWS.to_numpy(), pl.from_pandas(REVIEWS), pa.Table.from_pandas(REVIEWS)], ids=type
)
@pytest.mark.parametrize("place", [0, 1], ids=["first", "second"])
def test_a_column_that_looks_like_a_category(X, place):
    if place == 0:
        X = (
            X[:, ::-1]
            if isinstance(X, np.ndarray)
            else X.select(["topic", "review"])
            if hasattr(X, "select")
            else X.iloc[:, ::-1]
        )
    named = not isinstance(X, np.ndarray)
    said = "'topic'" if named else f"the {['first', 'second'][place]} column"
    select = r"X\['review'\]" if named else rf"X\[:, {1 - place}\]"
    with pytest.warns(
        UserWarning,
        match=rf"pairs of texts, but {said} looks like a category \(2 distinct values in 20 rows, such as .*pass {select} to",
    ):
        warn_of_category(X, check_texts(X), "X")


@pytest.mark.parametrize(
    "second",
    [
        [f"answer {i}" for i in range(20)],  # of each row its own
        ["This text is about food.", "This text is about drink."] * 10,  # hypotheses
        ["food", "drink", "air", "water", "wine"] * 4,  # not so few
    ],
    ids=["own", "hypotheses", "many"],
)
def test_second_texts_that_are_plausible(second):
    X = REVIEWS.assign(topic=second)
    warn_of_category(X, check_texts(X), "X")
    pairs = list(zip(REVIEWS["review"], REVIEWS["topic"], strict=True))
    warn_of_category(pairs, check_texts(pairs), "X")  # written as pairs


# Other libraries ------------------------------------------------------------------------------------------------------------


class OfPandas:
    """A table that becomes one of pandas, like those of cuDF, datasets and ibis; its own columns are none of ours."""

    def __init__(self, frame):
        self.frame, self.columns = frame, list(frame)

    def __len__(self):
        return len(self.frame)

    def to_pandas(self):
        return self.frame


class OfArrow:
    """A table or a column that hands itself over by Arrow's protocol."""

    def __init__(self, of_arrow):
        self.of_arrow = of_arrow

    def __len__(self):
        return len(self.of_arrow)

    def __arrow_c_stream__(self, requested_schema=None):
        return self.of_arrow.__arrow_c_stream__(requested_schema)


class Duck:
    """A relation of DuckDB."""

    def fetchall(self):
        raise AssertionError("rows one by one")

    def df(self):
        return pd.DataFrame({"text": ROWS})


class Cudf(OfPandas):
    """A column on a GPU, which refuses to become a list by itself."""

    iloc = None

    def to_list(self):
        raise TypeError("not from a GPU")


OTHERS = {
    "narwhals DataFrame": nw.from_native(pd.DataFrame({"text": ROWS})),
    "narwhals Series": nw.from_native(pl.Series("text", ROWS), series_only=True),
    "to_pandas": OfPandas(pd.DataFrame({"text": ROWS})),
    "Arrow table": OfArrow(pa.table({"text": ROWS})),
    "Arrow column": OfArrow(pa.chunked_array([ROWS])),
    "DuckDB": Duck(),
    "cuDF": Cudf(pd.Series(ROWS, name="text").to_frame()),
}


@pytest.mark.parametrize("X", OTHERS.values(), ids=OTHERS)
def test_tables_and_columns_of_other_libraries(X):
    assert check_texts(X).first == ROWS
    assert XLMRobertaClassifier()._check_X(X, reset=True).first == ROWS
    if not isinstance(X, Duck):
        assert plain_array(X).ravel().tolist() == ROWS


def test_pairs_and_names_of_other_libraries():
    classifier = XLMRobertaClassifier()
    frame = pd.DataFrame({"a": ROWS, "b": OTHER})
    for X in (nw.from_native(frame), OfPandas(frame), OfArrow(pa.Table.from_pandas(frame))):
        texts = classifier._check_X(X, reset=True)
        assert (texts.first, texts.second) == (ROWS, OTHER) and classifier.feature_names_in_.tolist() == ["a", "b"]
    assert check_token_rows(nw.from_native(pl.DataFrame({"words": [["a", "b"]]}))).words == [["a", "b"]]
    assert check_questions(question_table(OfPandas(frame[:2].set_axis(["question", "context"], axis=1)), "X"), "X")
    assert check_choices(nw.from_native(pl.DataFrame({"prompt": ["a"], "choices": [["b", "c"]]}))).choices == [
        ["b", "c"]
    ]
    assert check_dialogues(OfPandas(pd.DataFrame({"dialogue": [1], "speaker": ["user"], "text": ["a"]}))).texts == ["a"]


class Dask:
    columns = ("text",)

    def __dask_graph__(self):
        raise AssertionError("computed")

    compute = __dask_graph__


class Spark:
    columns = ("text",)

    def toPandas(self):
        raise AssertionError("collected")


@pytest.mark.parametrize(
    ("X", "do"),
    [
        (Dask(), "X.compute()"),
        (Spark(), "X.toPandas()"),
        (pl.LazyFrame({"a": ["b"]}), "X.collect()"),
        (nw.from_native(pl.LazyFrame({"a": ["b"]})), "X.collect()"),
    ],
    ids=["Dask", "Spark", "polars", "narwhals"],
)
def test_rows_that_are_not_in_memory(X, do):
    for read in (check_texts, check_token_rows, check_choices, check_dialogues, lambda X: question_table(X, "X")):
        with pytest.raises(TypeError, match=r"X is a \w+ of \w+, whose rows are not in memory: pass") as caught:
            read(X)
        assert do in str(caught.value)
    with pytest.raises(TypeError, match="whose rows are not in memory"):
        plain_array(X)
