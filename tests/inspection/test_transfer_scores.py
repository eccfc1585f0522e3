"""From each group to each other: what the cells hold, and that a text is encoded once for all fits."""

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import get_scorer, log_loss, make_scorer
from sklearn.model_selection import KFold, LeaveOneGroupOut, cross_val_score
from sklearn.pipeline import make_pipeline

from skxlmr import XLMRobertaVectorizer
from skxlmr.inspection import GroupScoresDisplay, transfer_scores
from tests.contract import TEXTS

N = 48


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(N) % 3
    groups = np.repeat(["ru", "de", "en"], [12, 12, 24])
    return rng.normal(size=(N, 2)) + np.eye(3, 2)[y] * 1.5, np.array(["a", "b", "c"])[y], groups


@pytest.mark.parametrize("scoring", [None, "f1_macro"])
def test_the_cells(data, scoring):
    X, y, groups = data
    model = LogisticRegression()
    matrix = transfer_scores(model, X, y, groups, scoring=scoring, cv=3, all_others=True)
    assert matrix.index.tolist() == ["de", "en", "ru", "all others"] and matrix.columns.tolist() == ["de", "en", "ru"]
    names = matrix.columns
    for train in names:
        for test in names:
            of_train, of_test = groups == train, groups == test
            if train == test:
                expected = cross_val_score(model, X[of_train], y[of_train], scoring=scoring, cv=3).mean()
            else:
                fitted = clone(model).fit(X[of_train], y[of_train])
                expected = get_scorer(scoring or "accuracy")(fitted, X[of_test], y[of_test])
            assert matrix.loc[train, test] == pytest.approx(expected), (train, test)
    by_group = cross_val_score(model, X, y, groups=groups, scoring=scoring, cv=LeaveOneGroupOut())
    assert matrix.loc["all others"].tolist() == pytest.approx(by_group.tolist())


def test_other_models_and_folds(data):
    X, _, groups = data
    target = X[:, 0] + np.arange(N) % 7
    with parallel_config("threading"):
        matrix = transfer_scores(Ridge(), X, target, groups, scoring="neg_mean_absolute_error", cv=KFold(2), n_jobs=2)
    fitted = Ridge().fit(X[:12], target[:12])
    assert matrix.loc["ru", "en"] == pytest.approx(-np.abs(fitted.predict(X[24:]) - target[24:]).mean())
    assert matrix.attrs == {"scoring": "neg_mean_absolute_error"}


def test_groups_may_be_tuples(data):
    X, y, groups = data
    pairs = [(group, k % 2) for k, group in enumerate(groups)]
    matrix = transfer_scores(LogisticRegression(), X, y, pairs, cv=KFold(2), all_others=True)
    assert matrix.columns.tolist() == sorted(set(pairs)) and matrix.index.tolist() == [*matrix.columns, "all others"]
    assert matrix.shape == (7, 6)
    GroupScoresDisplay.from_scores(matrix)


def test_probabilities_know_the_classes_that_a_fold_lacks(data):
    X, y, groups = data
    matrix = transfer_scores(LogisticRegression(), X, y, groups, scoring="neg_log_loss", cv=KFold(6))
    scorer = make_scorer(log_loss, greater_is_better=False, response_method="predict_proba", labels=["a", "b", "c"])
    expected = cross_val_score(LogisticRegression(), X[:12], y[:12], scoring=scorer, cv=KFold(6)).mean()  # of two rows
    assert matrix.loc["ru", "ru"] == pytest.approx(expected)


@pytest.mark.parametrize("place", ["auto", "folder"])
def test_each_text_is_encoded_once(with_cache, computed, tiny_checkpoint, tmp_path, place):
    texts = [f"{text} {n}" for n in range(4) for text in TEXTS]
    frame = pd.DataFrame({"text": texts, "language": ["en", "de", "ru"] * 8})
    memory = "auto" if place == "auto" else tmp_path / "features"
    encoder = XLMRobertaVectorizer(tiny_checkpoint, memory=memory)
    matrix = transfer_scores(
        make_pipeline(encoder, LogisticRegression()), frame["text"], [0, 0, 0, 1, 1, 1] * 4, frame["language"], cv=2
    )
    assert sum(computed) == len(texts)
    assert matrix.shape == (3, 3) and matrix.notna().all(axis=None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": ["a"] * N}, "groups has one group, 'a'"),
        ({"groups": [None, *["a"] * (N - 1)]}, "groups row 0 has no group"),
        ({"groups": ["all others", *["a"] * (N - 1)]}, "has a group 'all others'"),
        ({"groups": ["x", *["y"] * (N - 1)]}, "group 'x' of 1 rows can't be divided by cv: "),
        ({"y": np.where(np.arange(N) < 12, "a", "b")}, "the fit on 12 rows of group 'de' failed: This solver needs"),
        ({"y": ["a"]}, "y has 1 rows, and X has 48"),
        ({"scoring": ["accuracy"]}, "scoring must be one scorer"),
        (
            {"scoring": lambda model, X, y: float("x") if len(X) > 12 else 1},
            "the score of 24 rows of group 'en' failed",
        ),
    ],
)
def test_bad_input_is_refused(data, change, message):
    passed = dict(zip(("X", "y", "groups"), data, strict=True)) | {"cv": 2} | change
    with pytest.raises(ValueError, match=message):
        transfer_scores(LogisticRegression(), **passed)
