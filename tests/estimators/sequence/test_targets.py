"""Several labels per row and several columns of classes: losses, weights, thresholds, shapes, scikit-learn's tools."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.sparse import csr_matrix
from scipy.special import expit
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import GridSearchCV, KFold, cross_val_predict, cross_val_score

from skxlmr import CheckpointError, FitQualityWarning, XLMRobertaClassifier, load, save
from skxlmr.nn.losses import binary_cross_entropy
from tests.estimators.conftest import LEARNS, padded
from tests.nn.reference import make_pair
from tests.tiny import sentences


def labels_of(texts):
    """The toy task: which of three things a sentence has; a row may have none or all."""
    return np.array([["a" in text.split(), any(c > "α" for c in text), len(text.split()) > 6] for text in texts], int)


LABELS = ["article", "not Latin", "long"]


@pytest.fixture(scope="module")
def y(texts):
    return labels_of(texts)


@pytest.fixture(scope="module")
def fitted(make, texts, y):
    return make(XLMRobertaClassifier, max_epochs=2).fit(texts, y)


# The loss -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)], ids=["fp32", "fp64"])
def test_loss_and_gradients_equal_the_reference(dtype, tolerance):
    ours, theirs = make_pair("seqcls", dtype=dtype)
    theirs.config.problem_type = "multi_label_classification"
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 90, (4, 9), generator=generator)
    target = torch.randint(2, (4, 3), generator=generator).to(dtype)
    output = theirs(input_ids=ids, labels=target)
    loss = binary_cross_entropy(ours(ids), target).mean()
    assert abs(loss.item() - output.loss.item()) < tolerance
    loss.backward()
    output.loss.backward()
    expected = dict(theirs.named_parameters())
    largest = max(p.grad.abs().max() for p in expected.values() if p.grad is not None)
    compared = 0
    for name, parameter in ours.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=0, atol=tolerance * float(largest))
            compared += 1
    assert compared > 20


def test_loss_with_smoothing_and_weights_by_hand():
    logits, target = torch.tensor([[1.0, -2.0], [0.5, 3.0]]).double(), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    weights = torch.tensor([[1.0, 2.0], [5.0, 0.5]])  # of 0, of 1
    found = binary_cross_entropy(logits, target, 0.2, weights)
    p, soft = expit(logits.numpy()), np.array([[0.9, 0.1], [0.1, 0.9]])
    cells = -(soft * np.log(p) + (1 - soft) * np.log(1 - p)) * np.array([[5, 2], [1, 0.5]])
    np.testing.assert_allclose(found, cells.mean(1), atol=1e-12)
    smooth_logits = logits.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: binary_cross_entropy(x, target, 0.2, weights), smooth_logits)


def test_training_loss_is_the_weighted_mean_of_the_reference(make, reference, still_checkpoint, texts, y, tmp_path):
    """The first epoch's loss in one batch is what transformers computes with the weights before it."""
    weight = np.linspace(0, 3, len(texts))
    start = make(XLMRobertaClassifier, still_checkpoint, batch_size=48, learning_rate=1e-9).fit(texts, y)
    save(start, tmp_path / "start")
    model = reference("AutoModelForSequenceClassification", tmp_path / "start")
    assert model.config.problem_type == "multi_label_classification"
    tokenizer = start.tokenizer_
    with torch.no_grad():
        losses = [
            model(**padded(tokenizer, [text]), labels=torch.from_numpy(row[None]).float()).loss.item()
            for text, row in zip(texts, y, strict=True)
        ]
    continued = start.set_params(warm_start=True).fit(texts, y, sample_weight=weight)
    assert continued.loss_curve_[0] == pytest.approx(np.average(losses, weights=weight), abs=1e-5)


# Several labels per row -----------------------------------------------------------------------------------------------


def test_shapes_and_meaning(fitted, texts, y):
    logits, proba, predicted = fitted.decision_function(texts), fitted.predict_proba(texts), fitted.predict(texts)
    assert logits.shape == proba.shape == predicted.shape == (48, 3)
    assert proba.dtype == np.float32 and predicted.dtype == y.dtype
    np.testing.assert_allclose(proba, expit(logits), atol=1e-6)
    np.testing.assert_allclose(fitted.predict_log_proba(texts), np.log(proba), atol=1e-5)
    np.testing.assert_array_equal(predicted, (proba >= 0.5).astype(int))
    assert fitted.classes_.tolist() == [0, 1, 2] and fitted.target_type_ == "multilabel-indicator"
    assert fitted.score(texts, y) == pytest.approx((predicted == y).all(1).mean())


def test_learns(make, many):
    X = many[0]
    y = labels_of(X)
    classifier = make(XLMRobertaClassifier, **LEARNS | {"max_epochs": 8}).fit(X[:96], y[:96])
    assert f1_score(y[96:], classifier.predict(X[96:]), average="micro") > 0.8
    assert 0.2 < y[96:, 1].mean() < 0.8


@pytest.mark.parametrize(
    "container",
    [
        list,
        lambda y: y.tolist(),
        lambda y: y.astype(bool),
        lambda y: y.astype(float),
        csr_matrix,
        lambda y: pd.DataFrame(y, index=range(100, 148)),
        lambda y: pd.DataFrame(y).astype("Int64"),
        pl.DataFrame,
    ],
    ids=["rows", "lists", "bool", "float", "sparse", "DataFrame", "Int64", "polars"],
)
def test_any_container(make, fitted, texts, y, container):
    classifier = make(XLMRobertaClassifier, max_epochs=2).fit(texts, container(y))
    np.testing.assert_array_equal(classifier.predict_proba(texts), fitted.predict_proba(texts))


def test_columns_of_a_frame_name_the_labels(make, texts, y, tmp_path):
    frame = pd.DataFrame(y, columns=LABELS)
    classifier = make(XLMRobertaClassifier, scoring="accuracy").fit(texts, frame, X_val=texts, y_val=frame)
    assert classifier.classes_.tolist() == LABELS
    assert classifier.validation_scores_[0] == pytest.approx(classifier.score(texts, frame))
    save(classifier, tmp_path / "saved")
    again = XLMRobertaClassifier.from_checkpoint(tmp_path / "saved", dtype="float32")
    assert again.classes_.tolist() == LABELS and again.target_type_ == "multilabel-indicator"
    for twin in (again, load(tmp_path / "saved"), pickle.loads(pickle.dumps(classifier))):
        np.testing.assert_array_equal(twin.predict_proba(texts), classifier.predict_proba(texts))
        assert twin.predict(texts).tolist() == classifier.predict(texts).tolist()
    with pytest.raises(ValueError, match="y_val has the columns long, not Latin, article, but the fit had article"):
        classifier.fit(texts, frame, X_val=texts, y_val=frame[LABELS[::-1]])


def test_threshold_is_read_when_predicting(fitted, texts):
    classifier, proba = pickle.loads(pickle.dumps(fitted)), fitted.predict_proba(texts)
    of_label = np.quantile(proba, 0.7, axis=0)
    np.testing.assert_array_equal(classifier.set_params(threshold=of_label).predict(texts), (proba >= of_label))
    assert 0.2 < classifier.predict(texts).mean() < 0.4
    reached = classifier.set_params(threshold=float(proba[3, 1])).predict(texts)
    assert reached[3, 1] == 1 and (reached == (proba >= proba[3, 1])).all()
    with pytest.warns(FitQualityWarning, match="no label reaches 1 in any of the 48 rows"):
        assert classifier.set_params(threshold=1.0).predict(texts).sum() == 0
    assert classifier.set_params(threshold=[0, 1, 0]).predict(texts).tolist() == [[1, 0, 1]] * 48


@pytest.mark.parametrize(
    ("threshold", "said"),
    [([0.5, 0.5], "threshold must be one number or 3"), ([0.5, 2.0, 0.5], "threshold must be from 0 to 1")],
)
def test_bad_threshold(make, fitted, texts, y, threshold, said):
    with pytest.raises(ValueError, match=said):
        make(XLMRobertaClassifier, threshold=threshold).fit(texts, y)
    with pytest.raises(ValueError, match=said):
        pickle.loads(pickle.dumps(fitted)).set_params(threshold=threshold).predict(texts)


def test_class_weight_of_labels(make, still_checkpoint, texts):
    y = np.zeros((48, 2), int)
    y[:4, 0], y[::2, 1] = 1, 1

    def fit(class_weight):
        classifier = make(XLMRobertaClassifier, still_checkpoint, batch_size=48, class_weight=class_weight)
        return classifier.set_params(max_epochs=3).fit(texts, y).predict_proba(texts)

    plain, balanced = fit(None), fit("balanced")
    by_hand = fit([{0: 48 / (2 * 44), 1: 48 / (2 * 4)}, {0: 1.0, 1: 1.0}])
    np.testing.assert_allclose(balanced, by_hand, atol=1e-5)
    assert balanced[:, 0].mean() > plain[:, 0].mean() + 0.05
    positives = fit({0: 6.0})
    np.testing.assert_allclose(positives, fit([{1: 6.0}, {}]), atol=1e-6)
    assert positives[:, 0].mean() > plain[:, 0].mean() + 0.05


def test_balanced_counts_weighted_rows(make, still_checkpoint, texts, y):
    weight = (np.arange(48) < 32).astype(float)
    one = make(XLMRobertaClassifier, still_checkpoint, batch_size=48, class_weight="balanced")
    few = pickle.loads(pickle.dumps(one)).fit(texts[:32], y[:32]).predict_proba(texts)
    np.testing.assert_allclose(one.fit(texts, y, weight).predict_proba(texts), few, atol=1e-4)


@pytest.mark.parametrize(
    ("class_weight", "said"),
    [
        ({"noise": 2.0}, r"class_weight names \['noise'\]"),
        ([{}], "class_weight has 1 dicts, but y has 3 labels"),
        (["balanced"] * 3, "class_weight of the label '0' must be a dict with the weights of 0 and 1, got 'balanced'"),
        ([{}, {1: 2.0}, {2: 2.0}], r"class_weight of the label '2' must be a dict with .*, got {2: 2.0}"),
    ],
)
def test_bad_class_weight(make, texts, y, class_weight, said):
    with pytest.raises(ValueError, match=said):
        make(XLMRobertaClassifier, class_weight=class_weight).fit(texts, y)


def test_label_smoothing_keeps_probabilities_from_the_ends(make, still_checkpoint, texts, y):
    sharp, smooth = (
        make(XLMRobertaClassifier, still_checkpoint, **LEARNS, label_smoothing=share).fit(texts, y).predict_proba(texts)
        for share in (0.0, 0.5)
    )
    assert np.abs(smooth - 0.5).mean() < np.abs(sharp - 0.5).mean() - 0.1


def test_a_label_that_no_row_has(make, texts, y):
    y = np.column_stack([y, np.zeros(48, int)])
    classifier = make(XLMRobertaClassifier, **LEARNS, class_weight="balanced").fit(texts, y)
    assert classifier.predict(texts)[:, 3].sum() == 0


def test_early_stopping_watches_the_score(make, texts, y):
    classifier = make(XLMRobertaClassifier, max_epochs=3, early_stopping=True, validation_fraction=0.25)
    classifier.set_params(scoring="accuracy").fit(texts, y)
    assert all(0 <= score <= 1 for score in classifier.validation_scores_)


@pytest.mark.parametrize(
    ("y_val", "said"),
    [
        ([[0, 1]], "y_val must be an indicator matrix with one column for each of the 3 labels"),
        ([0], "y_val must be an indicator matrix"),
        ([[0, 1, 2]], "y_val column 2 row 0: expected 0 or 1, got 2"),
        ([["a", "b", "c"]], "y_val column 0 row 0: expected 0 or 1, got 'a'"),
    ],
)
def test_other_labels_later(make, texts, y, y_val, said):
    with pytest.raises(ValueError, match=said):
        make(XLMRobertaClassifier).fit(texts, y, X_val=texts[:1], y_val=y_val)


@pytest.mark.parametrize("container", [np.asarray, csr_matrix, pd.DataFrame], ids=["array", "sparse", "DataFrame"])
def test_several_columns_after_one_class_per_row(make, texts, languages, y, container):
    one = make(XLMRobertaClassifier).fit(texts, languages)
    said = r"y has the shape \(48, 3\), but the fit had one class per row"
    for call in (one.partial_fit, one.score, pickle.loads(pickle.dumps(one)).set_params(warm_start=True).fit):
        with pytest.raises(ValueError, match=f"^{said}"):
            call(texts, container(y))
    with pytest.raises(ValueError, match=f"^y_val{said[1:]}"):
        make(XLMRobertaClassifier).fit(texts, languages, X_val=texts, y_val=container(y))
    with pytest.raises(ValueError, match=r"classes has the shape \(2, 2\), but y has one class per row"):
        make(XLMRobertaClassifier).partial_fit(texts, languages, classes=[["de", "el"], ["en", "ru"]])


def test_missing_value(make, texts, y):
    y = y.astype(float)
    y[5, 1] = np.nan
    with pytest.raises(ValueError, match="y column 1 row 5: expected a label, got nan"):
        make(XLMRobertaClassifier).fit(texts, y)


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")  # a rate at which nothing is learnt
def test_grid_search(make, many):
    texts, y = many[0][:64], labels_of(many[0][:64])
    grid = {"learning_rate": [1e-9, 3e-3], "threshold": [0.5, 0.99]}
    scoring = {"micro": make_scorer(f1_score, average="micro", zero_division=0), "subset": "accuracy"}
    search = GridSearchCV(
        make(XLMRobertaClassifier, **LEARNS), grid, scoring=scoring, refit="micro", cv=2, error_score="raise"
    )
    search.fit(texts, y)
    assert search.best_params_ == {"learning_rate": 3e-3, "threshold": 0.5} and search.best_score_ > 0.6
    assert search.predict(texts[:3]).shape == (3, 3)


@pytest.mark.parametrize("dtype", ["Int64", "boolean", "int64[pyarrow]", "category", "object"])
def test_what_fit_reads_is_scored(fitted, texts, y, dtype):
    frame = pd.DataFrame(y).astype(dtype)
    assert fitted.score(texts, frame) == fitted.score(texts, y)


def test_nullable_indicators_in_folds_and_early_stopping(make, texts, y):
    classifier = make(XLMRobertaClassifier, max_epochs=1, early_stopping=True, validation_fraction=0.5)
    scores = [
        cross_val_score(classifier, texts[:16], columns[:16], cv=2, error_score="raise")
        for columns in (y, pd.DataFrame(y).astype("Int64"))
    ]
    assert np.array_equal(*scores)


def test_cross_validated_probabilities(make, texts, y):
    proba = cross_val_predict(make(XLMRobertaClassifier), texts, y, cv=2, method="predict_proba")
    assert proba.shape == (48, 3) and ((proba > 0) & (proba < 1)).all()


def test_pairs(make, texts, y):
    pairs = list(zip(texts, texts[::-1], strict=True))
    assert make(XLMRobertaClassifier).fit(pairs, y).predict(pairs).shape == (48, 3)


# Several columns of classes -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def columns(texts, languages):
    return pd.DataFrame({"language": languages, "parity": np.arange(48) % 2, "third": np.arange(48) % 3 * 5})


@pytest.fixture(scope="module")
def several(make, texts, columns):
    return make(XLMRobertaClassifier, max_epochs=2).fit(texts, columns)


def test_columns_of_classes(several, texts, columns):
    assert several.target_type_ == "multiclass-multioutput"
    assert [classes.tolist() for classes in several.classes_] == [["de", "el", "en", "ru"], [0, 1], [0, 5, 10]]
    proba, predicted = several.predict_proba(texts), several.predict(texts)
    assert [part.shape for part in proba] == [(48, 4), (48, 2), (48, 3)] and predicted.shape == (48, 3)
    assert [scores.shape for scores in several.decision_function(texts)] == [(48, 4), (48,), (48, 3)]
    for k, part in enumerate(proba):
        np.testing.assert_allclose(part.sum(1), 1, atol=1e-6)
        assert predicted[:, k].tolist() == several.classes_[k][part.argmax(1)].tolist()
    right = [(predicted[:, k] == columns.iloc[:, k]).to_numpy() for k in range(3)]
    assert several.score(texts, columns) == pytest.approx(np.mean(right[0] & right[1] & right[2]))


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("container", [pd.DataFrame, lambda y: y.to_numpy(dtype=object), lambda y: y.values.tolist()])
def test_missing_class_in_a_column(make, several, texts, columns, missing, container):
    y = columns[["parity", "language"]].astype(object)
    y.iloc[7, 1] = missing
    said = f"y column 1 row 7: expected a label, got {missing}"
    with pytest.raises(ValueError, match=said):
        make(XLMRobertaClassifier).fit(texts, container(y))
    with pytest.raises(ValueError, match="y column 0 mixes labels of the types int, str"):
        make(XLMRobertaClassifier).fit(texts, container(columns.assign(language=[7, *columns["language"][1:]])))


def test_columns_learn_side_by_side(make, many):
    X, languages = many
    y = np.column_stack([languages, np.where([any(c > "α" for c in text) for text in X], "other", "Latin")])
    classifier = make(XLMRobertaClassifier, **LEARNS | {"max_epochs": 8}).fit(X[:96], y[:96])
    predicted = classifier.predict(X[96:])
    assert predicted.dtype.kind == "U" and (predicted == y[96:]).mean(0).min() > 0.75
    assert classifier.score(X[96:], y[96:]) > 0.6


def test_loss_is_the_mean_over_columns(make, still_checkpoint, texts, languages, columns):
    start = make(XLMRobertaClassifier, still_checkpoint, batch_size=48, learning_rate=1e-9, label_smoothing=0.1)
    start.fit(texts, columns)
    log_proba = start.predict_log_proba(texts)
    losses = []
    for k, part in enumerate(log_proba):
        codes = np.searchsorted(start.classes_[k], columns.iloc[:, k])
        losses.append(-(0.9 * part[np.arange(48), codes] + 0.1 * part.mean(1)))
    again = start.set_params(warm_start=True).fit(texts, columns)
    assert again.loss_curve_[0] == pytest.approx(np.mean(losses), abs=1e-5)


def test_weights_of_columns_are_multiplied(make, still_checkpoint, texts, columns):
    weights = [{"de": 3.0}, "balanced", {0: 1.0, 5: 0.5, 10: 2.0}]
    of_class = [dict.fromkeys(["de", "el", "en", "ru"], 1.0) | weights[0], {0: 1.0, 1: 1.0}, weights[2]]
    make = make(XLMRobertaClassifier, still_checkpoint, batch_size=48, max_epochs=2)
    weighted = pickle.loads(pickle.dumps(make)).set_params(class_weight=of_class).fit(texts, columns)
    by_hand = columns["language"].map(of_class[0]) * columns["third"].map(of_class[2])
    expected = make.fit(texts, columns, sample_weight=by_hand).predict_proba(texts)
    for found, part in zip(weighted.predict_proba(texts), expected, strict=True):
        np.testing.assert_allclose(found, part, atol=1e-4)
    with pytest.raises(ValueError, match="class_weight must be a list of 3 dicts, one for each column of y"):
        make.set_params(class_weight={"de": 3.0}).fit(texts, columns)
    balanced = make.set_params(class_weight="balanced").fit(texts, columns)
    assert balanced.predict(texts).shape == (48, 3)


def test_columns_saved_and_searched(make, several, texts, columns, tmp_path):
    save(several, tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.predict(texts).tolist() == several.predict(texts).tolist()
    with pytest.raises(CheckpointError, match=r"several columns of classes: skxlmr.load"):
        XLMRobertaClassifier.from_checkpoint(tmp_path / "saved")
    search = GridSearchCV(make(XLMRobertaClassifier), {"max_epochs": [1, 2]}, cv=KFold(2), error_score="raise")
    assert np.isfinite(search.fit(texts, columns).cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda y: y.assign(language="xx"), "y_val column 0 row 0: label 'xx' is not among the classes of the fit"),
        (lambda y: y[["language", "third"]], "y_val must have 3 columns of classes, as in the fit"),
        (lambda y: y["language"], "y_val must have 3 columns of classes"),
    ],
)
def test_other_columns_later(make, texts, columns, change, said):
    with pytest.raises(ValueError, match=said):
        make(XLMRobertaClassifier).fit(texts, columns, X_val=texts, y_val=change(columns))


@pytest.mark.parametrize(
    ("change", "weight", "said"),
    [
        (lambda y: y[["language", "third"]], None, "y must have 3 columns of classes, as in the fit"),
        (lambda y: y["language"], None, "y must have 3 columns of classes, as in the fit"),
        (lambda y: y.assign(parity=None), None, "y column 1 row 0: expected a label, got None"),
        (lambda y: y[:5], None, r"inconsistent numbers of samples: \[48, 5, 5, 5\]"),
        (lambda y: y, [np.nan] * 48, "sample_weight contains NaN"),
        (lambda y: y, [1.0] * 5, r"inconsistent numbers of samples: \[48, 48, 5\]"),
        (lambda y: y, [0.0] * 48, "at least one non-zero number"),
    ],
    ids=["fewer columns", "one column", "missing", "fewer rows", "NaN", "fewer weights", "no weight"],
)
def test_what_is_no_score(several, texts, columns, change, weight, said):
    with pytest.raises(ValueError, match=said):
        several.score(texts, change(columns), weight)


def test_weights_in_the_score_of_columns(several, texts, columns):
    weight, predicted = np.arange(48) % 5, several.predict(texts)
    y = np.where(np.arange(48)[:, None] > 20, columns.to_numpy(object), predicted)
    right = (predicted == y).all(axis=1)
    assert 20 < right.sum() < 48
    assert several.score(texts, y, weight) == np.average(right, weights=weight)


def test_warm_start_and_early_stopping(make, texts, columns):
    classifier = make(XLMRobertaClassifier, warm_start=True, early_stopping=True, validation_fraction=0.3)
    classifier.fit(texts, columns).fit(texts[:24], columns[:24])
    assert len(classifier.validation_scores_) == 1 and classifier.predict(sentences(5)).shape == (5, 3)


def test_list_of_weights_needs_several(make, texts, languages):
    with pytest.raises(ValueError, match="class_weight as a list is for several labels or columns"):
        make(XLMRobertaClassifier, class_weight=[{}, {}]).fit(texts, languages)
