"""search_scoring: the table of a search says how the fits went, wherever the trained estimator is."""

import pickle

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxlmr.metrics import search_scoring

X, Y = np.arange(24.0)[:, None], np.arange(24) % 2
COLUMNS = ("n_epochs", "final_loss", "collapsed")


class Trained(ClassifierMixin, BaseEstimator):
    """Has what the trained estimators of this library have after a fit; no training."""

    def __init__(self, max_epochs=1, rate=0.5):
        self.max_epochs, self.rate = max_epochs, rate

    def fit(self, X, y, sample_weight=None):
        self.classes_ = np.unique(y)
        self.n_iter_, self.final_loss_, self.collapsed_ = self.max_epochs, self.rate / self.max_epochs, self.rate < 0.1
        return self

    def predict_proba(self, X):
        return np.tile([0.4, 0.6], (len(X), 1))

    def predict(self, X):
        return self.classes_[np.ones(len(X), int)]

    def transform(self, X):
        return self.predict_proba(X)


class TrainedRegressor(RegressorMixin, Trained):
    _estimator_type = "regressor"

    def predict(self, X):
        return np.ones(len(X))


def test_columns_of_a_search():
    grid = {"max_epochs": [1, 2], "rate": [0.5, 0.01]}
    search = GridSearchCV(Trained(), grid, scoring=search_scoring(), refit="score", cv=2).fit(X, Y)
    found = [search.cv_results_[f"mean_test_{name}"].tolist() for name in COLUMNS]
    assert found == [[1, 1, 2, 2], [0.5, 0.01, 0.25, 0.005], [0, 1, 0, 1]]
    assert search.cv_results_["mean_test_score"].tolist() == [0.5] * 4 and search.score(X, Y) == 0.5


def test_halving_takes_it_with_refit():
    search = HalvingGridSearchCV(
        Trained(),
        {"rate": [0.5, 0.01]},
        resource="max_epochs",
        max_resources=2,
        factor=2,
        cv=2,
        scoring=search_scoring("accuracy"),
        refit="score",
    ).fit(X, Y)
    assert search.cv_results_["mean_test_n_epochs"].tolist() == [1, 1, 2]
    assert search.best_estimator_.max_epochs == 2 and search.best_score_ == 0.5


@pytest.mark.parametrize(
    ("scoring", "keys"),
    [
        ("accuracy", ["score"]),
        (lambda fitted, X, y: 0.5, ["score"]),
        (["accuracy", "f1"], ["accuracy", "f1"]),
        ({"a": "accuracy", "b": make_scorer(lambda y, predicted: 0.5)}, ["a", "b"]),
    ],
)
def test_whatever_a_search_takes_as_its_scoring(scoring, keys):
    plain = cross_validate(Trained(), X, Y, cv=2, scoring=scoring)
    found = cross_validate(Trained(), X, Y, cv=2, scoring=search_scoring(scoring))
    assert [name for name in found if name.startswith("test_")] == [f"test_{name}" for name in (*keys, *COLUMNS)]
    for name in keys:
        np.testing.assert_array_equal(found[f"test_{name}"], plain[f"test_{name}"])


PLACES = {
    "pipeline": make_pipeline(FunctionTransformer(), make_pipeline(FunctionTransformer(), Trained(3))),
    "one vs rest": OneVsRestClassifier(Trained(3)),
    "voting": VotingClassifier([("a", Trained(3)), ("b", LogisticRegression())], voting="soft"),
    "stacking": StackingClassifier([("a", Trained(3))], LogisticRegression(), cv=2),
    "calibrated": CalibratedClassifierCV(Trained(3), cv=2),
    "union": make_pipeline(FeatureUnion([("a", Trained(3))]), LogisticRegression()),
    "columns": make_pipeline(make_column_transformer((Trained(3), [0])), LogisticRegression()),
    "frozen": FrozenEstimator(Trained(3).fit(X, Y)),
    "search": GridSearchCV(Trained(), {"max_epochs": [3]}, cv=2),
    "target": TransformedTargetRegressor(TrainedRegressor(3)),
}


@pytest.mark.parametrize("place", PLACES)
def test_wherever_the_trained_estimator_is(place):
    fitted = clone(PLACES[place]).fit(X, Y)
    found = search_scoring()(fitted, X, Y)
    assert [found[name] for name in COLUMNS] == [3, pytest.approx(0.5 / 3), 0] and found["score"] == fitted.score(X, Y)


def test_of_several_and_of_none():
    several = VotingClassifier([("a", Trained(3)), ("b", Trained(1, 0.01))], voting="soft").fit(X, Y)
    found = search_scoring()(several, X, Y)
    assert [found[name] for name in COLUMNS] == [3, pytest.approx((0.5 / 3 + 0.01) / 2), 1]
    found = search_scoring()(LogisticRegression().fit(X, Y), X, Y)
    assert all(np.isnan(found[name]) for name in COLUMNS)


def weighted(y, predicted, sample_weight=None):
    return -1.0 if sample_weight is None else float(np.sum(sample_weight))


SCORINGS = [None, "accuracy", make_scorer(weighted), {"a": make_scorer(weighted), "b": "neg_max_error"}]


@pytest.mark.parametrize("scoring", SCORINGS)
@pytest.mark.filterwarnings("ignore:The scoring b=make_scorer")  # which takes no weights
def test_weights_reach_the_score_as_without_it(scoring):
    weights = np.arange(24.0)
    refit = "a" if isinstance(scoring, dict) else True
    plain = GridSearchCV(Trained(), {"rate": [0.5]}, scoring=scoring, refit=refit, cv=2)
    plain.fit(X, Y, sample_weight=weights)
    found = GridSearchCV(Trained(), {"rate": [0.5]}, scoring=search_scoring(scoring), refit=False, cv=2)
    found.fit(X, Y, sample_weight=weights)
    name = f"mean_test_{'a' if refit == 'a' else 'score'}"
    assert found.cv_results_[name] == plain.cv_results_[name]


def test_weights_that_the_scorer_takes_not():
    search = GridSearchCV(Trained(), {"rate": [0.5]}, scoring=search_scoring("neg_max_error"), refit=False, cv=2)
    with pytest.warns(
        UserWarning, match=r"The scoring search_scoring\('neg_max_error'\) does not support sample_weight"
    ):
        search.fit(X, Y, sample_weight=np.ones(24))
    assert search_scoring("neg_max_error")(Trained().fit(X, Y), X, Y, sample_weight=np.ones(24))["score"] == -1


def test_metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = make_scorer(weighted).set_score_request(sample_weight=True)
        trained = Trained().set_fit_request(sample_weight=False)
        params = {"params": {"sample_weight": np.ones(24)}}
        assert cross_validate(trained, X, Y, cv=2, scoring=search_scoring(scorer), **params)["test_score"].tolist() == [
            12,
            12,
        ]
        plain = make_scorer(weighted).set_score_request(sample_weight=False)
        trained.set_fit_request(sample_weight=True)
        assert cross_validate(trained, X, Y, cv=2, scoring=search_scoring(plain), **params)["test_score"].tolist() == [
            -1,
            -1,
        ]
        assert cross_validate(trained, X, Y, cv=2, scoring=search_scoring(), **params)["test_score"].tolist() == [
            0.5,
            0.5,
        ]


def test_it_can_be_pickled_and_printed():
    scoring = pickle.loads(pickle.dumps(search_scoring("accuracy")))
    assert scoring(Trained().fit(X, Y), X, Y) == {"score": 0.5, "n_epochs": 1, "final_loss": 0.5, "collapsed": 0}
    assert repr(scoring) == "search_scoring('accuracy')" and repr(search_scoring()) == "search_scoring()"


def test_what_is_no_scoring_is_refused_at_once():
    with pytest.raises(ValueError, match="scoring='acuracy' is no scorer of scikit-learn: did you mean 'accuracy'"):
        search_scoring("acuracy")
    with pytest.raises(ValueError, match="scoring names a scorer 'n_epochs'"):
        search_scoring({"n_epochs": "accuracy"})
