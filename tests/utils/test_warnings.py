"""A kind of warning is given once per call that the user makes, whatever runs inside that call."""

import threading
import warnings
import weakref

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxlmr import TruncationWarning
from skxlmr.utils._warnings import outside_stacklevel, warn_once_per_call

X, Y = np.arange(24.0)[:, None], np.arange(24) % 2


class Cutting(ClassifierMixin, BaseEstimator):
    """Warns in fit and in predict."""

    def __init__(self, a=0):
        self.a = a

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        warn_once_per_call(f"{len(X)} texts", TruncationWarning, part=" (of a part)")
        return self

    def predict(self, X):
        warn_once_per_call(f"{len(X)} texts", TruncationWarning)
        return np.zeros(len(X), dtype=int)


def search(**options):
    return GridSearchCV(Cutting(), {"a": [1, 2, 3]}, cv=3, **options)


def said_in(call):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        call()
    return said


@pytest.mark.parametrize(
    "call",
    [
        lambda: search().fit(X, Y),
        lambda: cross_val_score(search(), X, Y, cv=2),
        lambda: cross_val_predict(make_pipeline(FunctionTransformer(), Cutting()), X, Y),
    ],
    ids=["search", "nested search", "pipeline"],
)
def test_one_warning_for_all_fits_and_predictions_of_a_call(call):
    (said,) = said_in(call)
    assert said.filename == __file__ and said.category is TruncationWarning
    assert str(said.message).endswith(" texts (of a part)")


@pytest.mark.parametrize("nested", [False, True])
def test_threads_of_a_call_share_it(nested):
    estimator = search(n_jobs=2) if nested else Cutting()
    with joblib.parallel_config("threading", n_jobs=2):
        assert len(said_in(lambda: cross_val_score(estimator, X, Y, cv=4))) == 1


def test_threads_of_the_user_are_calls_of_their_own():
    fitted = search()
    said_in(lambda: fitted.fit(X, Y))

    def predict_in_threads():
        threads = [threading.Thread(target=fitted.predict, args=(X,)) for _ in range(3)]
        for thread in threads:
            thread.start()
            thread.join()

    assert len(said_in(predict_in_threads)) == 3


def test_each_call_of_a_loop_warns():
    fitted = clone(search())
    with pytest.warns(TruncationWarning):
        fitted.fit(X, Y)

    def loop():
        for _ in range(5):
            fitted.predict(X)

    said = said_in(loop)
    assert [str(one.message) for one in said] == ["24 texts"] * 5  # all of them, so nothing is added


def test_kinds_are_told_apart():
    def say(X):
        for about in ("texts", "dialogues", "texts"):
            warn_once_per_call(about, TruncationWarning, about=about)
            warn_once_per_call(about, about=about)
        return X

    said = said_in(lambda: FunctionTransformer(say).transform(X))
    assert [(one.category, str(one.message)) for one in said] == [
        (TruncationWarning, "texts"), (UserWarning, "texts"), (TruncationWarning, "dialogues"), (UserWarning, "dialogues")
    ]  # fmt: skip


def test_a_warning_that_is_an_error_stops_every_fold():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="Scoring failed|One or more")
        with pytest.raises(ValueError, match="All the 9 fits failed"):
            search().fit(X, Y)


def test_what_is_remembered_ends_with_the_call():
    class Rows(np.ndarray):
        pass

    def say(rows):
        warn_once_per_call("cut", TruncationWarning)
        return rows + 1

    rows = [X.view(Rows).copy()]
    alive = weakref.ref(rows[0])
    assert len(said_in(lambda: FunctionTransformer(say).transform(rows.pop()))) == 1
    assert alive() is None


def test_filters_are_left_as_found():
    before = list(warnings.filters)
    with pytest.warns(TruncationWarning):
        search().fit(X, Y)
    assert warnings.filters == before


def test_other_warnings_point_to_the_users_line_too():
    def say(X):
        warnings.warn("here", UserWarning, stacklevel=outside_stacklevel())
        return X

    (said,) = said_in(lambda: joblib.Parallel(1)([joblib.delayed(FunctionTransformer(say).transform)(X)]))
    assert said.filename.endswith("parallel.py")
    (said,) = said_in(lambda: make_pipeline(FunctionTransformer(say), FunctionTransformer()).fit(X))
    assert said.filename == __file__
