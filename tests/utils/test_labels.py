"""What people pass as y becomes arrays of plain values, or is refused by its row."""

import datetime as dt
import enum
import math
from decimal import Decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_array

from skxlmr import XLMRobertaClassifier, XLMRobertaQuestionAnswerer, XLMRobertaRegressor
from skxlmr.estimators._sequence.targets import learn_targets
from skxlmr.utils._labels import check_pairs_are_one_argument, columns_of, plain_array, read_numbers


class Word(str, enum.Enum):  # noqa: UP042  # StrEnum prints its content, this one does not
    A = "a"
    B = "b"


class Number(int, enum.Enum):
    ONE = 1
    TWO = 2


class Member(enum.Enum):
    A = "a"


DAYS = [dt.datetime(2020, 1, 1), dt.datetime(2020, 1, 2)]
INDICATORS = np.array([[1, 0], [0, 1], [1, 1]])
FRAME = pd.DataFrame(INDICATORS, columns=["x", "y"])


@pytest.mark.parametrize(
    "y",
    [
        [Word.A, Word.B],
        (Word.A, Word.B),
        np.array([Word.A, Word.B], dtype=object),
        pd.Series([Word.A, Word.B], dtype=object),
        pd.Series([Word.A, Word.B], dtype="category"),
        [np.str_("a"), np.str_("b")],
        np.array(["a", "b"], dtype=np.dtypes.StringDType()),
        pd.Series(["a", "b"], dtype="string"),
        pd.Series(["a", "b"], dtype="string[pyarrow]"),
        pl.Series(["a", "b"], dtype=pl.Categorical),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.chunked_array([["a"], ["b"]]),
    ],
    ids=lambda y: f"{type(y).__name__} {getattr(y, 'dtype', '')}",
)
def test_texts_are_their_content(y):
    found = plain_array(y)
    assert found.tolist() == ["a", "b"] and set(map(type, found.tolist())) == {str}


@pytest.mark.parametrize(
    ("y", "kind"),
    [
        ([Number.ONE, Number.TWO], "i"),
        (pd.Series([1, 2], dtype="Int64"), "i"),
        (pd.Series([1, 2], dtype="int64[pyarrow]"), "i"),
        (pd.Series([1, 2], dtype="category"), "i"),
        (pd.Series([1, 2], dtype=object), "i"),
        (np.array([1, 2], dtype=object), "i"),
        ([np.int8(1), 2], "i"),
        ([torch.tensor(1), torch.tensor(2)], "i"),
        (torch.tensor([1, 2]), "i"),
        (torch.tensor([1.0, 2.0], dtype=torch.bfloat16, requires_grad=True), "f"),
        (pd.Series([1, 2], dtype="Float32"), "f"),
        (pd.Series([True, True], dtype="boolean"), "b"),
        ([np.True_, True], "b"),
    ],
    ids=str,
)
def test_numbers_are_of_a_dtype_of_numpy(y, kind):
    assert plain_array(y).dtype.kind == kind


@pytest.mark.parametrize(
    "y",
    [
        FRAME,
        FRAME.astype("Int64"),
        FRAME.astype("boolean"),
        FRAME.astype("int64[pyarrow]"),
        FRAME.astype("category"),
        FRAME.astype(object),
        INDICATORS.astype(object),
        INDICATORS.tolist(),
        csr_array(INDICATORS),
        pl.DataFrame(INDICATORS, schema=["x", "y"]),
        pa.table({"x": INDICATORS[:, 0], "y": INDICATORS[:, 1]}),
    ],
    ids=lambda y: f"{type(y).__module__} {type(y).__name__}",
)
def test_columns_of_numbers_are_arrays_of_numbers(y):
    columns = columns_of(y, "y")
    assert {column.dtype.kind for column in columns} <= {"i", "b"}
    assert np.array_equal(np.stack(columns, axis=1), INDICATORS)


def test_columns_may_differ_in_kind():
    texts, numbers = columns_of(pd.DataFrame({"a": [Word.A, Word.B], "b": [1, 2]}), "y")
    assert texts.tolist() == ["a", "b"] and numbers.tolist() == [1, 2] and texts.dtype.kind == "U"


@pytest.mark.parametrize(
    "y",
    [
        DAYS,
        [day.date() for day in DAYS],
        [dt.timedelta(1), dt.timedelta(2)],
        [dt.time(1), dt.time(2)],
        np.array(DAYS, dtype="M8[ns]"),
        np.array([1, 2], dtype="m8[ns]"),
        list(np.array([1, 2], dtype="m8[ns]")),
        list(np.array(DAYS, dtype="M8[ns]")),
        pd.Series(DAYS),
        pd.Series(DAYS, dtype=object),
        pd.Series(DAYS).dt.tz_localize("UTC"),
        pd.Series([dt.timedelta(1), dt.timedelta(2)]),
        pd.Series(pd.period_range("2020", periods=2, freq="D")),
        pd.Series(DAYS, dtype="timestamp[ns][pyarrow]"),
        pd.DataFrame({"a": [1.0, 2.0], "b": DAYS}),
        pl.Series(DAYS),
        pl.DataFrame({"a": [1.0, 2.0], "b": DAYS}),
        pa.array(DAYS),
        pa.table({"a": [1.0, 2.0], "b": DAYS}),
    ],
    ids=lambda y: f"{type(y).__name__} {getattr(y, 'dtype', '')}",
)
def test_dates_and_durations_are_no_numbers(y):
    with pytest.raises(ValueError, match=r"^y .*convert .*first, such as \(y - y.min\(\)\) / pd.Timedelta\(days=1\)"):
        read_numbers(y, "y")


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (
            ["1", "2"],
            "y row 0: expected a number, got '1' of type str: convert texts first, such as with pd.to_numeric",
        ),
        (np.array(["1", "2"]), "y row 0: expected a number, got '1'"),
        (pd.Series(["1", "2"], dtype="category"), "y row 0: expected a number, got '1'"),
        ([b"1", b"2"], "y row 0: expected a number, got b'1' of type bytes"),
        ([1j, 2], "y row 0: expected a number, got 1j of type complex"),
        (np.array([1j, 2]), "Complex data not supported"),
        ([Member.A, 1], "y row 0: expected a number, got <Member.A: 'a'>"),
        ([1, None], "y row 1: expected a number, got None .a missing value.: drop the row"),
        (pd.Series([1, None], dtype="Int64"), "y row 1: expected a number, got <NA>"),
        ([1, pd.NaT], "y row 1: expected a number, got NaT"),
        ([1, math.nan], "y row 1: expected a finite number, got nan: drop the row"),
        (np.array([[1, 2], [3, math.inf]]), "y row 1: expected a finite number, got inf: drop the row"),
        (pd.DataFrame({"a": [1.0, 2.0], "b": [math.nan, 1.0]}), "y row 0: expected a finite number, got nan"),
        ([1, (2,)], r"y row 1: expected a number, got \(2,\) of type tuple"),
        (np.ones((2, 2, 2)), "y must have one or two dimensions|dim <= 2"),
    ],
    ids=str,
)
def test_what_is_no_number_is_refused(y, said):
    with pytest.raises(ValueError, match=said):
        read_numbers(y, "y")


@pytest.mark.parametrize(
    "y",
    [
        [True, False],
        [Decimal(1), Decimal(0)],
        pa.array([Decimal("1.0"), Decimal("0.0")]),
        pd.Series([1, 0], dtype="Float32"),
        pd.Series([1, 0], dtype="category"),
        np.array([1, 0.0], dtype=object),
        [torch.tensor(1.0), torch.tensor(0.0)],
        torch.tensor([1.0, 0.0], dtype=torch.bfloat16, requires_grad=True),
        pl.Series([1, 0]),
        pd.Series(pd.arrays.SparseArray([1.0, 0.0])),
    ],
    ids=str,
)
def test_numbers_of_any_kind_are_read(y):
    assert read_numbers(y, "y").tolist() == [1.0, 0.0]


# Arguments in the wrong place -------------------------------------------------------------------------------------------


LONG = [f"a text that is number {i}" for i in range(8)]


def test_pairs_are_one_argument():
    said = r"(y|sample_weight) holds texts, .* Pairs of texts are one argument, such as fit\(list\(zip\(first, second\)\), y\)"
    for y, weights, learns_numbers in ((LONG, [1.0] * 8, True), (LONG, ["yes"] * 8, True), (LONG, ["yes"] * 8, False)):
        with pytest.raises(ValueError, match=said):
            check_pairs_are_one_argument(y, weights, learns_numbers)
    check_pairs_are_one_argument(LONG, None, True)
    check_pairs_are_one_argument(["yes"] * 8, [1.0] * 8, False)
    check_pairs_are_one_argument(["1.5"] * 8, [1.0] * 8, True)  # refused as texts of digits
    with pytest.raises(ValueError, match=said):
        XLMRobertaRegressor().fit(LONG, LONG, [1.0] * 8)
    with pytest.raises(ValueError, match=said):
        XLMRobertaClassifier().fit(LONG, pd.Series(LONG), pd.Series(["yes", "no"] * 4))
    with pytest.raises(ValueError, match=r"2 columns.* found 1 column: pass both as one argument"):
        XLMRobertaQuestionAnswerer().fit(LONG, LONG, LONG)


def test_texts_as_labels_are_told_of():
    with pytest.warns(
        UserWarning, match="y looks like texts and not like labels: 8 distinct ones in 8 rows, such as 'a text[^']*'"
    ):
        learn_targets(LONG, "y")
    for plausible in (list("abcdefgh"), LONG[:3] * 3, LONG[:4], list(range(8))):
        learn_targets(plausible, "y")


def test_texts_as_numbers_are_asked_about():
    with pytest.raises(
        ValueError, match=r"y row 0: expected a number, got 'a text .* of type str: are X and y swapped"
    ):
        read_numbers(LONG, "y")


DATES = pd.Series(pd.to_datetime(["2020-01-01", None, "2021-01-01"]))


@pytest.mark.parametrize(
    ("y", "said"),
    [
        (DATES, "y row 1: expected a label, got NaT: drop the row"),
        (DATES - DATES[0], "y row 1: expected a label, got NaT"),
        (DATES.to_numpy()[:, None], "y row 1: expected a label, got NaT"),
        (pl.Series(DATES), "y row 1: expected a label, got NaT"),
        (pd.DataFrame({"a": ["x", "y", "x"], "b": DATES}), "y column 1 row 1: expected a label, got NaT"),
    ],
    ids=["dates", "durations", "column", "polars", "columns"],
)
def test_a_missing_date_is_no_class(y, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        learn_targets(y, "y")


@pytest.mark.parametrize("values", [[0, 1, 1], [0.5, 1.5, 2.5], ["a", "b", "b"], [True, False, False]])
def test_masked_values_are_missing(values):
    y = np.ma.masked_array(values, mask=[False, False, True])
    with pytest.raises(ValueError, match="y row 2: expected a label, got None: drop the row"):
        learn_targets(y, "y")
    with pytest.raises(ValueError, match="y column 1 row 2: expected a label, got None"):
        learn_targets(np.ma.stack([y[[0, 1, 0]], y], axis=1), "y")
    np.testing.assert_array_equal(plain_array(y[:2]), values[:2])


def test_masked_numbers_are_refused():
    masked, nullable = np.ma.masked_array([1.0, 2.0], mask=[False, True]), pd.array([1, None], dtype="Int64")
    for name, values, missing in [("y", masked, "None"), ("sample_weight", masked, "None"), ("y", nullable, "<NA>")]:
        said = rf"{name} row 1: expected a number, got {missing} \(a missing value\): drop the row"
        with pytest.raises(ValueError, match=said):
            read_numbers(values, name)
