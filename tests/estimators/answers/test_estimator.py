"""Questions and contexts to answers: training, scikit-learn's tools, parameters, and folders."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.utils._param_validation import InvalidParameterError

from skxlmr import CheckpointError, XLMRobertaQuestionAnswerer, XLMRobertaVectorizer, load, save
from skxlmr.metrics import answer_exact_match_score, answer_f1_score
from tests.estimators.answers.questions import draw_rows, same_weights
from tests.estimators.conftest import weights_of

LEARNS = {"max_epochs": 12, "batch_size": 8, "learning_rate": 3e-3, "warmup_ratio": 0.1}


@pytest.fixture(scope="module")
def rows():
    return draw_rows(24)


@pytest.fixture(scope="module")
def long_rows():
    """Rows with contexts that need several windows of 30 tokens."""
    return draw_rows(8, seed=1, length=(14, 24))


@pytest.fixture(scope="module")
def fitted(make, rows):
    return make(XLMRobertaQuestionAnswerer).fit(*rows)


# Training -------------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::skxlmr.FitQualityWarning")  # a rate at which nothing is learnt
def test_learns_where_answers_are(make):
    X, y = draw_rows(160, seed=2)
    X_test, y_test = draw_rows(40, seed=3)
    answerer = make(XLMRobertaQuestionAnswerer, **LEARNS)
    before = clone(answerer).set_params(max_epochs=1, learning_rate=1e-9).fit(X, y).score(X_test, y_test)
    answerer.fit(X, y)
    assert answerer.loss_curve_[-1] < 0.5 * answerer.loss_curve_[0]
    assert before < 0.3 and answerer.score(X_test, y_test) > 0.5
    predicted = answerer.predict(X_test)
    assert predicted.dtype == object and set(map(type, predicted)) == {str}
    assert all(answer in row["context"] for answer, row in zip(predicted, X_test, strict=True))
    assert answerer.score(X_test, y_test) == answer_f1_score(y_test, predicted)
    assert answer_exact_match_score(y_test, predicted) <= answerer.score(X_test, y_test)
    assert answerer.n_truncated_ == 0 and answerer.n_features_in_ == 2


def test_one_step_is_that_of_transformers(make, still_checkpoint, tmp_path, long_rows):
    """A batch of all windows: its loss is that of the reference on the same windows, and the step changes the weights."""
    transformers = pytest.importorskip("transformers")
    X, y = long_rows
    settings = {"max_length": 30, "stride": 5, "batch_size": 64, "schedule": "constant", "max_grad_norm": None}
    answerer = make(XLMRobertaQuestionAnswerer, still_checkpoint, **settings)
    started = make(XLMRobertaQuestionAnswerer, still_checkpoint, **settings | {"learning_rate": 1e-20}).fit(X, y)
    save(started, tmp_path / "started")
    model = transformers.AutoModelForQuestionAnswering.from_pretrained(tmp_path / "started").eval()
    assert type(model).__name__ == "XLMRobertaForQuestionAnswering"
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "started")
    losses = []
    for question, answer in zip(X, y, strict=True):
        parts = tokenizer(
            question["question"], question["context"], truncation="only_second", max_length=30, stride=5,
            return_overflowing_tokens=True, return_offsets_mapping=True,
        )  # fmt: skip
        start, end = answer["answer_start"], answer["answer_start"] + len(answer["text"])
        for i, ids in enumerate(parts["input_ids"]):
            of_context = [k for k, kind in enumerate(parts.sequence_ids(i)) if kind == 1]
            touched = [
                k for k in of_context if parts["offset_mapping"][i][k][0] < end and parts["offset_mapping"][i][k][1] > start
            ]  # fmt: skip
            whole = touched and (
                parts["offset_mapping"][i][of_context[0]][0] <= start and parts["offset_mapping"][i][of_context[-1]][1] >= end
            )  # fmt: skip
            first, last = (touched[0], touched[-1]) if whole else (0, 0)
            positions = {"start_positions": torch.tensor([first]), "end_positions": torch.tensor([last])}
            losses.append(model(torch.tensor([ids]), **positions).loss)
    assert len(losses) > 1.5 * len(X)
    expected = torch.stack(losses).mean()
    assert started.loss_curve_[0] == pytest.approx(expected.item(), abs=1e-5)
    assert answerer.fit(X, y).loss_curve_ == started.loss_curve_
    assert not same_weights(weights_of(answerer), weights_of(started))


def test_weights_count_like_repeated_rows(make, still_checkpoint, rows):
    X, y = (values[:6] for values in rows)
    whole = {"batch_size": 64, "max_grad_norm": None}
    weighted = make(XLMRobertaQuestionAnswerer, still_checkpoint, **whole).fit(X, y, sample_weight=[2, 1, 1, 0, 1, 1])
    kept = [0, 0, 1, 2, 4, 5]
    repeated = make(XLMRobertaQuestionAnswerer, still_checkpoint, **whole).fit(
        [X[i] for i in kept], [y[i] for i in kept]
    )
    assert weighted.loss_curve_[0] == pytest.approx(repeated.loss_curve_[0], abs=1e-6)
    unweighted = make(XLMRobertaQuestionAnswerer, still_checkpoint, **whole).fit(X, y)
    assert abs(unweighted.loss_curve_[0] - weighted.loss_curve_[0]) > 1e-4


def test_early_stopping_scores_token_f1(make, rows):
    X, y = rows
    answerer = make(XLMRobertaQuestionAnswerer, max_epochs=2).fit(X, y, X_val=X[:5], y_val=y[:5])
    assert answerer.validation_scores_[-1] == pytest.approx(answerer.score(X[:5], y[:5]))
    stopped = make(XLMRobertaQuestionAnswerer, max_epochs=30, early_stopping=True, n_iter_no_change=1, tol=1.0).fit(
        X, y
    )
    assert stopped.n_iter_ == 2 and len(stopped.validation_scores_) == 2


def test_warm_start_continues(make, rows):
    answerer = make(XLMRobertaQuestionAnswerer, warm_start=True, max_epochs=3).fit(*rows)
    first = answerer.loss_curve_
    assert answerer.fit(*rows).loss_curve_[0] < first[0]


def test_segmentations_are_drawn(make, rows):
    drawn = make(XLMRobertaQuestionAnswerer, subword_sampling=0.1, max_epochs=2).fit(*rows)
    assert drawn.loss_curve_ != make(XLMRobertaQuestionAnswerer, max_epochs=2).fit(*rows).loss_curve_


@pytest.mark.parametrize("as_frames", [True, False])
def test_model_selection(make, rows, as_frames):
    X, y = rows
    if as_frames:
        X, y = pd.DataFrame(X), pd.DataFrame(y)
    search = GridSearchCV(make(XLMRobertaQuestionAnswerer), {"learning_rate": [1e-4, 3e-3]}, cv=2).fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.predict(X)) == len(X)
    scores = cross_val_score(make(XLMRobertaQuestionAnswerer), X, pd.Series(y) if not as_frames else y, cv=3)
    assert scores.shape == (3,) and np.isfinite(scores).all()


# Parameters -----------------------------------------------------------------------------------------------------------


def test_window_parameters_reach_the_encoding(fitted, long_rows):
    X = long_rows[0]
    scores = [
        fitted.set_params(max_length=max_length, stride=stride).no_answer_score(X)
        for max_length, stride in [(None, None), (32, None), (32, 8), (32, 2), (40, 8)]
    ]
    fitted.set_params(max_length=None, stride=None)
    np.testing.assert_array_equal(scores[1], scores[2])  # a quarter of 32
    for i, j in [(0, 1), (2, 3), (2, 4)]:
        assert np.abs(scores[i] - scores[j]).max() > 1e-4


def test_long_answers_are_found_when_allowed(fitted, rows):
    lengths = []
    for max_answer_length in (1, 4):
        spans = fitted.set_params(max_answer_length=max_answer_length).predict_spans(rows[0], n_best=100)
        lengths.append(max(span["end"] - span["start"] for row in spans for span in row))
    fitted.set_params(max_answer_length=15)
    assert lengths[1] > lengths[0]


@pytest.mark.parametrize(
    "params",
    [
        {"stride": -1},
        {"stride": 1.5},
        {"max_answer_length": 0},
        {"align_to_words": "yes"},
        {"allow_no_answer": None},
        {"no_answer_threshold": "low"},
        {"no_answer_threshold": float("inf")},
    ],
    ids=str,
)
def test_parameters_out_of_range(make, rows, params):
    (name,) = params
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter of XLMRobertaQuestionAnswerer must be"):
        make(XLMRobertaQuestionAnswerer, **params).fit(*rows)


# Folders --------------------------------------------------------------------------------------------------------------


def test_saved_folder_comes_back_and_opens_elsewhere(fitted, rows, tmp_path):
    X = rows[0]
    save(fitted, tmp_path / "saved")
    expected = fitted.predict_spans(X)
    assert load(tmp_path / "saved").predict_spans(X) == expected
    assert XLMRobertaQuestionAnswerer.from_checkpoint(tmp_path / "saved", dtype="float32").predict_spans(X) == expected
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["architectures"] == ["XLMRobertaForQuestionAnswering"]
    assert len(XLMRobertaVectorizer(tmp_path / "saved").fit_transform(["ein Vogel"])) == 1


def test_checkpoint_of_another_task(tiny_checkpoint):
    with pytest.raises(CheckpointError, match=r"no head for answers in a text: use XLMRobertaMaskedLM.from_checkpoint"):
        XLMRobertaQuestionAnswerer.from_checkpoint(tiny_checkpoint)


def test_fit_starts_a_new_head_and_says_so(make, fitted, rows, tmp_path):
    save(fitted, tmp_path / "saved")
    with pytest.warns(UserWarning, match="has a head of its own"):
        make(XLMRobertaQuestionAnswerer, tmp_path / "saved").fit(*rows)
