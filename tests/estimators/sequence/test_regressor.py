"""The regressor: targets in their units, one or several, and warm starts that continue where the last fit ended."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_score

from skxlmr import XLMRobertaRegressor, save
from tests.estimators.conftest import LEARNS, padded


def n_words(texts):
    """The toy task: how many words there are, far from zero and of another scale than one."""
    return 1000.0 + 20 * np.array([len(text.split()) for text in texts])


@pytest.fixture(scope="module")
def lengths(texts):
    return n_words(texts)


def test_learns_a_toy_task_in_its_units(make, still_checkpoint, many):
    X, y = many[0], n_words(many[0])
    regressor = make(XLMRobertaRegressor, still_checkpoint, **LEARNS).fit(X[:96], y[:96])
    predicted = regressor.predict(X[96:])
    assert predicted.shape == (32,) and predicted.dtype == np.float32
    assert r2_score(y[96:], predicted) > 0.4
    assert regressor.score(X[96:], y[96:]) == pytest.approx(r2_score(y[96:], predicted))
    assert regressor.loss_curve_[0] < 3  # in variances of y
    assert regressor.loss_curve_[-1] < 0.5 * regressor.loss_curve_[0]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_scale_and_place_of_y_do_not_matter(make, texts, lengths, scale):
    plain = make(XLMRobertaRegressor, max_epochs=2).fit(texts, lengths)
    scaled = make(XLMRobertaRegressor, max_epochs=2).fit(texts, lengths * scale - 3 * scale)
    np.testing.assert_allclose(scaled.loss_curve_, plain.loss_curve_, rtol=1e-4)
    back = scaled.predict(texts).astype(float) / scale + 3
    np.testing.assert_allclose(back, plain.predict(texts), rtol=1e-4)


def test_first_predictions_lie_around_the_mean(make, texts, lengths):
    regressor = make(XLMRobertaRegressor, learning_rate=1e-9).fit(texts, lengths)
    assert np.abs(regressor.predict(texts) - lengths.mean()).max() < 3 * lengths.std()


def test_rows_that_weigh_nothing_do_not_move_the_scale(make, still_checkpoint, texts, lengths):
    weight, wrong = np.repeat([1.0, 0.0], [32, 16]), np.r_[lengths[:32], np.full(16, 1e6)]
    clean = make(XLMRobertaRegressor, still_checkpoint, batch_size=48).fit(texts[:32], lengths[:32])
    polluted = make(XLMRobertaRegressor, still_checkpoint, batch_size=48).fit(texts, wrong, weight)
    assert polluted.loss_curve_ == pytest.approx(clean.loss_curve_, rel=1e-4)
    np.testing.assert_allclose(polluted.predict(texts), clean.predict(texts), rtol=1e-4)


def test_shape_of_y_is_the_shape_of_predictions(make, texts, lengths):
    column = make(XLMRobertaRegressor).fit(texts, lengths[:, None])
    assert column.n_outputs_ == 1 and column.predict(texts).shape == (48, 1)
    flat = make(XLMRobertaRegressor).fit(texts, lengths.tolist())
    np.testing.assert_array_equal(flat.predict(texts), column.predict(texts)[:, 0])
    several = np.stack([lengths, -lengths / 7, np.arange(48) % 4], axis=1)
    regressor = make(XLMRobertaRegressor).fit(texts, pd.DataFrame(several, columns=list("abc")))
    assert regressor.n_outputs_ == 3 and regressor.predict(texts).shape == (48, 3)
    assert np.abs(regressor.predict(texts).mean(0) - several.mean(0)).max() < 20


def test_constant_target(make, texts):
    y = np.stack([np.full(48, 5.1), np.arange(48.0)], axis=1)
    regressor = make(XLMRobertaRegressor, max_epochs=3).fit(texts, y)
    assert np.abs(regressor.predict(texts)[:, 0] - 5.1).max() < 1.5


def test_numbers_far_from_zero_are_told_of(make, texts, lengths):
    """Beside 1e9 float32 has steps of 64: all that was learnt would be rounded away."""
    far = 1e9 + lengths / 100
    said = r"^y has a mean of 1e\+09 and a standard deviation of .*: subtract a constant from y, such as its mean"
    for call in (make(XLMRobertaRegressor).fit, make(XLMRobertaRegressor).partial_fit):
        with pytest.warns(UserWarning, match=said):
            fitted = call(texts, far)
    fitted.partial_fit(texts, far)  # in the units of the first call
    with pytest.warns(UserWarning, match="^y column 1 has a mean of -1e"):
        make(XLMRobertaRegressor).fit(texts, np.stack([lengths, -far], axis=1))
    for near in (1e9 + lengths * 1e4, np.full(48, 1e9), np.full(48, 1e9 + 0.1)):
        make(XLMRobertaRegressor).fit(texts, near)
    predicted = make(XLMRobertaRegressor).fit(texts, far - far.mean()).predict(texts).astype(float) + far.mean()
    expected = make(XLMRobertaRegressor).fit(texts, lengths).score(texts, lengths)
    assert r2_score(far, predicted) == pytest.approx(expected, abs=1e-3) and fitted.score(texts, far) < expected - 1


def test_numbers_that_differ_by_little_are_not_taken_for_equal_ones(make, texts):
    """Such as times in nanoseconds: the loss would be that of numbers that are not standardised."""
    times = 1_700_000_000_000_000_000 + 1000 * np.arange(48)
    with pytest.warns(UserWarning, match="^y has a mean of 1.7e"):
        fitted = make(XLMRobertaRegressor).fit(texts, times)
    assert fitted.loss_curve_[0] < 3


def test_numbers_too_small_for_float32_are_refused(make, texts):
    y = np.stack([np.zeros(48), np.arange(48) * 1e-60], axis=1)
    with pytest.raises(ValueError, match=r"^y column 1 differs by less than float32 can hold: multiply it"):
        make(XLMRobertaRegressor).fit(texts, y)


def test_half_precision_keeps_the_digits_of_predictions(make, texts, lengths):
    """Beside 1e5 bfloat16 has steps of 512."""
    regressor = make(XLMRobertaRegressor).fit(texts, 1e5 + lengths)
    expected = regressor.predict(texts)
    found = regressor.set_params(dtype="bfloat16").predict(texts)
    assert 0 < np.abs(found - expected).max() < 0.1 * lengths.std()


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_transformers_loads_the_saved_folder(make, reference, tmp_path, texts, lengths, n_outputs):
    y = lengths if n_outputs == 1 else np.stack([lengths, -lengths], axis=1)
    regressor = make(XLMRobertaRegressor, max_epochs=2).fit(texts, y)
    save(regressor, tmp_path / "saved")
    model = reference("AutoModelForSequenceClassification", tmp_path / "saved")
    assert model.config.problem_type == "regression" and model.config.num_labels == n_outputs
    with torch.no_grad():
        expected = model(**padded(regressor.tokenizer_, texts)).logits.numpy()
    np.testing.assert_allclose(regressor.predict(texts).reshape(48, -1), expected, rtol=1e-5, atol=1e-3)


def test_warm_start_continues_where_the_last_fit_ended(make, texts, lengths):
    regressor = make(XLMRobertaRegressor, **LEARNS, warm_start=True)
    regressor.fit(texts, lengths)
    before, loss = regressor.predict(texts), regressor.loss_curve_[-1]
    still = regressor.set_params(learning_rate=1e-9, max_epochs=1).fit(texts, lengths)
    np.testing.assert_allclose(still.predict(texts), before, rtol=1e-5)
    assert still.loss_curve_[0] < 1.5 * loss
    # other targets are read in the units of the first fit
    moved = still.set_params(**LEARNS).fit(texts, lengths + 100)
    assert moved.predict(texts).mean() > before.mean() + 30


def test_warm_start_keeps_the_number_of_targets(make, texts, lengths):
    regressor = make(XLMRobertaRegressor, warm_start=True).fit(texts, lengths)
    with pytest.raises(ValueError, match="y has 2 targets, but the regressor was fitted on 1"):
        regressor.fit(texts, np.stack([lengths, lengths], axis=1))


def test_validation_scores_are_r2(make, texts, lengths):
    regressor = make(XLMRobertaRegressor, max_epochs=2).fit(
        texts[:36], lengths[:36], X_val=texts[36:], y_val=lengths[36:]
    )
    assert len(regressor.validation_scores_) == 2
    assert regressor.validation_scores_[-1] == pytest.approx(regressor.score(texts[36:], lengths[36:]), abs=1e-4)


def test_pairs_and_cross_validation(make, texts, lengths):
    pairs = pd.DataFrame({"a": texts, "b": texts[::-1]})
    scores = cross_val_score(make(XLMRobertaRegressor), pairs, lengths, cv=2, error_score="raise")
    assert scores.shape == (2,) and np.isfinite(scores).all()


def test_dates_are_refused_in_fit_and_score(make, texts):
    dates = pd.Series(pd.date_range("2020", periods=len(texts)))
    for y in (dates, dates - dates[0]):
        with pytest.raises(ValueError, match=r"y holds (dates|durations) .* convert them first"):
            make(XLMRobertaRegressor).fit(texts, y)
        with pytest.raises(ValueError, match="sample_weight holds"):
            make(XLMRobertaRegressor).fit(texts, np.ones(len(texts)), sample_weight=y)


@pytest.mark.parametrize("dtype", ["Int64", "float64[pyarrow]", "category", "object"])
def test_what_fit_reads_is_scored(dtype):
    regressor = XLMRobertaRegressor()
    regressor.predict = lambda X: np.array([1.0, 2.0, 4.0])
    y = pd.Series([1, 2, 3])
    assert regressor.score("abc", y.astype(dtype)) == regressor.score("abc", y)
    assert regressor.score("abc", pd.DataFrame({"y": y}).astype(dtype)) == regressor.score("abc", y)
