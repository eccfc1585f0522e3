"""Searches and everything around them encode each text once: rows are counted where the encoder runs, not timed."""

import json
import os
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.ensemble import StackingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_predict,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skxlmr import XLMRobertaVectorizer, cache_info
from skxlmr.datasets import load_reviews
from tests.processes import run as run_process

CANDIDATES = {"logisticregression__C": np.logspace(-3, 2, 12)}
COUNTER = "SKXLMR_TEST_ROWS_FILE"


@pytest.fixture(autouse=True)
def _cache(with_cache):
    """All tests here are with the cache."""


@pytest.fixture(scope="module")
def reviews():
    """Distinct texts in several languages, and three classes."""
    found = load_reviews().frame.drop_duplicates("review").head(60)
    return found["review"].tolist(), found["sentiment"].to_numpy()


class CountingVectorizer(XLMRobertaVectorizer):
    """Appends to a file how many rows go through the encoder, in whichever process."""

    def _engine(self, validate=True):
        engine = super()._engine(validate)
        run = engine._run

        def counting(encoded, *rest):
            with open(os.environ[COUNTER], "a") as file:
                file.write(f"{len(encoded)}\n")
            return run(encoded, *rest)

        engine._run = counting
        return engine


@pytest.fixture
def rows_of_all_processes(tmp_path, monkeypatch):
    """Counts rows that instances of the counting class encode, in processes that start after this."""
    get_reusable_executor().shutdown(wait=True)  # workers of earlier tests would serve again
    file = tmp_path / "rows"
    file.touch()
    monkeypatch.setenv(COUNTER, str(file))
    return lambda: sum(map(int, file.read_text().split()))


def vectorizer(cls=XLMRobertaVectorizer, **params):
    return cls("skxlmr-mini", device="cpu", **params)


def pipeline(encoder):
    return make_pipeline(encoder, StandardScaler(), LogisticRegression(max_iter=20, tol=0.1))


def search(encoder, candidates=CANDIDATES, cv=5, **params):
    return GridSearchCV(pipeline(encoder), candidates, cv=cv, error_score="raise", **params)


def few(encoder, **params):
    return search(encoder, {"logisticregression__C": [0.01, 1.0]}, cv=3, **params)


pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


# In one process -------------------------------------------------------------------------------------------------------


def test_search_in_the_process(reviews, computed):
    X, _ = reviews
    found = search(vectorizer()).fit(*reviews)
    assert sum(computed) == len(X) == cache_info().entries
    found.predict(X), found.score(*reviews)
    cross_validate(found.best_estimator_, *reviews)
    assert sum(computed) == len(X)


def test_scores_and_predictions_are_those_without_memory(reviews, computed):
    X, _ = reviews
    kept, every_time = few(vectorizer()).fit(*reviews), few(vectorizer(memory=None)).fit(*reviews)
    assert sum(computed) == len(X) + 2 * 3 * len(X) + len(X)  # once, and each time: two candidates, three folds, refit
    for name in ("mean_test_score", "split0_test_score", "split2_test_score"):
        assert np.array_equal(kept.cv_results_[name], every_time.cv_results_[name])
    assert np.array_equal(kept.predict(X), every_time.predict(X))


def test_threads(reviews, computed):
    with joblib.parallel_config(backend="threading", n_jobs=2):
        few(vectorizer()).fit(*reviews)
    assert sum(computed) == len(reviews[0])


def test_texts_that_are_new(reviews, computed):
    X, y = reviews
    few(vectorizer()).fit(X[:40], y[:40])
    few(vectorizer()).fit(X, y)
    assert sum(computed) == len(X)


@pytest.fixture
def topics(shared_data):
    """2,000 distinct texts in 16 languages, and seven classes."""
    lines = (shared_data / "seqclass" / "sib200_topics.jsonl").read_text(encoding="utf-8").splitlines()
    rows = list({row["text"]: row for row in map(json.loads, lines)}.values())[:2000]
    return [row["text"] for row in rows], [row["label"] for row in rows]


@pytest.mark.slow
def test_real_texts(topics, computed):
    X, y = topics
    encoder = vectorizer()
    n_distinct = len({tuple(ids) for ids in distinct_ids(encoder, X)})
    search(encoder).fit(X, y)
    assert len(X) == 2000 and sum(computed) == n_distinct


@pytest.mark.slow
def test_real_texts_in_workers(topics, tmp_path, rows_of_all_processes):
    X, y = topics
    encoder = vectorizer(CountingVectorizer, memory=tmp_path / "cache")
    n_distinct = len({tuple(ids) for ids in distinct_ids(encoder, X)})
    search(encoder, n_jobs=2).fit(X, y)
    assert rows_of_all_processes() == n_distinct == cache_info(tmp_path / "cache").encoded
    done = run_process(validate_elsewhere, tmp_path / "cache", X, y, **{COUNTER: os.environ[COUNTER]})
    assert done.exit_code == 0, done.stderr
    assert rows_of_all_processes() == n_distinct


def distinct_ids(encoder, texts):
    encoded = clone(encoder).fit(texts[:1])._encode(encoder._check_X(texts, reset=True))
    return [encoded.row(i).tolist() for i in range(len(encoded))]


# Over processes, with a folder ----------------------------------------------------------------------------------------


def test_workers_and_later_processes_share_a_folder(reviews, tmp_path, rows_of_all_processes):
    X, y = reviews
    folder = tmp_path / "cache"
    with joblib.parallel_config(
        backend="multiprocessing", n_jobs=2
    ):  # starts sooner than loky; the slow test has that one
        found = few(vectorizer(CountingVectorizer, memory=folder)).fit(X, y)
    assert rows_of_all_processes() == len(X) == cache_info(folder).encoded
    done = run_process(validate_elsewhere, folder, X, y, **{COUNTER: os.environ[COUNTER]})
    assert done.exit_code == 0, done.stderr
    assert rows_of_all_processes() == len(X) == cache_info(folder).encoded
    scores = json.loads(done.stdout)
    best = found.best_estimator_.set_params(logisticregression__C=100.0)
    assert scores == cross_validate(best, X, y, cv=2)["test_score"].tolist()
    in_process = few(vectorizer()).fit(X, y)
    assert np.array_equal(found.cv_results_["mean_test_score"], in_process.cv_results_["mean_test_score"])


def validate_elsewhere(folder, X, y):
    best = pipeline(vectorizer(CountingVectorizer, memory=folder)).set_params(logisticregression__C=100.0)
    print(json.dumps(cross_validate(best, X, y, cv=2, error_score="raise")["test_score"].tolist()))


def test_joblib_memory_and_a_path_are_folders(reviews, tmp_path, computed):
    X, y = reviews
    few(vectorizer(memory=joblib.Memory(tmp_path, verbose=0))).fit(X, y)
    few(vectorizer(memory=Path(tmp_path, "skxlmr"))).fit(X, y)
    assert sum(computed) == len(X)


# In other estimators --------------------------------------------------------------------------------------------------


def in_columns(encoder):
    columns = ColumnTransformer([("text", encoder, "review"), ("length", "passthrough", ["length"])])
    return make_pipeline(columns, StandardScaler(), LogisticRegression(max_iter=20))


def in_a_union(encoder):
    union = FeatureUnion([("all", encoder), ("some", make_pipeline(clone(encoder), PCA(5)))])
    texts = FunctionTransformer(lambda frame: frame["review"].tolist())
    return make_pipeline(texts, union, LogisticRegression(max_iter=20))


def in_skrub(encoder):
    skrub = pytest.importorskip("skrub")
    return make_pipeline(
        skrub.TableVectorizer(cardinality_threshold=0, high_cardinality=encoder), LogisticRegression(max_iter=20)
    )


def in_a_stack(encoder):
    column = FunctionTransformer(lambda frame: frame["review"].tolist())
    members = [(str(C), make_pipeline(column, clone(encoder), LogisticRegression(C=C, max_iter=20))) for C in (0.1, 1)]
    return StackingClassifier(members, LogisticRegression(), cv=2)


def in_calibration(encoder):
    column = FunctionTransformer(lambda frame: frame["review"].tolist())
    return CalibratedClassifierCV(make_pipeline(column, encoder, LogisticRegression(max_iter=20)), cv=2)


@pytest.mark.parametrize("around", [in_columns, in_a_union, in_skrub, in_a_stack, in_calibration])
def test_inside_another_estimator(reviews, computed, around):
    X, y = reviews
    frame = pd.DataFrame({"review": X, "length": [float(len(text)) for text in X]})
    params = {"pairs": False} if around is in_skrub else {}
    scores = cross_validate(around(vectorizer(**params)), frame, y, cv=2, error_score="raise")["test_score"]
    fitted = around(vectorizer(**params)).fit(frame, y)
    assert sum(computed) == len(X)
    every_time = around(vectorizer(memory=None, **params))
    assert np.array_equal(scores, cross_validate(every_time, frame, y, cv=2, error_score="raise")["test_score"])
    assert np.array_equal(fitted.predict(frame), every_time.fit(frame, y).predict(frame))


def test_another_classifier(reviews, computed):
    X, y = reviews
    model = pipeline(vectorizer()).fit(X, y)
    for C in (0.1, 10):
        model.set_params(logisticregression__C=C).fit(X, y).predict(X)
    cross_val_predict(model, X, y, cv=3)
    learning_curve(model, X, y, cv=3, train_sizes=[0.5, 1.0])
    assert sum(computed) == len(X)


def test_halving(reviews, computed):
    X, y = reviews
    halving = HalvingGridSearchCV(
        pipeline(vectorizer()), {"logisticregression__C": [0.01, 0.1, 1]}, cv=2, random_state=0, error_score="raise"
    )
    halving.fit(X, y)
    assert sum(computed) == len(X)
