"""The classifier: labels, probabilities, class weights, and scikit-learn's tools around it with real fits."""

import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from scipy.special import softmax
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxlmr import XLMRobertaClassifier
from skxlmr.estimators._sequence.targets import ManyColumns, OneClass, weights_of_classes
from tests.estimators.conftest import LEARNS, differing, padded, weights_of

LABELS = {
    "str": ["no", "yes"],
    "int": [3, -1],
    "bool": [True, False],
    "object": np.array(["ja", "nein"], dtype=object),
    "float": [0.0, 2.0],
    "three str": ["c", "bb", "aaa"],
    "three int": [7, 0, 2],
    "three object": np.array(["ναι", "όχι", "ίσως"], dtype=object),
}


@pytest.fixture(scope="module")
def fitted(make, texts, languages):
    return make(XLMRobertaClassifier, max_epochs=2).fit(texts, languages)


@pytest.mark.parametrize("labels", LABELS.values(), ids=LABELS)
def test_any_labels(make, texts, labels):
    y = np.asarray(labels)[np.arange(24) % len(labels)]
    classifier = make(XLMRobertaClassifier).fit(texts[:24], y)
    assert classifier.classes_.dtype == y.dtype and classifier.classes_.tolist() == sorted(set(y.tolist()))
    predicted, probabilities = classifier.predict(texts), classifier.predict_proba(texts)
    assert predicted.dtype == y.dtype and set(predicted.tolist()) <= set(y.tolist())
    np.testing.assert_array_equal(predicted, classifier.classes_[probabilities.argmax(1)])
    assert probabilities.shape == (48, len(labels)) and probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(np.log(probabilities), classifier.predict_log_proba(texts), atol=1e-5)
    scores = classifier.decision_function(texts)
    if len(labels) == 2:
        assert scores.shape == (48,)
        np.testing.assert_array_equal(classifier.classes_[(scores > 0).astype(int)], predicted)
        np.testing.assert_allclose(1 / (1 + np.exp(-scores)), probabilities[:, 1], atol=1e-6)
    else:
        assert scores.shape == (48, len(labels))
        np.testing.assert_allclose(softmax(scores, axis=1), probabilities, atol=1e-6)


@pytest.mark.parametrize(
    "container",
    [
        list,
        tuple,
        pd.Series,
        lambda y: pd.Series(y, index=range(100, 148)),
        lambda y: pd.Series(y, dtype="string"),
        lambda y: pd.Series(y, dtype="category"),
        lambda y: np.array(y, dtype=object),
        lambda y: np.array(y, dtype=np.dtypes.StringDType()),
        lambda y: [np.str_(label) if i % 3 else label for i, label in enumerate(y)],
        pl.Series,
        lambda y: pl.Series(y, dtype=pl.Categorical),
        pa.array,
    ],
    ids=[
        *("list", "tuple", "Series", "odd index", "string", "category", "object", "StringDType", "str_ among str"),
        *("polars", "polars category", "arrow"),
    ],
)
def test_any_container_of_labels(make, fitted, texts, languages, container):
    classifier = make(XLMRobertaClassifier, max_epochs=2).fit(texts, container(languages.tolist()))
    assert classifier.classes_.tolist() == fitted.classes_.tolist()
    np.testing.assert_array_equal(classifier.predict_proba(texts), fitted.predict_proba(texts))
    assert classifier.predict(texts).tolist() == fitted.predict(texts).tolist()


@pytest.mark.parametrize(("dtype", "kind"), [("boolean", "b"), ("Int64", "i"), ("int64[pyarrow]", "i")])
def test_labels_of_nullable_dtypes_keep_their_type(make, texts, dtype, kind):
    y = pd.Series([0, 1] * 24, dtype=dtype, index=range(7, 55))
    classifier = make(XLMRobertaClassifier).fit(texts, y)
    assert classifier.classes_.dtype.kind == classifier.predict(texts).dtype.kind == kind
    assert classifier.score(texts, y) == np.mean(classifier.predict(texts) == y.to_numpy())


def test_column_vector_warns_as_everywhere_in_scikit_learn(make, texts, languages):
    from sklearn.exceptions import DataConversionWarning

    with pytest.warns(DataConversionWarning, match="column-vector y"):
        make(XLMRobertaClassifier).fit(texts, languages[:, None])
    with pytest.warns(DataConversionWarning, match="column-vector y") as record:
        cross_val_score(make(XLMRobertaClassifier), texts, languages[:, None], cv=2)
    assert [each.filename for each in record] == [__file__]  # once, and for this line


def test_learns_a_separable_task(make, many):
    X, y = many
    classifier = make(XLMRobertaClassifier, **LEARNS).fit(X[:96], y[:96])
    assert classifier.score(X[96:], y[96:]) >= 0.8
    assert classifier.loss_curve_[-1] < 0.6 * classifier.loss_curve_[0]
    assert classifier.n_iter_ == len(classifier.loss_curve_) == 5 and classifier.validation_scores_ is None


def test_order_batch_and_neighbours_do_not_matter(fitted, texts):
    scores = fitted.decision_function(texts)
    order = np.random.default_rng(0).permutation(len(texts))
    np.testing.assert_allclose(fitted.decision_function([texts[i] for i in order]), scores[order], atol=1e-5)
    np.testing.assert_allclose(fitted.decision_function(texts[7:8]), scores[7:8], atol=1e-5)
    one = copy.deepcopy(fitted).set_params(batch_size=1)
    np.testing.assert_allclose(one.decision_function(texts), scores, atol=1e-5)
    np.testing.assert_allclose(fitted.decision_function([texts[0]] * 3), np.repeat(scores[:1], 3, 0), atol=1e-5)


def test_pairs(make, texts):
    pairs = list(zip(texts, texts[1:] + texts[:1], strict=True))
    same = [(text, text) for text in texts]
    y = ["other"] * len(pairs) + ["same"] * len(same)
    classifier = make(XLMRobertaClassifier, max_epochs=1).fit(pairs + same, y)
    frame = pd.DataFrame(pairs + same, columns=["a", "b"])
    probabilities = classifier.predict_proba(pairs + same)
    np.testing.assert_array_equal(classifier.predict_proba(frame.to_numpy()), probabilities)
    swapped = classifier.predict_proba([pair[::-1] for pair in pairs])
    assert np.abs(swapped - probabilities[: len(pairs)]).max() > 1e-4  # the order within a pair counts
    assert classifier.n_features_in_ == 2


# Weights --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("class_weight", ["balanced", {"rare": 9.0}, {"rare": 4.5, "often": 0.5}], ids=str)
def test_class_weight_multiplies_the_weights_of_rows(make, still_checkpoint, texts, class_weight):
    y = np.array(["often"] * 36 + ["rare"] * 4)
    plain, weighted, by_hand = (
        make(XLMRobertaClassifier, still_checkpoint, batch_size=40, max_epochs=3, class_weight=weight)
        for weight in (None, class_weight, None)
    )
    plain.fit(texts[:40], y)
    weighted.fit(texts[:40], y)
    # the loss is a weighted mean, so that only the ratio of the weights counts
    by_hand.fit(texts[:40], y, sample_weight=np.where(y == "rare", 9.0, 1.0))
    assert weighted.predict_proba(texts)[:, 1].mean() > plain.predict_proba(texts)[:, 1].mean() + 0.02
    np.testing.assert_allclose(weighted.predict_proba(texts), by_hand.predict_proba(texts), atol=1e-4)


def test_balanced_where_all_rows_of_a_class_weigh_nothing(make, still_checkpoint, texts, languages):
    """As if these rows had not been passed, and without a division by zero."""
    weights, kept = np.where(languages == "ru", 0.0, 1.0), languages != "ru"
    balanced = make(
        XLMRobertaClassifier, still_checkpoint, class_weight="balanced", warm_start=True, learning_rate=1e-9
    )
    balanced.fit(texts, languages)
    weighted = balanced.fit(texts, languages, sample_weight=weights).loss_curve_
    alone = balanced.fit([texts[i] for i in np.flatnonzero(kept)], languages[kept]).loss_curve_
    assert weighted == pytest.approx(alone, abs=1e-5)


def test_class_weight_of_an_unknown_class(make, texts, languages):
    with pytest.raises(ValueError, match=r"The classes, \['el', 'en', 'ru'\], are not in class_weight"):
        make(XLMRobertaClassifier, class_weight={"xx": 2.0, "de": 1.0}).fit(texts, languages)


@pytest.mark.parametrize(
    ("classes", "class_weight", "expected"),
    [
        (["1", "02", "x"], {"1": 2.0, "02": 3.0, "x": 1.0}, [2, 3, 1]),
        (["1", "2", "-3"], {1: 2.0, "2": 3.0, -3: 4.0}, [2, 3, 4]),  # numbers too, as in scikit-learn
        (["1", "2", "x"], {"2": 3.0}, [1, 3, 1]),
        (np.array(["2020", "2021"], "M8[D]"), {np.datetime64("2020-01-01", "D"): 2.0}, [2, 1]),
    ],
)
def test_class_weight_of_digits_and_dates(classes, class_weight, expected):
    found = weights_of_classes(class_weight, np.array(classes), np.arange(len(classes)), np.ones(len(classes)))
    np.testing.assert_array_equal(found, expected)


def test_dates_in_another_unit_are_the_same_classes(make, texts):
    days = np.array(["2020-01-01", "2020-01-02"], "M8[D]")[np.arange(48) % 2]
    for y in (days, days - days[0]):
        fine, kind = y.astype(f"{y.dtype.kind}8[ns]"), y.dtype.kind
        for known, later in ((y, fine), (fine, y)):
            targets = OneClass(np.unique(known))
            np.testing.assert_array_equal(targets.encode(later, "y"), np.arange(48) % 2)
        with pytest.raises(ValueError, match=rf"y row 1: label np.{'date' if kind == 'M' else 'time'}.* is not among"):
            OneClass(np.unique(y)).encode(fine + np.arange(48).astype("m8[ns]"), "y")
    far = np.array(["3000-01-01"], "M8[D]")  # nanoseconds do not reach as far
    with pytest.raises(ValueError, match=r"y row 0: label np.datetime64.'3000-01-01'. is not among the classes"):
        OneClass(np.unique(far.astype("M8[ns]"))).encode(far, "y")
    classifier = make(XLMRobertaClassifier, warm_start=True, early_stopping=True)
    classifier.fit(texts, days.astype("M8[ns]"), X_val=texts[:8], y_val=days[:8]).fit(texts, days)
    assert classifier.classes_.dtype == "M8[ns]"


def test_dates_beside_another_column(make, texts, languages):
    days = np.array(["2020-01-01", "2020-01-02"], "M8[D]")
    for dates in (days, days.astype("M8[ns]"), days.astype("M8[ns]") - days[0]):
        predicted = ManyColumns([dates, np.array(["a", "b"])]).label(np.array([[1, 0], [0, 1]]))
        assert predicted.tolist() == [[dates[1], "a"], [dates[0], "b"]]
        assert {type(label) for label in predicted[:, 0]} == {dates.dtype.type}
    y = pd.DataFrame({"day": days.astype("M8[ns]")[np.arange(48) % 2], "language": languages})
    classifier = make(XLMRobertaClassifier).fit(texts, y)
    predicted = pd.DataFrame(classifier.predict(texts), columns=y.columns).infer_objects()
    assert predicted["day"].dtype == "M8[ns]"
    assert classifier.score(texts, predicted) == 1


def test_balanced_counts_the_weights_of_rows(make, texts):
    """Classes whose rows weigh the same together are balanced, however many rows they have."""
    y = np.array(["often"] * 36 + ["rare"] * 4)
    balanced, plain = (
        make(XLMRobertaClassifier, class_weight=weight).fit(texts[:40], y, np.where(y == "rare", 9.0, 1.0))
        for weight in ("balanced", None)
    )
    np.testing.assert_allclose(balanced.predict_proba(texts), plain.predict_proba(texts), atol=1e-6)


@pytest.mark.parametrize("weight", [-1.0, np.nan, np.inf])
def test_invalid_class_weight(make, texts, languages, weight):
    with pytest.raises(ValueError, match=r"class_weight must hold finite weights of 0 or more, got \{'de': "):
        make(XLMRobertaClassifier, class_weight={"de": weight}).fit(texts, languages)
    labels = np.stack([languages == "de", languages == "en"], axis=1).astype(int)
    for class_weight in ({0: weight}, [{0: 1.0, 1: weight}, {}]):
        with pytest.raises(ValueError, match="class_weight must hold finite weights of 0 or more"):
            make(XLMRobertaClassifier, class_weight=class_weight).fit(texts, labels)


def test_class_weights_that_leave_nothing(make, texts, languages):
    with pytest.raises(ValueError, match=r"class_weight leaves no row any weight, got \{'de': 0"):
        make(XLMRobertaClassifier, class_weight=dict.fromkeys(["de", "el", "en", "ru"], 0)).fit(texts, languages)


def test_class_weight_of_a_class_without_rows_in_a_warm_start(make, texts, languages):
    weight = dict.fromkeys(["de", "el", "en", "ru"], 2.0)
    classifier = make(XLMRobertaClassifier, class_weight=weight, warm_start=True).fit(texts, languages)
    classifier.fit(texts[:2], languages[:2]).set_params(class_weight="balanced").fit(texts[:2], languages[:2])
    assert classifier.predict_proba(texts).shape == (48, 4)


def test_label_smoothing_keeps_probabilities_from_the_ends(make, still_checkpoint, many):
    texts, y = many
    sharp, smooth = (
        make(XLMRobertaClassifier, still_checkpoint, **LEARNS, label_smoothing=share).fit(texts, y)
        for share in (0.0, 0.5)
    )
    assert smooth.predict_proba(texts).max(1).mean() < sharp.predict_proba(texts).max(1).mean() - 0.1


def test_loss_is_the_weighted_mean_of_the_reference(make, reference, still_checkpoint, texts, languages, tmp_path):
    """The first epoch's loss in one batch is what plain PyTorch computes with the weights before it."""
    from skxlmr import save

    weight = np.linspace(0, 3, len(texts))
    start = make(XLMRobertaClassifier, still_checkpoint, batch_size=48, learning_rate=1e-9).fit(texts, languages)
    save(start, tmp_path / "start")
    continued = start.set_params(warm_start=True, label_smoothing=0.1).fit(texts, languages, sample_weight=weight)
    model = reference("AutoModelForSequenceClassification", tmp_path / "start")
    codes = torch.from_numpy(np.searchsorted(start.classes_, languages))
    with torch.no_grad():
        logits = model(**padded(start.tokenizer_, texts)).logits
    losses = torch.nn.functional.cross_entropy(logits, codes, reduction="none", label_smoothing=0.1).numpy()
    assert continued.loss_curve_[0] == pytest.approx(np.average(losses, weights=weight), abs=1e-5)


# scikit-learn's tools -------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")  # a rate at which nothing is learnt
def test_grid_search_over_rate_and_frozen_layers(make, many):
    texts, languages = many
    grid = {"learning_rate": [1e-9, 3e-3], "n_frozen_layers": [0, 1]}
    search = GridSearchCV(make(XLMRobertaClassifier, **LEARNS), grid, cv=2, error_score="raise")
    search.fit(texts, languages)
    assert search.best_params_["learning_rate"] == 3e-3 and search.best_score_ > 0.5
    scores = search.cv_results_["mean_test_score"]
    assert scores.shape == (4,) and np.isfinite(scores).all()
    assert set(search.predict(texts[:3])) <= set(languages)
    assert search.best_estimator_.n_frozen_layers == search.best_params_["n_frozen_layers"]


@pytest.mark.parametrize("container", [list, pd.Series, np.array, pl.Series, lambda X: pd.DataFrame({"text": X})])
def test_cross_val_score(make, texts, languages, container):
    scores = cross_val_score(
        make(XLMRobertaClassifier, max_epochs=2, dtype="auto"), container(texts), languages, cv=2, error_score="raise"
    )
    assert scores.shape == (2,) and ((scores >= 0) & (scores <= 1)).all()


def test_two_processes_predict_the_same_as_one(make, texts, languages):
    classifier = make(XLMRobertaClassifier, max_epochs=2, device="cpu")
    alone, parallel = (
        cross_val_predict(classifier, texts, languages, cv=2, method="predict_proba", n_jobs=n_jobs)
        for n_jobs in (1, 2)
    )
    assert alone.shape == (48, 4)
    np.testing.assert_allclose(alone.sum(1), 1, atol=1e-5)
    np.testing.assert_allclose(parallel, alone, atol=1e-4)


def test_grid_search_over_pairs_in_a_pipeline(make, texts, languages):
    pairs = list(zip(texts, texts[::-1], strict=True))
    model = make_pipeline(FunctionTransformer(), make(XLMRobertaClassifier))
    search = GridSearchCV(model, {"xlmrobertaclassifier__weight_decay": [0.0, 0.1]}, cv=2, error_score="raise")
    search.fit(pairs, languages)
    assert search.predict(pairs).shape == (48,)
    assert search.best_estimator_[-1].n_features_in_ == 2


def test_sample_weight_through_a_pipeline(make, texts, languages):
    weight = (np.arange(48) < 24).astype(float)
    model = make_pipeline(FunctionTransformer(), make(XLMRobertaClassifier, max_epochs=2))
    model.fit(texts, languages, xlmrobertaclassifier__sample_weight=weight)
    alone = make(XLMRobertaClassifier, max_epochs=2).fit(texts, languages, weight)
    np.testing.assert_array_equal(model.predict_proba(texts), alone.predict_proba(texts))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))], ids=["deepcopy", "pickle"])
def test_copies_predict_the_same_and_are_independent(fitted, texts, languages, copied):
    twin = copied(fitted)
    np.testing.assert_array_equal(twin.decision_function(texts), fitted.decision_function(texts))
    assert twin.get_params() == fitted.get_params()
    before = weights_of(fitted)
    twin.set_params(warm_start=True).fit(texts, languages)
    assert not differing(weights_of(fitted), before) and differing(weights_of(twin), before)


def test_clone_is_not_fitted_and_fits_the_same(fitted, texts, languages):
    twin = clone(fitted)
    assert not hasattr(twin, "module_") and twin.get_params() == fitted.get_params()
    np.testing.assert_array_equal(twin.fit(texts, languages).decision_function(texts), fitted.decision_function(texts))


def test_bfloat16(make, many):
    texts, languages = many
    classifier = make(XLMRobertaClassifier, **LEARNS, dtype="bfloat16").fit(texts, languages)
    assert {tensor.dtype for tensor in classifier.module_.parameters()} == {torch.float32}
    assert classifier.score(texts, languages) > 0.8
    half = classifier.predict_proba(texts)
    np.testing.assert_array_equal(classifier.classes_[half.argmax(1)], classifier.predict(texts))
    exact = classifier.set_params(dtype="float32").predict_proba(texts)
    assert half.dtype == exact.dtype == np.float32
    assert 1e-5 < np.abs(half - exact).max() < 0.1
