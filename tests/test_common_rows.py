"""One contract over every estimator: what rows of X may be, and that each row is answered by itself."""

import copy
import pickle
from contextlib import nullcontext

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils._param_validation import InvalidParameterError

from skxlmr import (
    TruncationWarning,
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaDialogueLM,
    XLMRobertaMaskedLM,
    XLMRobertaRegressor,
    XLMRobertaTokenClassifier,
    XLMRobertaVectorizer,
)
from skxlmr.inference import _progress
from tests.contract import (
    TEXTS,
    Y,
    answers,
    assert_same,
    each,
    each_of_pairs,
    each_of_texts,
    each_that,
    infer,
    inputs,
    methods_of,
    parts,
    takes_pairs,
)

each_with_features = each_that(lambda cls: hasattr(cls, "transform"))

# What X may be --------------------------------------------------------------------------------------------------------

# One of each package; tests/utils/test_validation.py has all of them, and tests/estimators/tokens/test_rows.py those of words.
CONTAINERS = {
    "object array": lambda X: np.array(X, dtype=object),
    "Series with one index for all": lambda X: pd.Series(X, index=[7] * 6),
    "categorical Series": lambda X: pd.Series(X, dtype="category"),
    "polars DataFrame": lambda X: pl.DataFrame({"text": X}),
    "arrow chunks": lambda X: pa.chunked_array([X[:2], X[2:]]),
}


@each_of_texts
def test_containers_make_no_difference(make_any, fitted, estimator):
    y = inputs(estimator)[1]
    made = fitted(estimator)
    expected = infer(made)
    for name, container in CONTAINERS.items():
        X = container(TEXTS)
        before = pickle.dumps(X)
        found = infer(make_any(estimator).fit(X, y if y is None else np.array(y)), X)
        np.testing.assert_array_equal(found, expected, err_msg=name)
        assert pickle.dumps(X) == before, name


# What holds rows of any kind, and the frames of rows with named columns
OF_ROWS = {
    "tuple": tuple,
    "object array": lambda X: np.fromiter(X, object),
    "Series": lambda X: pd.Series(X, index=range(50, 56)),
    "Series with one index for all": lambda X: pd.Series(X, index=[7] * 6),
}
FRAMES = {
    "pandas": lambda frame: frame.set_axis(list("fedcba")),
    "one index for all": lambda frame: frame.set_axis([7] * 6),
    "polars": pl.from_pandas,
    "arrow": pa.Table.from_pandas,
}


@each
def test_rows_and_frames_make_no_difference(make_any, fitted, estimator):
    X, y, columns = inputs(estimator)
    expected = answers(fitted(estimator), X)
    table = pd.DataFrame(X, columns=columns)
    held = [(name, of_rows(X)) for name, of_rows in OF_ROWS.items()]
    for name, rows in held + [(name, of_frame(table)) for name, of_frame in FRAMES.items()]:
        before = pickle.dumps(rows)
        assert_same(answers(make_any(estimator).fit(rows, y), rows), expected, name)
        assert pickle.dumps(rows) == before, name


PAIRS = {
    "array": np.array,
    "DataFrame": lambda pairs: pd.DataFrame(pairs, columns=["a", "b"], index=[3, 1, 4, 1, 5, 9]),
    "arrow table": lambda pairs: pa.table({"a": [a for a, _ in pairs], "b": [b for _, b in pairs]}),
}


@each_of_pairs
def test_pairs_in_any_container(make_any, estimator):
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    expected = infer(make_any(estimator).fit(pairs, Y), pairs)
    for name, container in PAIRS.items():
        X = container(pairs)
        np.testing.assert_array_equal(infer(make_any(estimator).fit(X, Y), X), expected, err_msg=name)


@each
def test_what_is_no_table_is_refused(make_any, fitted, estimator):
    X, y, _ = inputs(estimator)
    for wrong in ((row for row in X), iter(X), set(map(str, X)), "one text", None, 3):
        if wrong is None and estimator.__name__ == "XLMRobertaZeroShotClassifier":
            continue  # whose fit may do without texts
        with pytest.raises((TypeError, ValueError), match=r"^X (must|is an iterator)"):
            make_any(estimator).fit(wrong, y)
    made = fitted(estimator)
    with pytest.raises((TypeError, ValueError), match="X"):
        infer(made, (row for row in X))


@each_that(lambda cls: "missing" in cls._parameter_constraints)
def test_missing_texts_are_empty_ones_by_option(make_any, fitted, estimator):
    _, y, columns = inputs(estimator)
    empty = ["", *TEXTS[1:5], ""]
    if estimator is XLMRobertaTokenClassifier:
        y[0] = y[5] = []
        y[1] = [(0, 3, "word")]
    expected = answers(make_any(estimator, missing="empty").fit(empty, y), empty)
    X = pd.DataFrame({columns[0]: [pd.NA, *TEXTS[1:5], None]}, dtype=object)
    assert_same(answers(make_any(estimator, missing="empty").fit(X, y), X), expected)
    said = r"X row 0: expected a (text|list of words), got <NA> .*: fill or drop it first, .*or let missing='empty' read it"
    with pytest.raises(ValueError, match=said):
        make_any(estimator).fit(X, y)


@each_of_pairs
def test_two_columns_are_no_pairs_by_option(make_any, estimator):
    pairs, some = list(zip(TEXTS, TEXTS[::-1], strict=True)), make_any(estimator, pairs=True)
    with pytest.raises(ValueError, match=r"X has texts \(1 column\), but pairs=True: pass two columns"):
        some.fit(TEXTS, Y)
    if hasattr(estimator, "partial_fit"):
        with pytest.raises(ValueError, match=r"X has pairs of texts \(2 columns\), but pairs=False: pass one column"):
            make_any(estimator, pairs=False).fit(pairs, Y)


def test_no_rows_in_methods_of_single_estimators(fitted, make_any):
    assert fitted(XLMRobertaCausalLM).generate([]) == fitted(XLMRobertaMaskedLM).fill_mask([]) == []
    assert fitted(XLMRobertaVectorizer).coverage([]).shape == (0, 4)
    assert fitted(XLMRobertaDialogueLM).rank_responses([], ["a", "b"])[1].shape == (0, 2)
    y = np.array([[0, 1], [1, 0], [2, 1]])
    columns = make_any(XLMRobertaClassifier).fit(TEXTS[:3], y)
    assert [proba.shape for proba in columns.predict_proba([])] == [(0, 3), (0, 2)]
    assert columns.predict([]).shape == (0, 2)
    pairs = make_any(XLMRobertaClassifier).fit(list(zip(TEXTS, TEXTS, strict=True)), Y)
    assert pairs.predict_proba([]).shape == (0, 2) and pairs.predict([]).dtype == pairs.classes_.dtype
    windows = fitted(XLMRobertaVectorizer).set_params(long_text="window", max_length=16, normalize=True)
    assert windows.transform([]).shape == (0, 32)
    tagger = make_any(XLMRobertaTokenClassifier).fit([["a", "b"]] * 2, [["x", "y"]] * 2)
    assert tagger.predict([]).shape == (0,) and tagger.predict_proba([]) == []


@each
def test_no_rows_have_no_answers(make_any, fitted, estimator):
    X, y, columns = inputs(estimator)
    table = pd.DataFrame(X, columns=columns)
    of_lists, of_tables = (([], np.array([], dtype=object), X[:0]), (table[:0], pl.from_pandas(table)[:0]))
    on_table = make_any(estimator).fit(table, y)
    for made, rows, kinds_of_none in ((fitted(estimator), X, of_lists), (on_table, table, of_tables)):
        for name in methods_of(estimator):
            some = getattr(made, name)(rows)
            for none in kinds_of_none:
                found = getattr(made, name)(none)
                if isinstance(some, list):
                    assert found == [], name
                else:
                    assert found.shape == (0, *some.shape[1:]) and found.dtype == some.dtype, name
        with pytest.raises(ValueError, match="X has no rows: at least one"):
            make_any(estimator).fit(kinds_of_none[0], None if y is None else y[:0])
    if hasattr(on_table, "set_output"):
        framed = copy.copy(on_table).set_output(transform="pandas")
        assert framed.transform(table[:0]).columns.tolist() == framed.transform(table).columns.tolist()


@each
def test_nothing_that_is_passed_is_changed(make_any, estimator):
    X, y, columns = inputs(estimator)
    weights = np.ones(len(X))
    passed = X, y, pd.DataFrame(X, columns=columns), weights
    before = copy.deepcopy(passed)
    made = make_any(estimator)
    for rows in (passed[0], passed[2]):
        made.fit(rows, y, **{"sample_weight": weights} if "learning_rate" in made.get_params() else {})
        answers(made, rows)
    assert repr(passed[:2]) == repr(before[:2]) and np.array_equal(weights, before[3])
    pd.testing.assert_frame_equal(passed[2], before[2])


# Each row by itself ---------------------------------------------------------------------------------------------------


@each
def test_order_of_the_rows_makes_no_difference(fitted, estimator):
    X, made = inputs(estimator)[0], fitted(estimator)
    order = [4, 2, 0, 5, 1, 3]
    expected = answers(made, X)
    for name, found in answers(made, [X[i] for i in order]).items():
        assert_same(found, [expected[name][i] for i in order], name)


@each
def test_number_of_rows_makes_no_difference(fitted, estimator):
    """Neither in a batch nor in X: row by row, in pieces, with repetitions, in the smallest and in one large batch."""
    X, made = inputs(estimator)[0], fitted(estimator)
    expected = answers(made, X)
    for size in (1, 4):
        found = [answers(made, part) for part in parts(X, size)]
        for name in expected:
            assert_same([row for part in found for row in part[name]], expected[name], name)
    for name, found in answers(made, [X[1], X[3], X[1]]).items():
        assert_same(found, [expected[name][i] for i in (1, 3, 1)], name)
    for batch_size in (1, 100):
        assert_same(answers(made.set_params(batch_size=batch_size), X * 3), {k: v * 3 for k, v in expected.items()})


@each_that(lambda cls: hasattr(cls, "predict_proba"))
def test_prediction_is_the_most_probable(fitted, estimator):
    X, made = inputs(estimator)[0], fitted(estimator)
    classes = getattr(made, "classes_", np.arange(2))  # of the rows' choices there are two
    for predicted, proba in zip(_tags(made, X), made.predict_proba(X), strict=True):
        np.testing.assert_array_equal(predicted, classes[np.argmax(proba, axis=-1)])
        np.testing.assert_allclose(np.sum(proba, axis=-1), 1, rtol=1e-5)


@each
def test_parameters_set_after_fit_are_checked_before_anything_is_computed(fitted, estimator):
    X, made = inputs(estimator)[0], fitted(estimator)
    for name in made.get_params(deep=False):
        changed = copy.copy(made).set_params(**{name: object()})
        for method in methods_of(made):
            with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of {estimator.__name__} must be"):
                getattr(changed, method)(X)


def _tags(made, X):
    """Predictions, those of a tagger of texts as one class per word."""
    if not hasattr(made, "_log_proba"):
        return made.predict(X)
    rows = made._check_X(X, reset=False)
    return made._choose_tags(made._log_proba(made._engine(), made._encode(rows), len(rows)))


@each
def test_numbers_are_float32(fitted, estimator):
    X, made = inputs(estimator)[0], fitted(estimator)
    numbers = {"predict_proba", "predict_log_proba", "decision_function", "transform"}
    if estimator is XLMRobertaRegressor:
        numbers = {"predict"}
    for name in numbers.intersection(methods_of(made)):
        found = getattr(made, name)(X)
        assert {part.dtype for part in (found if isinstance(found, list) else [found])} == {np.dtype("f4")}, name
    for name in {"score_samples", "no_answer_score"}.intersection(methods_of(made)):  # sums of many logarithms
        assert getattr(made, name)(X).dtype == np.float64


# Odd texts ------------------------------------------------------------------------------------------------------------

EMPTY = {
    "XLMRobertaDialogueLM": [{"turns": [("user", ""), ("system", "")]}, {"turns": [("user", "")]}],
    "XLMRobertaMultipleChoiceClassifier": [("", ["", ""]), ("", TEXTS[:2])],
}


@each
def test_empty_texts_are_texts(make_any, estimator):
    X, y, _ = inputs(estimator)
    X[:2] = EMPTY.get(estimator.__name__, ["", " \t\n"])
    if estimator.__name__ == "XLMRobertaQuestionAnswerer":  # there is nothing to ask, or to find
        with pytest.raises(ValueError, match="X row 0"):
            make_any(estimator).fit([("", "")], ["bird"])
        return
    if estimator.__name__ == "XLMRobertaTokenClassifier":
        y[0] = []
    made = make_any(estimator).fit(X, y)
    for name, found in answers(made, X).items():
        assert len(found) == 6, name
        assert all(np.isfinite(row).all() for row in found if getattr(row, "dtype", np.dtype("O")).kind == "f"), name


ODD = [
    "👩‍👩‍👧‍👦 \U0001f3fd",
    "مرحبا بالعالم",
    "日本語のテキスト",
    "\u200b\u200d\ufeff",
    "<s> </s> <mask> <pad>",
    "e\u0301 \u00e9",
    "\x00nul\x00",
    "naïve\xa0café",
    "\ud800 half a character",
    "x" * 40,
    "bird " * 20,
    "",
]


@each_of_texts
def test_odd_texts_are_answered_each_by_itself(fitted, estimator):
    made = fitted(estimator)
    expected = answers(made, ODD)
    alone = [answers(made, [text]) for text in ODD]
    for name in expected:
        assert_same([row for found in alone for row in found[name]], expected[name], name)
        assert_same(answers(made, ODD[::-1])[name], expected[name][::-1], name)


LONG = "река bird " * 2000


@each
def test_very_long_texts_are_cut_and_told_of_or_read_in_windows(make_any, fitted, estimator):
    X, y, _ = inputs(estimator)
    made = fitted(estimator)
    if estimator.__name__ == "XLMRobertaDialogueLM":
        X[1] = {"turns": [("user", LONG), ("system", LONG)]}
    elif isinstance(X[1], tuple):
        X[1] = (X[1][0], [LONG, "bird"]) if isinstance(X[1][1], list) else (X[1][0], LONG)
    else:
        X[1] = LONG
    if "stride" in made.get_params() and "long_text" not in made.get_params():  # always reads all, in windows
        assert len(infer(made, X)) == 6
        return
    with pytest.warns(TruncationWarning, match="^1 of ") as caught:
        found = infer(made, X)
    assert len(caught) == 1 and caught[0].filename == __file__.replace("test_common_rows", "contract")
    assert_same(list(found)[:1], list(infer(made))[:1])
    if hasattr(made, "n_truncated_"):
        with pytest.warns(TruncationWarning) if "learning_rate" in made.get_params() else nullcontext():
            assert make_any(estimator).fit(X, y).n_truncated_ == 1


@each
def test_verbose_shows_rows_and_changes_nothing(fitted, estimator, monkeypatch, capsys):
    made = fitted(estimator)
    expected = infer(made)
    monkeypatch.setattr(_progress, "PATIENCE", 0)
    assert_same(infer(copy.copy(made).set_params(verbose=1)), expected)
    shown = capsys.readouterr().err
    assert "rows " in shown and shown.endswith("\n")


# In a table -----------------------------------------------------------------------------------------------------------


@each_with_features
def test_columns_of_a_table(make_any, estimator):
    X, y, _ = inputs(estimator)
    table = pd.DataFrame({"price": range(6), "text": X, "kind": list("ababab")}, index=range(10, 16))
    expected = make_any(estimator).fit(X, y).transform(X)
    kinds = OneHotEncoder(sparse_output=False)
    for column in ("text", ["text"]):
        both = ColumnTransformer([("of_text", make_any(estimator), column), ("of_kind", kinds, ["kind"])])
        features = both.fit_transform(table, y)
        np.testing.assert_allclose(features[:, :-2], expected, rtol=1e-6)
        np.testing.assert_array_equal(both.transform(table[["kind", "text", "price"]]), features)
        assert both.get_feature_names_out()[0] == "of_text__text_0"
        as_frame = both.set_output(transform="pandas").fit_transform(table, y)
        assert as_frame.index.tolist() == table.index.tolist() and as_frame.shape == features.shape


@each_that(lambda cls: takes_pairs(cls) and hasattr(cls, "transform"))
def test_two_columns_of_a_table_are_pairs(make_any, estimator):
    table = pd.DataFrame({"a": TEXTS, "price": range(6), "b": TEXTS[::-1]})
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    both = ColumnTransformer([("pairs", make_any(estimator), ["a", "b"])])
    np.testing.assert_allclose(both.fit_transform(table), make_any(estimator).fit(pairs).transform(pairs), rtol=1e-6)
