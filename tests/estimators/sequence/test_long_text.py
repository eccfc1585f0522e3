"""Long texts in windows: the numbers of a loop by hand, what is learnt from the end of a text, and what is counted."""

import copy
import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy.special import expit, softmax
from sklearn.model_selection import GridSearchCV

from skxlmr import TruncationWarning, XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaVectorizer, load, save
from skxlmr.inference._rows import mean_of_windows
from skxlmr.text import EncodedBatch
from tests.estimators.conftest import LEARNS, weights_of
from tests.text.windows import windows_by_hand
from tests.tiny import sentences

ESTIMATORS = [XLMRobertaClassifier, XLMRobertaRegressor, XLMRobertaVectorizer]
each = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda cls: cls.__name__)


@pytest.fixture(scope="module")
def long_texts(texts):
    """Texts of one to six windows of 16 tokens, short ones first and last."""
    return [" ".join(texts[i : i + n]) for i, n in enumerate([1, 1, 2, 5, 3, 1, 4, 1])] + ["", texts[0]]


@torch.no_grad()
def outputs_by_hand(model, read, tokenizer, rows, max_length, stride, weigh=lambda row: 1):
    """Mean of the reference's outputs over the windows of each row, one window at a time."""
    means = []
    for text, pair in rows:
        windows = windows_by_hand(tokenizer, text, pair, max_length, stride)
        outputs = [read(model(torch.tensor([window]))).numpy() for window in windows]
        means.append(np.average(outputs, axis=0, weights=[weigh(window) for window in windows]))
    return np.array(means)


# The numbers ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("max_length", "stride"), [(16, 0), (16, 5), (9, 6)])
def test_classifier_equals_a_loop(make, reference, tmp_path, texts, languages, long_texts, max_length, stride):
    classifier = make(XLMRobertaClassifier, long_text="window", stride=stride, max_length=max_length)
    classifier.fit(texts, languages)
    save(classifier, tmp_path / "saved")
    model = reference("AutoModelForSequenceClassification", tmp_path / "saved")
    rows = [(text, None) for text in long_texts]
    expected = outputs_by_hand(model, lambda o: o.logits[0], classifier.tokenizer_, rows, max_length, stride)
    np.testing.assert_allclose(classifier.decision_function(long_texts), expected, atol=1e-5)
    proba = classifier.predict_proba(long_texts)
    np.testing.assert_allclose(proba, softmax(expected, axis=1), atol=1e-5)
    assert classifier.predict(long_texts).tolist() == classifier.classes_[proba.argmax(1)].tolist()
    assert classifier.coverage(long_texts)["n_windows"].max() >= 4


def test_labels_and_columns_equal_a_loop(make, reference, tmp_path, texts, languages, long_texts):
    model_of = {"long_text": "window", "max_length": 16, "stride": 2}
    y = np.stack([np.arange(48) % 2, np.arange(48) % 3 == 1], axis=1).astype(int)
    classifier = make(XLMRobertaClassifier, **model_of).fit(texts, y)
    save(classifier, tmp_path / "saved")
    model = reference("AutoModelForSequenceClassification", tmp_path / "saved")
    rows = [(text, None) for text in long_texts]
    expected = outputs_by_hand(model, lambda o: o.logits[0], classifier.tokenizer_, rows, 16, 2)
    np.testing.assert_allclose(classifier.predict_proba(long_texts), expit(expected), atol=1e-5)
    columns = make(XLMRobertaClassifier, **model_of).fit(texts, np.stack([languages, languages[::-1]], axis=1))
    assert [len(part) for part in columns.predict_proba(long_texts)] == [len(long_texts)] * 2


def test_regressor_equals_a_loop(make, reference, tmp_path, texts, long_texts):
    regressor = make(XLMRobertaRegressor, long_text="window", stride=4, max_length=16).fit(texts, np.arange(48.0))
    save(regressor, tmp_path / "saved")
    model = reference("AutoModelForSequenceClassification", tmp_path / "saved")
    rows = [(text, None) for text in long_texts]
    expected = outputs_by_hand(model, lambda o: o.logits[0], regressor.tokenizer_, rows, 16, 4)
    np.testing.assert_allclose(regressor.predict(long_texts), expected[:, 0], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize(("pooling", "stride"), [("mean", 0), ("cls", 3)])
def test_vectorizer_equals_a_loop(
    make, reference, tiny_checkpoint, tiny_tokenizer, long_texts, pooling, stride, normalize
):
    vectorizer = make(
        XLMRobertaVectorizer, long_text="window", stride=stride, max_length=16, pooling=pooling, normalize=normalize
    )
    read = {"mean": lambda o: o.last_hidden_state[0].mean(0), "cls": lambda o: o.last_hidden_state[0, 0]}[pooling]
    rows = [(text, None) for text in long_texts if text]
    model = reference("AutoModel", tiny_checkpoint)
    expected = outputs_by_hand(model, read, tiny_tokenizer, rows, 16, stride, weigh=lambda row: len(row) - 2)
    if normalize:
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    features = vectorizer.fit_transform([text for text, _ in rows])
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, atol=1e-5)


def test_pairs_equal_a_loop(make, reference, tiny_checkpoint, tiny_tokenizer, texts, long_texts):
    """The longer text of each pair becomes windows, whichever it is."""
    short = [text[:8] for text in texts[20 : 20 + len(long_texts)]]
    rows = [*zip(long_texts, short, strict=True), *zip(short, long_texts, strict=True), ("", "")]
    vectorizer = make(XLMRobertaVectorizer, long_text="window", stride=2, max_length=24).fit(rows)
    model = reference("AutoModel", tiny_checkpoint)
    expected = outputs_by_hand(
        model, lambda o: o.last_hidden_state[0].mean(0), tiny_tokenizer, rows[:-1], 24, 2, lambda row: len(row) - 4
    )
    np.testing.assert_allclose(vectorizer.transform(rows)[:-1], expected, atol=1e-5)
    n_windows = vectorizer.coverage(rows)["n_windows"]
    assert n_windows.max() >= 3 and (n_windows[:10] > 1).sum() == (n_windows[10:20] > 1).sum() >= 4


def test_windows_are_those_of_the_tokenizer(make, texts, long_texts):
    """Of single texts, which the tokenizer can cut on its own, the same windows, token by token."""
    classifier = make(XLMRobertaClassifier, long_text="window", stride=3, max_length=14).fit(texts, np.arange(48) % 2)
    found = classifier._encode(classifier._check_X(long_texts, reset=False))
    expected = classifier.tokenizer_.encode_batch(long_texts, max_length=14, stride=3)
    for name in ("ids", "lengths", "row_of_window", "window_starts"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


def test_mean_of_windows_by_hand():
    encoded = EncodedBatch(np.zeros(8, "i4"), np.full(4, 2), np.zeros(4), row_of_window=np.array([0, 1, 1, 2]))
    outputs = np.array([[0.1], [1.0], [4.0], [0.7]], np.float32)
    means = mean_of_windows(outputs, encoded, np.array([0, 2, 1, 0]))  # a lone window counts whatever it weighs
    assert means.dtype == np.float32 and means.tolist() == [outputs[0].tolist(), [2.0], outputs[3].tolist()]


# Invariants -----------------------------------------------------------------------------------------------------------


def logits(estimator, X):
    """Outputs of the head, one line per text."""
    return estimator.decision_function(X) if hasattr(estimator, "decision_function") else estimator.predict(X)


def infer(estimator, X):
    return estimator.transform(X) if hasattr(estimator, "transform") else logits(estimator, X)


@each
def test_rows_that_fit_are_the_same_bit_by_bit(make, texts, estimator):
    cut, whole = (make(estimator, long_text=how).fit(texts, np.arange(48) % 2) for how in ("truncate", "window"))
    np.testing.assert_array_equal(infer(whole, texts), infer(cut, texts))


@each
def test_batches_and_neighbours_do_not_matter(make, texts, long_texts, estimator):
    made = make(estimator, long_text="window", stride=3, max_length=16).fit(texts, np.arange(48) % 2)
    outputs = infer(made, long_texts)
    one = copy.deepcopy(made).set_params(batch_size=1)
    np.testing.assert_allclose(infer(one, long_texts), outputs, atol=1e-5)
    np.testing.assert_allclose(infer(made, long_texts[::-1]), outputs[::-1], atol=1e-5)
    np.testing.assert_allclose(infer(made, long_texts[3:4]), outputs[3:4], atol=1e-5)


@each
def test_distinct_texts_are_run_once(make, texts, long_texts, estimator):
    made = make(estimator, long_text="window", max_length=16).fit(texts, np.arange(48) % 2)
    lengths = []
    hook = made.module_.roberta.embeddings.register_forward_pre_hook(lambda _, args: lengths.extend(args[1].lengths))
    outputs = infer(made, [long_texts[i] for i in (3, 1, 3, 3)])
    hook.remove()
    assert len(lengths) == made.coverage([long_texts[i] for i in (3, 1)])["n_windows"].sum()
    np.testing.assert_array_equal(outputs[[2, 3]], outputs[[0, 0]])


@each
def test_saved_and_pickled(make, texts, long_texts, tmp_path, estimator):
    made = make(estimator, long_text="window", stride=3, max_length=16).fit(texts, np.arange(48) % 2)
    save(made, tmp_path / "saved")
    for twin in (load(tmp_path / "saved"), pickle.loads(pickle.dumps(made))):
        np.testing.assert_array_equal(infer(twin, long_texts), infer(made, long_texts))


# Learning -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def class_at_the_end():
    """Texts with a class that only the last words show, far behind the 16th token."""
    beginnings = sentences(96)  # in four languages in turn, which must not show the class
    y = np.arange(96) // 4 % 2
    tails = ["птица поёт утка", "a small red house"]
    return [f"{text} {text} {tails[k]}" for text, k in zip(beginnings, y, strict=True)], y


def test_the_end_of_a_text_is_learnt_with_windows_alone(make, still_checkpoint, class_at_the_end):
    texts, y = class_at_the_end
    search = GridSearchCV(
        make(XLMRobertaClassifier, still_checkpoint, **LEARNS, max_length=16, stride=4),
        {"long_text": ["truncate", "window"]},
        cv=2,
        refit=False,
        error_score="raise",
    )
    with pytest.warns(TruncationWarning):
        search.fit(texts, y)
    cut, whole = search.cv_results_["mean_test_score"]
    assert cut < 0.7 and whole > 0.85
    assert search.best_params_ == {"long_text": "window"}


def test_training_reads_every_window(make, class_at_the_end):
    texts, y = class_at_the_end
    classifier = make(XLMRobertaClassifier, long_text="window", max_length=16, device="cpu")
    seen = []
    original = XLMRobertaClassifier._make_task
    classifier._make_task = lambda rows: seen.append(rows) or original(classifier, rows)
    classifier.fit(texts, y)
    (rows,) = seen
    assert len(rows.encoded["encoded"]) == classifier.coverage(texts)["n_windows"].sum() > 2 * len(texts)
    assert len(rows.weights) == len(rows) == len(texts)


def test_windows_of_a_text_share_its_weight(make, reference, still_checkpoint, tmp_path, texts, languages, long_texts):
    settings = {"long_text": "window", "max_length": 16, "batch_size": 500, "learning_rate": 1e-9}
    classifier = make(XLMRobertaClassifier, still_checkpoint, **settings)
    y, weights = languages[: len(long_texts)], np.arange(len(long_texts)) % 3
    classifier.fit(long_texts, y)
    save(classifier, tmp_path / "saved")
    model = reference("AutoModelForSequenceClassification", tmp_path / "saved")
    rows = [(text, None) for text in long_texts]
    log_p = outputs_by_hand(model, lambda o: o.logits[0].log_softmax(0), classifier.tokenizer_, rows, 16, 0)
    losses = -log_p[np.arange(len(y)), np.searchsorted(classifier.classes_, y)]  # means over the windows of each text
    classifier.set_params(warm_start=True)
    assert classifier.fit(long_texts, y).loss_curve_[0] == pytest.approx(losses.mean(), abs=1e-5)
    weighted = classifier.fit(long_texts, y, sample_weight=weights).loss_curve_[0]
    assert weighted == pytest.approx(np.average(losses, weights=weights), abs=1e-5)


def test_early_stopping_splits_rows_not_windows(make, class_at_the_end):
    texts, y = class_at_the_end
    classifier = make(XLMRobertaClassifier, long_text="window", max_length=16, early_stopping=True)
    classifier.fit(texts[:40], y[:40], X_val=texts[40:60], y_val=y[40:60])
    assert classifier.validation_scores_[-1] == pytest.approx(classifier.score(texts[40:60], y[40:60]))
    classifier.fit(texts[:40], y[:40])
    assert set(np.round(np.array(classifier.validation_scores_) * 4, 6)) <= {0, 1, 2, 3, 4}  # of 4 rows


def test_subword_sampling_with_windows(make, texts):
    pairs = [(" ".join(texts[i : i + 3]), texts[i][:6]) for i in range(24)]
    fits = [
        make(XLMRobertaClassifier, long_text="window", max_length=32, subword_sampling=alpha).fit(
            pairs, np.arange(24) % 2
        )
        for alpha in (None, 0.1, 0.1)
    ]
    plain, drawn, again = (weights_of(fitted)["classifier.dense.weight"] for fitted in fits)
    assert not torch.equal(plain, drawn) and torch.equal(drawn, again)


# What is counted ------------------------------------------------------------------------------------------------------


@each
def test_windows_cut_nothing(make, long_texts, estimator):
    made = make(estimator, long_text="window", max_length=16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made.fit(long_texts, np.arange(10) % 2)
        infer(made, long_texts)
    assert made.n_truncated_ == 0


@each
@pytest.mark.parametrize("subword_sampling", [None, 0.2])
def test_one_warning_when_cutting(make, long_texts, estimator, subword_sampling):
    params = {} if estimator is XLMRobertaVectorizer else {"max_epochs": 3, "subword_sampling": subword_sampling}
    made = make(estimator, max_length=16, **params)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made.fit(long_texts, np.arange(10) % 2)
    n_expected = 0 if estimator is XLMRobertaVectorizer else 1  # the vectorizer warns when it cuts, in transform
    assert len([w for w in caught if w.category is TruncationWarning]) == n_expected
    assert made.n_truncated_ == (made.coverage(long_texts)["n_dropped"] > 0).sum() >= 4
    with pytest.warns(TruncationWarning) as caught:
        infer(made, long_texts)
    assert len(caught) == 1


@each
def test_coverage(make, tiny_tokenizer, long_texts, estimator):
    frame = pd.DataFrame({"text": long_texts}, index=list("abcdefghij"))
    lengths = tiny_tokenizer.encode_batch(long_texts).lengths
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TruncationWarning)
        cut = make(estimator, max_length=16).fit(frame, np.arange(10) % 2)
    report = cut.coverage(frame)
    assert report.columns.tolist() == ["n_tokens", "n_windows", "n_dropped", "coverage"]
    assert report.index.tolist() == list("abcdefghij")
    assert report["n_tokens"].tolist() == (lengths - 2).tolist()
    assert report["n_dropped"].tolist() == np.maximum(lengths - 16, 0).tolist()
    np.testing.assert_allclose(report["coverage"], np.minimum(14 / np.maximum(lengths - 2, 1), 1))
    assert report["coverage"]["i"] == 1 and set(report["n_windows"]) == {1}  # an empty text is read whole
    whole = cut.set_params(long_text="window", stride=2).coverage(frame)
    assert whole["n_dropped"].sum() == 0 and (whole["coverage"] == 1).all()
    by_hand = [len(windows_by_hand(tiny_tokenizer, text, None, 16, 2)) for text in long_texts]
    assert whole["n_windows"].tolist() == by_hand


def test_coverage_has_the_index_of_what_was_passed(make, long_texts):
    vectorizer = make(XLMRobertaVectorizer).fit(long_texts)
    series = pd.Series(long_texts, index=range(50, 60))
    assert vectorizer.coverage(series).index.tolist() == list(range(50, 60))
    for X in (long_texts, np.array(long_texts), pl.Series(long_texts)):
        assert vectorizer.coverage(X).index.tolist() == list(range(10))


def test_coverage_of_a_text_with_an_end_that_truncation_never_reads(make, tiny_tokenizer):
    text = "children walk slowly " * 20_000
    n_tokens = tiny_tokenizer.encode_batch([text]).lengths[0] - 2
    vectorizer = make(XLMRobertaVectorizer).fit(["bird"])
    assert vectorizer.coverage([text])["n_dropped"].tolist() == [n_tokens - 62]


def test_coverage_of_pairs(make, tiny_tokenizer):
    pairs = [("я" * n, "б" * 9) for n in range(1, 40)]
    vectorizer = make(XLMRobertaVectorizer, max_length=17).fit(pairs)
    report = vectorizer.coverage(pairs)
    lengths = tiny_tokenizer.encode_batch(*zip(*pairs, strict=True)).lengths
    kept = tiny_tokenizer.encode_batch(*zip(*pairs, strict=True), max_length=17).lengths
    assert report["n_dropped"].tolist() == (lengths - kept).tolist() and report["n_dropped"].max() > 0


# Errors ---------------------------------------------------------------------------------------------------------------


@each
def test_stride_as_long_as_a_window(make, texts, estimator):
    said = "stride=14 must be less than the 14 tokens that max_length=16 leaves next to the special tokens"
    with pytest.raises(ValueError, match=said):
        make(estimator, long_text="window", stride=14, max_length=16).fit(texts, np.arange(48) % 2)
    make(estimator, stride=14, max_length=64).fit(texts, np.arange(48) % 2)  # not looked at when texts are cut


def test_pair_that_leaves_no_room(make, texts, tiny_tokenizer):
    pairs = [("bird", "house"), ("children " * 15, "slowly " * 30)]
    n = tiny_tokenizer.encode_batch(["children " * 15]).lengths[0] - 2
    said = (
        rf"shorter text must leave room .*: 'children children .* has {n} tokens, of the 12 that max_length=16 leaves"
    )
    with pytest.raises(ValueError, match=said):
        make(XLMRobertaVectorizer, long_text="window", max_length=16).fit(pairs)


def test_not_fitted():
    from sklearn.exceptions import NotFittedError

    with pytest.raises(NotFittedError):
        XLMRobertaVectorizer("skxlmr-mini").coverage(["a"])
