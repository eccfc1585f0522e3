"""Texts next to other columns: scikit-learn's ColumnTransformer with frames all the way, and skrub's TableVectorizer."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import skrub
from sklearn import get_config, set_config
from sklearn.compose import make_column_transformer
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from skxlmr import XLMRobertaVectorizer
from tests.estimators.conftest import LANGUAGES
from tests.tiny import sentences


def mixed(n, seed):
    """A text, a category and a number; the class is "yes" where at least two of them speak for it."""
    rng = np.random.default_rng(seed)
    kind, amount = rng.choice(["letter", "mail"], n), rng.normal(size=n)
    frame = pd.DataFrame({"text": sentences(n, seed), "kind": kind, "amount": amount}, index=np.arange(n) * 7 + 3)
    votes = np.isin(LANGUAGES[np.arange(n) % 4], ["de", "en"]).astype(int) + (kind == "mail") + (amount > 0)
    return frame, np.where(votes >= 2, "yes", "no")


@pytest.fixture(scope="module")
def table():
    return mixed(320, 0)


@pytest.fixture(scope="module")
def new_table():
    return mixed(80, 1)


@pytest.fixture
def vectorizer():
    return XLMRobertaVectorizer("skxlmr-mini", dtype="float32")


@pytest.fixture
def frames_out():
    """Every transformer returns a DataFrame."""
    before = get_config()["transform_output"]
    set_config(transform_output="pandas")
    yield
    set_config(transform_output=before)


def importances(pipeline, frame, y):
    found = permutation_importance(pipeline, frame, y, n_repeats=2, random_state=0).importances_mean
    return dict(zip(frame.columns, found, strict=True))


# scikit-learn ---------------------------------------------------------------------------------------------------------


def test_a_mixed_table_from_end_to_end(frames_out, vectorizer, table, new_table):
    columns = make_column_transformer(
        (vectorizer, "text"),
        (OneHotEncoder(sparse_output=False), ["kind"]),
        (StandardScaler(), ["amount"]),
        verbose_feature_names_out=False,
    )
    pipeline = make_pipeline(columns, StandardScaler(), LogisticRegression(C=0.1, max_iter=1000)).fit(*table)
    features = pipeline[:-1].transform(new_table[0])
    expected = [*(f"text_{i}" for i in range(192)), "kind_letter", "kind_mail", "amount"]
    assert isinstance(features, pd.DataFrame) and features.columns.tolist() == expected
    assert features.index.tolist() == new_table[0].index.tolist()
    assert pipeline[-1].feature_names_in_.tolist() == expected
    assert set(pipeline[0].transform(new_table[0]).filter(like="text_").dtypes) == {np.dtype("float32")}
    assert pipeline.score(*new_table) > 0.8  # no column alone gets beyond 0.75
    assert min(importances(pipeline, *new_table).values()) > 0.05
    shuffled = new_table[0].sample(frac=1, random_state=0)
    np.testing.assert_array_equal(
        pipeline.predict(shuffled), pd.Series(pipeline.predict(new_table[0]), new_table[0].index)[shuffled.index]
    )


def test_folds_of_a_mixed_table(frames_out, vectorizer, table):
    columns = make_column_transformer(
        (vectorizer, ["text"]), (OneHotEncoder(sparse_output=False), ["kind"]), remainder="passthrough"
    )
    pipeline = make_pipeline(columns, StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
    assert cross_val_score(pipeline, *table, cv=3, error_score="raise").mean() > 0.75


# skrub ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_column_of_a_table_vectorizer(vectorizer, table, library):
    frame = table[0] if library == "pandas" else pl.from_pandas(table[0])
    whole = skrub.TableVectorizer(high_cardinality=vectorizer, cardinality_threshold=10)
    features = whole.fit_transform(frame)
    assert type(features) is type(frame)
    assert [name for name in features.columns if name.startswith("text")] == [f"text_{i}" for i in range(192)]
    expected = vectorizer.fit(frame["text"]).transform(frame["text"])
    np.testing.assert_array_equal(features[[f"text_{i}" for i in range(192)]].to_numpy(), expected)
    assert whole.get_feature_names_out().tolist() == list(features.columns)
    np.testing.assert_allclose(whole.transform(frame[:5]).to_numpy(), features[:5].to_numpy(), atol=1e-5)
    assert isinstance(whole.transformers_["text"], XLMRobertaVectorizer)
    if library == "pandas":
        assert features.index.tolist() == frame.index.tolist()


def test_each_text_column_has_its_features(vectorizer, table):
    frame = table[0].assign(kind=table[0]["text"].str[::-1])[["text", "kind"]]
    features = skrub.TableVectorizer(low_cardinality=vectorizer, cardinality_threshold=1000).fit_transform(frame)
    assert features.shape == (320, 384)  # not one vector for both, as pairs would have
    np.testing.assert_allclose(
        features.filter(like="kind_").to_numpy(), vectorizer.fit_transform(frame["kind"]), atol=1e-5
    )


def test_pipeline_of_a_table(vectorizer, table, new_table):
    pipeline = skrub.tabular_pipeline(LogisticRegression(C=0.1, max_iter=1000))
    pipeline.set_params(tablevectorizer__high_cardinality=vectorizer).fit(*table)
    assert pipeline.score(*new_table) > 0.8
    assert min(importances(pipeline, *new_table).values()) > 0.05
    trees = skrub.tabular_pipeline("classifier").set_params(tablevectorizer__high_cardinality=vectorizer).fit(*table)
    assert trees.score(*new_table) > 0.75 and importances(trees, *new_table)["text"] > 0.05


def test_missing_texts_of_a_table(vectorizer, table):
    frame = table[0].copy()
    frame.iloc[3, 0] = None
    with pytest.raises(ValueError, match=r"X row 3: expected a text, got (NaN|None)"):
        skrub.TableVectorizer(high_cardinality=vectorizer, cardinality_threshold=10).fit(frame)
    filled = make_pipeline(FunctionTransformer(lambda column: column.fillna("")), vectorizer)
    features = skrub.TableVectorizer(high_cardinality=filled, cardinality_threshold=10).fit_transform(frame)
    expected = vectorizer.fit_transform(frame["text"].fillna(""))
    np.testing.assert_allclose(features.filter(like="text_").to_numpy(), expected, atol=1e-5)
    vectorizer.set_params(missing="empty")
    features = skrub.TableVectorizer(high_cardinality=vectorizer, cardinality_threshold=10).fit_transform(frame)
    np.testing.assert_allclose(features.filter(like="text_").to_numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_texts_that_cleaning_makes_missing(vectorizer, table, library):
    frame, y = table
    pipeline = skrub.tabular_pipeline(LogisticRegression(C=0.1, max_iter=1000))
    pipeline.set_params(tablevectorizer__high_cardinality=vectorizer.set_params(missing="empty"))
    as_library = pl.from_pandas if library == "polars" else pd.DataFrame
    pipeline.fit(as_library(frame[:100]), y[:100])
    later = frame[100:103].copy()
    later["text"] = ["", "N/A", "a text"]  # skrub's Cleaner makes the first two null
    assert pipeline.predict(as_library(later)).shape == (3,)
    pipeline.set_params(tablevectorizer__high_cardinality__missing="error")
    with pytest.raises(ValueError, match=r"X row 0: expected a text, got (None|NaN)"):
        pipeline[0].transformers_["text"].set_params(missing="error").transform(
            skrub.Cleaner().fit_transform(as_library(later[["text"]]))["text"]
        )


def test_columns_apart_or_as_pairs(vectorizer, table):
    frame = table[0][:20].assign(back=table[0]["text"].str[::-1])[["text", "back", "amount"]]
    texts = frame[["text", "back"]]
    assert skrub.ApplyToCols(vectorizer).fit_transform(texts).shape == (20, 192)
    apart = vectorizer.set_params(pairs=False)
    expected = np.hstack([vectorizer.fit_transform(frame[name]) for name in texts])
    features = skrub.ApplyToCols(apart).fit_transform(texts)
    np.testing.assert_allclose(features.to_numpy(), expected, atol=1e-5)
    assert features.columns[[0, -1]].tolist() == ["text_0", "back_191"]
    applied = skrub.var("frame", texts).skb.apply(apart).skb.preview()
    np.testing.assert_allclose(applied.to_numpy(), expected, atol=1e-5)
    with pytest.raises(ValueError, match="the column holds no texts"):
        skrub.ApplyToCols(apart).fit_transform(frame)
    with_numbers = skrub.ApplyToCols(apart, allow_reject=True).fit_transform(frame)
    assert with_numbers.shape == (20, 385) and with_numbers["amount"].tolist() == frame["amount"].tolist()
