"""Prompts with choices in every form they may have; what does not fit is refused, and its row named."""

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skxlmr.estimators._choices.rows import check_choices

PROMPTS = ["Warum?", "why?", "почему?"]
EVEN = [["so", "darum"], ["so", "because"], ["так", "потому"]]
RAGGED = [["so", "darum", "nie"], ["so", "because"], ["так", "потому"]]
COLUMNS = {"a": ["so", "so", "так"], "b": ["darum", "because", "потому"], "c": ["nie", None, None]}

SHAPES = {
    "dicts": [{"prompt": p, "choices": c, "id": 7} for p, c in zip(PROMPTS, RAGGED, strict=True)],
    "tuples": list(zip(PROMPTS, RAGGED, strict=True)),
    "tuple of lists": tuple([p, tuple(c)] for p, c in zip(PROMPTS, RAGGED, strict=True)),
    "arrays in tuples": [(p, np.array(c)) for p, c in zip(PROMPTS, RAGGED, strict=True)],
    "Series of dicts": pd.Series(
        [{"prompt": p, "choices": c} for p, c in zip(PROMPTS, RAGGED, strict=True)], index=[5, 5, 5]
    ),
    "frame of lists": pd.DataFrame({"q": PROMPTS, "answers": RAGGED}, index=list("zyx")),
    "frame of lists, prompt last": pd.DataFrame({"choices": RAGGED, "prompt": PROMPTS}),
    "frame of columns": pd.DataFrame({"q": PROMPTS, **COLUMNS}),
    "frame of columns, NaN": pd.DataFrame({"q": PROMPTS, **COLUMNS}).fillna(np.nan),
    "frame of strings": pd.DataFrame({**COLUMNS, "prompt": PROMPTS}, dtype="string"),
    "polars lists": pl.DataFrame({"q": PROMPTS, "answers": RAGGED}),
    "polars columns": pl.DataFrame({"q": PROMPTS, **COLUMNS}),
    "arrow lists": pa.table({"choices": RAGGED, "prompt": PROMPTS}),
    "arrow columns": pa.table({"q": PROMPTS, **COLUMNS}),
    "2-D array": np.array([PROMPTS, *COLUMNS.values()], dtype=object).T,
}


@pytest.mark.parametrize("X", SHAPES.values(), ids=SHAPES)
def test_shapes(X):
    rows = check_choices(X)
    assert rows.prompts == PROMPTS and rows.choices == RAGGED
    assert rows.n_choices.tolist() == [3, 2, 2] and len(rows) == 3
    assert {type(choice) for row in rows.choices for choice in row} == {str}
    assert rows.n_columns == (X.shape[1] if getattr(X, "ndim", len(getattr(X, "shape", ()))) == 2 else 2)


@pytest.mark.parametrize("table", [pd.DataFrame, pl.DataFrame, pa.table])
def test_columns_other_than_prompt_and_choices_are_left_out(table):
    X = table({"id": [1, 2, 3], "choices": RAGGED, "lang": ["de", "en", "ru"], "prompt": PROMPTS})
    rows = check_choices(X)
    assert rows.prompts == PROMPTS and rows.choices == RAGGED and rows.n_columns == 2


def test_rows_of_equal_width():
    expected = check_choices(list(zip(PROMPTS, EVEN, strict=True)))
    for X in (
        [(p, *c) for p, c in zip(PROMPTS, EVEN, strict=True)],
        np.array([(p, *c) for p, c in zip(PROMPTS, EVEN, strict=True)]),
    ):
        rows = check_choices(X)
        assert rows.prompts == expected.prompts and rows.choices == expected.choices and rows.n_columns == 3


GOOD = ("a", ["b", "c"])
BAD = [
    ("a bare text", TypeError, "X must be a list, DataFrame or array of prompts with choices, got a str"),
    ({"prompt": "a", "choices": ["b", "c"]}, TypeError, "got a dict"),
    (iter([GOOD]), TypeError, "got a list_iterator"),
    (5, TypeError, "got a int"),
    ([GOOD, ("a", ["b"])], ValueError, "X row 1: expected two or more choices, got 1"),
    ([GOOD, ("a", [])], ValueError, "X row 1: expected two or more choices, got 0"),
    ([GOOD, ("a", "bc")], ValueError, "X row 1: expected a list of choices, got 'bc' of type str"),
    ([GOOD, ("a", None)], ValueError, "X row 1: expected a list of choices, got None"),
    ([GOOD, ("a", ["b", None])], ValueError, "X row 1, choice 1: expected a text, got None"),
    ([GOOD, ("a", ["b", "c", 5])], ValueError, "X row 1, choice 2: expected a text, got 5 of type int"),
    ([GOOD, (None, ["b", "c"])], ValueError, "X row 1: expected a text, got None"),
    ([GOOD, ("a", "b", "c")], ValueError, "X row 1: expected 2 texts as in row 0"),
    (["a", "b"], ValueError, "X row 0: expected a dict with 'prompt' and 'choices'"),
    (
        [{"prompt": "a", "choices": ["b", "c"]}, {"prompt": "a"}],
        ValueError,
        "X row 1: expected a dict with 'prompt' and",
    ),
    (pd.DataFrame({"q": ["a", "b"], "x": ["c", "d"], "y": ["e", None]}), ValueError, "X row 1: expected two .* got 1"),
    (
        pd.DataFrame({"q": ["a", "b"], "x": ["c", None], "y": ["e", "f"]}),
        ValueError,
        "X row 1, choice 0: expected a text, got (None|NaN)",
    ),
    (
        pd.DataFrame({"q": ["a", "b"], "x": [["c", "d"], np.nan]}),
        ValueError,
        "X row 1: expected a list of choices, got NaN",
    ),
]


@pytest.mark.parametrize(("X", "error", "said"), BAD, ids=[said for *_, said in BAD])
def test_bad_rows_are_named(X, error, said):
    with pytest.raises(error, match=said) as caught:
        check_choices(X)
    assert "\n" not in str(caught.value)
