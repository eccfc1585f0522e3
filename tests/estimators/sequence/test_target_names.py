"""Names of the columns of y: kept by a fit, compared later, and refused where two are the same."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from skxlmr import (
    XLMRobertaClassifier,
    XLMRobertaMultipleChoiceClassifier,
    XLMRobertaRegressor,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
    load,
    save,
)
from skxlmr.utils._labels import check_target_names, target_names

KINDS = ["labels", "classes", "numbers"]
NAMES = {"texts": ["a", "c", "b"], "numbers": [2019, 2021, 2020]}


@pytest.fixture(scope="module")
def tables(texts, languages):
    """A y of each kind."""
    numbers = np.arange(48)
    indicator = np.stack([numbers % 2, numbers % 3 == 0, numbers % 5 == 0], 1).astype(int)
    classes = pd.DataFrame({0: languages, 1: languages[::-1], 2: np.roll(languages, 1)})
    return {
        "labels": pd.DataFrame(indicator),
        "classes": classes,
        "numbers": pd.DataFrame({0: numbers, 1: -numbers, 2: numbers % 7}),
    }


@pytest.fixture(scope="module", params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def made(make, kind):
    def new(**params):
        return make(XLMRobertaRegressor if kind == "numbers" else XLMRobertaClassifier, **params)

    return new


def test_names_of_a_table():
    frame = pd.DataFrame(np.eye(2, dtype=int))
    assert target_names(frame.set_axis(["a", "b"], axis=1), "y") == ["a", "b"]
    assert target_names(pl.DataFrame({"a": [1], "b": [2]}), "y") == ["a", "b"]
    assert target_names(pa.table({"a": [1], "b": [2]}), "y") == ["a", "b"]
    assert target_names(frame.set_axis(np.array([1, 0]), axis=1), "y") == [1, 0]
    without = [
        frame,
        frame.to_numpy(),
        [[1, 0]],
        frame.set_axis([True, False], axis=1),
        frame[[1]].set_axis(["a"], axis=1),
    ]
    without.append(frame.set_axis(pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")]), axis=1))
    assert [target_names(y, "y") for y in without] == [None] * 6
    check_target_names(frame.set_axis([1, 2], axis=1), "y", ["1", "2"])  # as from_checkpoint reads them


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_columns_in_another_order_are_refused(made, kind, tables, texts, names, tmp_path):
    y, plain = tables[kind].set_axis(names, axis=1), tables[kind].to_numpy()
    other, shown = y[sorted(names)], ", ".join(map(str, names))
    fitted = made().fit(texts, y)
    save(fitted, tmp_path / "saved")
    said = f"has the columns {', '.join(map(str, sorted(names)))}, but the fit had {shown}"
    for twin in (fitted, pickle.loads(pickle.dumps(fitted)), load(tmp_path / "saved")):
        for call in (twin.score, twin.partial_fit, pickle.loads(pickle.dumps(twin)).set_params(warm_start=True).fit):
            with pytest.raises(ValueError, match=f"^y {said}"):
                call(texts, other)
        assert twin.score(texts, y) == twin.score(texts, plain) == twin.score(texts, pd.DataFrame(plain))
    with pytest.raises(ValueError, match=f"^y_val {said}"):
        made().fit(texts, y, X_val=texts, y_val=other)


def test_without_names_in_the_fit_none_are_compared(made, kind, tables, texts):
    y = tables[kind]
    fitted = made().fit(texts, y)
    assert fitted.score(texts, y.set_axis(["c", "b", "a"], axis=1)) == fitted.score(texts, y)
    if kind == "labels":
        return  # whose names are the classes
    older = made().fit(texts, y.set_axis(["a", "b", "c"], axis=1))
    del older._y_columns
    again = pickle.loads(pickle.dumps(older))
    assert again.score(texts, y.set_axis(["c", "b", "a"], axis=1)) == older.score(texts, y)


def test_a_first_portion_names_the_columns(made, kind, tables, texts):
    y = tables[kind].set_axis(["a", "b", "c"], axis=1)
    classes = {"classes": {"classes": [np.unique(y[name]).tolist() for name in y]}}.get(kind, {})
    fitted = made().partial_fit(texts, y, **classes).partial_fit(texts, y)
    with pytest.raises(ValueError, match=r"^y has the columns c, b, a, but the fit had a, b, c"):
        fitted.partial_fit(texts, y[["c", "b", "a"]])


def test_whole_numbers_are_names_of_labels(make, tables, texts, tmp_path):
    y = tables["labels"].set_axis(NAMES["numbers"], axis=1)
    fitted = make(XLMRobertaClassifier, class_weight={2021: 3.0}).fit(texts, y)
    assert fitted.classes_.tolist() == NAMES["numbers"]
    by_place = make(XLMRobertaClassifier, class_weight={1: 3.0}).fit(texts, y.to_numpy())
    np.testing.assert_array_equal(fitted.predict_proba(texts), by_place.predict_proba(texts))
    save(fitted, tmp_path / "saved")
    again = XLMRobertaClassifier.from_checkpoint(tmp_path / "saved", dtype="float32")
    assert again.score(texts, y) == fitted.score(texts, y)
    with pytest.raises(ValueError, match=r"^y has the columns 2019, 2020, 2021, but the fit had 2019, 2021, 2020"):
        again.score(texts, y[sorted(y)])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["a", "b", "a"], "has 2 columns with the name 'a': give each its own"),
        ([7, 7, 7], "has 3 columns with the name 7: give each its own"),
        (["a", 0, 1], r"has columns named by texts and others, \['a', 0, 1\]: name all by texts"),
    ],
    ids=["twice", "numbers", "mixed"],
)
def test_names_that_cannot_be(made, kind, tables, texts, names, said):
    y = tables[kind]
    with pytest.raises((ValueError, TypeError), match=f"^y {said}"):
        made().fit(texts, y.set_axis(names, axis=1))
    with pytest.raises((ValueError, TypeError), match=f"^y_val {said}"):
        made().fit(texts, y, X_val=texts, y_val=y.set_axis(names, axis=1))


def test_a_name_twice_in_X(make, texts, languages):
    def table(*names):
        return pd.DataFrame([[text] * len(names) for text in texts], columns=names)

    said = "has 2 columns with the name 't': give each its own"
    for call in (make(XLMRobertaClassifier).fit, make(XLMRobertaVectorizer).fit):
        with pytest.raises(ValueError, match=f"^X {said}"):
            call(table("t", "t"), languages)
    with pytest.raises(ValueError, match=f"^X {said}"):
        make(XLMRobertaMultipleChoiceClassifier).fit(table("prompt", "t", "t"), [0, 1] * 24)
    with pytest.raises(ValueError, match=f"^X_val {said}"):
        make(XLMRobertaClassifier).fit(table("t", "u"), languages, X_val=table("t", "t"), y_val=languages)
    of_pairs = make(XLMRobertaClassifier).fit(table("t", "u").to_numpy(), languages)
    with pytest.raises(ValueError, match=f"^X {said}"):
        of_pairs.predict(table("t", "t"))


def test_columns_of_labels_in_words():
    zero_shot = XLMRobertaZeroShotClassifier(multi_label=True)
    zero_shot.classes_, indicator = np.array(["yes", "no"]), np.array([[1, 0], [1, 1]])
    zero_shot.predict = lambda X: indicator
    y = pd.DataFrame(indicator, columns=["yes", "no"])
    assert zero_shot.score(["a", "b"], y) == zero_shot.score(["a", "b"], indicator.astype(bool)) == 1
    with pytest.raises(ValueError, match=r"^y has the columns no, yes, but the fit had yes, no"):
        zero_shot.score(["a", "b"], y[["no", "yes"]])
    with pytest.raises(ValueError, match="y must be an indicator matrix with one column for each of the 2 labels"):
        zero_shot.score(["a", "b"], indicator[:, :1])
    zero_shot.classes_, indicator = np.array(["yes"]), indicator[:, 1:]
    assert zero_shot.score(["a", "b"], indicator) == zero_shot.score(["a", "b"], [0, 1]) == 1
