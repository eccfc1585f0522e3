"""Scores of groups: those of the scorers themselves, from predictions that are made once."""

import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.dummy import DummyClassifier
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, get_scorer, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skxlmr
from skxlmr.inspection import group_scores
from tests.contract import inputs

N = 90


class Counting(LogisticRegression):
    """Counts the rows of each method's calls."""

    def fit(self, X, y, sample_weight=None):
        self.counts_ = {}
        return super().fit(X, y, sample_weight)

    def _count(self, name, X):
        self.counts_.setdefault(name, []).append(len(X))

    def predict(self, X):
        self._count("predict", X)
        return super().predict(X)

    def predict_proba(self, X):
        self._count("predict_proba", X)
        return super().predict_proba(X)


@pytest.fixture(scope="module")
def data():
    """X of two columns, three classes, groups of 15, 30 and 45 rows."""
    rng = np.random.default_rng(0)
    y = np.arange(N) % 3
    X = rng.normal(size=(N, 2)) + np.eye(3, 2)[y] * 1.5
    return X, np.array(["a", "b", "c"])[y], np.repeat(["de", "en", "fr"], [15, 30, 45])


@pytest.fixture(scope="module")
def model(data):
    return Counting().fit(*data[:2])


NAMES = ["accuracy", "f1_macro", "neg_log_loss", "roc_auc_ovr"]


def test_each_row_is_predicted_once_per_method(model, data):
    model.counts_.clear()
    group_scores(model, *data, scoring=NAMES, n_resamples=5, random_state=0)
    assert model.counts_ == {"predict": [N], "predict_proba": [N]}


def test_scores_are_those_of_the_scorers(model, data):
    X, y, groups = data
    table = group_scores(model, *data, scoring=NAMES, n_resamples=5, random_state=0)
    assert table.index.tolist() == ["de", "en", "fr", "all rows", "mean of groups"]
    assert table["n_rows"].tolist() == [15, 30, 45, N, N]
    for name in NAMES:
        for group in np.unique(groups):
            of = groups == group
            assert table.loc[group, name] == pytest.approx(get_scorer(name)(model, X[of], y[of]), abs=1e-12)
        assert table.loc["all rows", name] == pytest.approx(get_scorer(name)(model, X, y), abs=1e-12)
        assert table.loc["mean of groups", name] == pytest.approx(table[name].iloc[:3].mean())
    assert list(table)[1:4] == ["accuracy", "accuracy_low", "accuracy_high"]


@pytest.mark.parametrize("weighted", [False, True])
def test_intervals_equal_those_of_scipy(data, weighted):
    """Percentile intervals of a mean: of 2,000 resamples the ends agree within 4 % of their distance, their noise."""
    X, y, groups = data
    rng = np.random.default_rng(1)
    y, weights = rng.normal(size=N), rng.uniform(0.5, 2, N) if weighted else None
    table = group_scores(
        LinearRegression().fit(X, y),
        X,
        y,
        groups,
        scoring=make_scorer(lambda y, predicted, sample_weight=None: np.average(y, weights=sample_weight)),
        sample_weight=weights,
        n_resamples=2000,
        random_state=0,
    )
    for group in ["de", "fr", "all rows"]:
        of = np.ones(N, bool) if group == "all rows" else groups == group
        parts = (y[of],) if weights is None else (y[of], weights[of])
        found = stats.bootstrap(
            parts,
            lambda y, w=None, axis=-1: np.average(y, weights=w, axis=axis),
            paired=True,
            method="percentile",
            n_resamples=2000,
            rng=np.random.default_rng(2),
        ).confidence_interval
        tolerance = 0.04 * (found.high - found.low)
        assert table.loc[group, "low"] == pytest.approx(found.low, abs=tolerance)
        assert table.loc[group, "high"] == pytest.approx(found.high, abs=tolerance)


def test_the_mean_of_groups_resamples_each_group(data):
    """Within 4 % of the distance between the ends, as above."""
    X, y, groups = data
    y = np.random.default_rng(1).normal(size=N) + 3 * (groups == "de")
    model, own = LinearRegression().fit(X, y), make_scorer(lambda y, predicted: y.mean())
    table = group_scores(model, X, y, groups, scoring=own, n_resamples=2000, random_state=0)
    found = stats.bootstrap(
        [y[groups == group] for group in np.unique(groups)],
        lambda *parts, axis=-1: np.mean([part.mean(axis) for part in parts], 0),
        method="percentile",
        n_resamples=2000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    low, high = table.loc["mean of groups", ["low", "high"]]
    assert [low, high] == pytest.approx([found.low, found.high], abs=0.04 * (found.high - found.low))


@pytest.mark.parametrize("weighted", [False, True])
def test_accuracy_is_as_fast_and_as_right_as_a_mean(model, data, weighted):
    weights = np.random.default_rng(0).uniform(0, 2, N) if weighted else None
    slow = make_scorer(lambda *args, **kwargs: accuracy_score(*args, **kwargs))
    slow._score_func = lambda y, predicted, sample_weight=None: accuracy_score(
        y, predicted, sample_weight=sample_weight
    )
    tables = [
        group_scores(model, *data, scoring=each, sample_weight=weights, n_resamples=25, random_state=3)
        for each in (None, "accuracy", slow)
    ]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])


def test_intervals_cover_the_true_score():
    """Of a model that is right in 80 % of all rows, 95 % intervals from 100 rows cover this in 90 to 98 % of samples."""
    rng, n_samples = np.random.default_rng(0), 300
    y = (rng.random(n_samples * 100) < 0.8).astype(int)
    model = DummyClassifier(strategy="constant", constant=1).fit(np.zeros((2, 1)), [0, 1])
    groups = np.repeat(np.arange(n_samples), 100)
    table = group_scores(
        model, np.zeros((len(y), 1)), y, groups, scoring="accuracy", n_resamples=200, random_state=0
    ).iloc[:n_samples]
    assert 0.90 <= table["low"].le(0.8).mul(table["high"].ge(0.8)).mean() <= 0.98


def test_undefined_scores_are_said(data):
    X, y, _ = data
    y = np.where(y == "a", 1, 0)
    groups = np.array(["mixed"] * (N - 7) + ["two"] * 3 + ["ones"] * 3 + ["single"])
    y[-7:] = [1, 0, 0, 1, 1, 1, 0]
    model = LogisticRegression().fit(X, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        table = group_scores(model, X, y, groups, scoring="roc_auc", n_resamples=50, random_state=0)
    said = [str(each.message) for each in caught]
    assert sum("roc_auc" in each or "score" in each for each in said) == len(said) == 3
    assert any("not defined in group 'ones' of 3 rows" in each for each in said)
    assert any("not defined in group 'single' of 1 rows" in each for each in said)
    assert any("of the 50 resamples" in each and "of group 'two'" in each for each in said)
    assert table.loc[["ones", "single"]][["score", "low", "high"]].isna().all(axis=None)
    assert table.loc["mean of groups", "score"] == pytest.approx(table.loc[["mixed", "two"], "score"].mean())
    assert np.isfinite(table.loc[["mixed", "two", "all rows", "mean of groups"], ["low", "high"]]).all(axis=None)


def test_a_group_of_one_row_has_no_interval(model, data):
    X, y, groups = data
    groups = groups.copy()
    groups[0] = "xx"
    table = group_scores(model, X, y, groups, n_resamples=10)
    assert np.isfinite(table.loc["xx", "score"]) and table.loc["xx", ["low", "high"]].isna().all()


def test_log_loss_knows_the_classes_that_a_group_lacks(model, data):
    X, y, _ = data
    table = group_scores(model, X, y, y, scoring="neg_log_loss", n_resamples=3)  # a single class in each group
    proba = model.predict_proba(X)[y == "b", 1]
    assert table.loc["b", "score"] == pytest.approx(np.log(proba).mean())


def test_warnings_of_a_scorer_name_the_group(data):
    X, y, groups = data
    model = DummyClassifier(strategy="constant", constant="a").fit(X, y)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        group_scores(model, X, y, groups, scoring="precision_macro", n_resamples=5)
    assert [each.category for each in caught] == [UndefinedMetricWarning] * 4  # the first of all rows
    assert [str(each.message).partition(":")[0] for each in caught[1:]] == ["group 'de'", "group 'en'", "group 'fr'"]
    assert caught[1].filename == __file__


@pytest.mark.parametrize("kind", ["pandas", "polars", "arrow", "categories"])
def test_groups_may_be_a_column_of_X(model, data, kind):
    X, y, groups = data
    frame = pd.DataFrame(X, columns=["one", "two"]).assign(language=groups)
    if kind == "categories":
        frame["language"] = pd.Categorical(groups, ["fr", "it", "de", "en"])
    wide = make_pipeline(Columns(), LogisticRegression()).fit(frame, y)
    expected = group_scores(wide, frame, y, groups, n_resamples=0)
    if kind == "polars":
        frame = pytest.importorskip("polars").from_pandas(frame)
    elif kind == "arrow":
        frame = pytest.importorskip("pyarrow").Table.from_pandas(frame)
    found = group_scores(wide, frame, y, "language", n_resamples=0)
    order = ["fr", "de", "en"] if kind == "categories" else ["de", "en", "fr"]
    assert found.index.tolist()[:3] == order
    pd.testing.assert_frame_equal(found.loc[expected.index], expected)


class Columns(StandardScaler):
    """Reads the first two columns of any table."""

    def fit(self, X, y=None, sample_weight=None):
        return super().fit(self._numbers(X))

    def transform(self, X, copy=None):
        return super().transform(self._numbers(X))

    def _numbers(self, X):
        return np.column_stack([np.asarray(X[name]) for name in ("one", "two")])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": [*["a"] * 89, None]}, "groups row 89 has no group: fill it"),
        ({"groups": np.array([np.nan, *[1.0] * 89])}, "groups row 0 has no group"),
        ({"groups": ["a"] * 3}, "groups has 3 rows, and X has 90"),
        ({"groups": ["a", *["all rows"] * 89]}, "has a group 'all rows', which is the name of a row of the result"),
        ({"groups": "language"}, "groups='language' is no column of X .it is a ndarray without named columns"),
        ({"groups": None}, "groups must be the group of each row"),
        ({"groups": np.zeros((90, 2))}, "groups must be the group of each row"),
        ({"y": ["a"]}, "y has 1 rows, and X has 90"),
        ({"X": np.zeros((0, 2))}, "X has no rows"),
        ({"confidence_level": 95}, "confidence_level must be between 0 and 1, got 95"),
        ({"n_resamples": 0.5}, "n_resamples must be 0 or a positive integer"),
        ({"scoring": []}, "scoring names no scorers"),
        ({"scoring": {"n_rows": "accuracy"}}, "scoring would make two columns 'n_rows' of the table"),
        ({"scoring": {"f1": "f1_macro", "f1_low": "accuracy"}}, "two columns 'f1_low'"),
        ({"scoring": "f2"}, "'scoring' parameter .* must be"),
        ({"scoring": lambda model, X, y: model.predict(X[:, :2]).size}, "would run the model for each resample"),
        ({"scoring": lambda model, X, y: model.score(X, y), "sample_weight": np.ones(90)}, "takes no sample_weight"),
    ],
)
def test_bad_input_is_refused(model, data, change, message):
    passed = dict(zip(("X", "y", "groups"), data, strict=True)) | change
    with pytest.raises(ValueError, match=message):
        group_scores(model, **passed)


def test_a_score_is_one_number(model, data):
    with pytest.raises(TypeError, match=r"scoring must return one number, got \{'a': 1\}"):
        group_scores(model, *data, scoring=lambda model, X, y: {"a": 1})


def test_n_resamples_0_lets_a_scorer_run_the_model(model, data):
    table = group_scores(model, *data, scoring=lambda m, X, y: accuracy_score(y, m.predict(X[:, :2])), n_resamples=0)
    assert table["score"].tolist() == group_scores(model, *data, n_resamples=0)["score"].tolist()
    assert table[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize("scoring", [None, "neg_log_loss"])
def test_pipelines_and_searches_score_as_their_own_score_does(data, scoring):
    X, y, groups = data
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, scoring=scoring, cv=2).fit(X, y)
    regression = LinearRegression().fit(X, X[:, 0] + np.arange(N) % 5)
    for model, target in ((pipeline, y), (search, y), (regression, X[:, 0] + np.arange(N) % 5)):
        table = group_scores(model, X, target, groups, n_resamples=3)
        of = groups == "fr"
        assert table.loc["fr", "score"] == pytest.approx(model.score(X[of], target[of]), abs=1e-12)


def test_several_columns_of_targets(data):
    X, y, groups = data
    Y = np.column_stack([y, y[::-1]])
    model = MultiOutputClassifier(LogisticRegression()).fit(X, Y)

    def likelihood(model, X, Y):
        of_true = [p[column[:, None] == ["a", "b", "c"]] for p, column in zip(model.predict_proba(X), Y.T, strict=True)]
        return np.log(of_true).mean()

    table = group_scores(model, X, Y, groups, scoring={"own": model.__class__.score, "p": likelihood}, n_resamples=3)
    of = groups == "en"
    assert table.loc["en", "p"] == pytest.approx(likelihood(model, X[of], Y[of]))
    assert table.loc["en", "own"] == model.score(X[of], Y[of])


@pytest.mark.parametrize(
    "estimator",
    [
        skxlmr.XLMRobertaClassifier,
        skxlmr.XLMRobertaRegressor,
        skxlmr.XLMRobertaTokenClassifier,
        skxlmr.XLMRobertaQuestionAnswerer,
        skxlmr.XLMRobertaMultipleChoiceClassifier,
        skxlmr.XLMRobertaZeroShotClassifier,
    ],
    ids=lambda cls: cls.__name__,
)
@pytest.mark.filterwarnings("ignore:.*no label reaches|.*hardly")
def test_own_scores_of_the_estimators(fitted, computed, estimator):
    model = fitted(estimator)
    X, y, _ = inputs(estimator)
    model.score(X, y)
    once = sum(computed)
    computed.clear()
    table = group_scores(model, X, y, ["a", "b", "a", "b", "b", "b"], n_resamples=7, random_state=0)
    assert sum(computed) == once
    for group, rows in {"a": [0, 2], "b": [1, 3, 4, 5], "all rows": range(6)}.items():
        expected = model.score([X[row] for row in rows], [y[row] for row in rows])
        assert table.loc[group, "score"] == pytest.approx(expected, abs=1e-5)


def test_a_language_model_is_not_run_for_each_resample(fitted):
    model = fitted(skxlmr.XLMRobertaMaskedLM)
    X = inputs(skxlmr.XLMRobertaMaskedLM)[0]
    groups = ["a", "b"] * 3
    with pytest.raises(ValueError, match="would run the model for each resample"):
        group_scores(model, X, None, groups)
    table = group_scores(model, X, None, groups, n_resamples=0)
    assert table.loc["a", "score"] == pytest.approx(model.score(X[::2]))
    found = group_scores(model, X, None, groups, scoring=lambda m, X, y: m.score_samples(X).mean(), n_resamples=5)
    assert found.loc["b", "score"] == pytest.approx(model.score_samples(X[1::2]).mean(), abs=1e-5)
