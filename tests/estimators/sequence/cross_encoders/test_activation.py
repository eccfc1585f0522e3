"""The activation is that of predictions and scores; the loss never sees one, so that a fit asks for the identity."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.metrics import r2_score

from skxlmr import XLMRobertaRegressor, load, save
from tests.cross_encoders import write
from tests.estimators.sequence.cross_encoders.layouts import PAIRS, ours

Y = np.linspace(0, 1, len(PAIRS))
pytestmark = pytest.mark.filterwarnings("ignore:.*were cut", "ignore:.*head of its own", "ignore:.*did not")


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    return write(tmp_path / "published", tiny_checkpoint)


def test_scores_are_of_activated_values(folder):
    scorer, logits = ours(folder), ours(folder, activation="identity")
    np.testing.assert_allclose(scorer.predict(PAIRS), expit(logits.predict(PAIRS)), atol=1e-6)
    assert scorer.score(PAIRS, Y) == r2_score(Y, scorer.predict(PAIRS))
    assert scorer.set_params(activation="identity").score(PAIRS, Y) == logits.score(PAIRS, Y)


def test_the_attribute_is_known_once_there_is_a_model(folder):
    with pytest.raises(AttributeError, match="activation_ is known once the checkpoint is open"):
        _ = XLMRobertaRegressor(folder).activation_
    assert clone(ours(folder)).activation == "auto" and not hasattr(clone(ours(folder)), "activation_")


def test_wrong_words(folder):
    with pytest.raises(ValueError, match="'activation' parameter"):
        ours(folder, activation="tanh")
    with pytest.raises(TypeError, match="did you mean 'activation'"):
        ours(folder, activation_fn="sigmoid")


def test_a_fit_predicts_in_the_units_of_y(make, folder):
    regressor = make(XLMRobertaRegressor, folder).fit(PAIRS, Y + 100)
    assert regressor.activation_ == "identity" and regressor.predict(PAIRS).min() > 1
    for explicit in ("identity", "auto"):
        twin = make(XLMRobertaRegressor, folder, activation=explicit).fit(PAIRS, Y + 100)
        np.testing.assert_array_equal(twin.predict(PAIRS), regressor.predict(PAIRS))


def test_a_fit_after_the_checkpoint_was_opened_forgets_its_activation(make, folder):
    regressor = ours(folder, max_epochs=1, random_state=0, learning_rate=3e-3, warmup_ratio=0.0, batch_size=16)
    assert regressor.activation_ == "sigmoid"
    regressor.fit(PAIRS, Y + 100)
    assert regressor.activation_ == "identity"
    np.testing.assert_array_equal(
        regressor.predict(PAIRS), make(XLMRobertaRegressor, folder).fit(PAIRS, Y + 100).predict(PAIRS)
    )


def test_training_with_an_activation_is_refused(make, folder):
    reason = "put them through activation='sigmoid': set activation='identity' to train on numbers, or fit an"
    with pytest.raises(ValueError, match=reason):
        make(XLMRobertaRegressor, folder, activation="sigmoid").fit(PAIRS, Y)
    scorer = ours(folder, warm_start=True, learning_rate=1e-9, max_epochs=1)
    before = scorer.predict(PAIRS)
    for train in (scorer.fit, scorer.partial_fit):
        with pytest.raises(ValueError, match=reason):
            train(PAIRS, Y)
    np.testing.assert_array_equal(scorer.predict(PAIRS), before)
    assert scorer.activation_ == "sigmoid"
    scorer.set_params(activation="identity").partial_fit(PAIRS, Y)
    np.testing.assert_allclose(expit(scorer.predict(PAIRS)), before, atol=1e-4)


def test_what_was_chosen_is_saved(folder, tmp_path):
    scorer = ours(folder, activation="identity")
    save(scorer, tmp_path / "saved")
    again = load(tmp_path / "saved")
    assert again.activation == again.activation_ == "identity"
    assert again.set_params(activation="auto").activation_ == "identity"  # the folder says so now


def test_a_prompt_is_read_in_fits_too(make, tiny_checkpoint, tmp_path):
    prompted = make(XLMRobertaRegressor, prompt="river: ").fit(PAIRS, Y)
    by_hand = make(XLMRobertaRegressor).fit([("river: " + first, second) for first, second in PAIRS], Y)
    expected = by_hand.predict([("river: " + first, second) for first, second in PAIRS])
    np.testing.assert_array_equal(prompted.predict(PAIRS), expected)
    save(prompted, tmp_path / "saved")
    np.testing.assert_array_equal(load(tmp_path / "saved").predict(PAIRS), expected)
    with pytest.raises(ValueError, match="prompt='river' is not the name of one of the checkpoint's prompts"):
        make(XLMRobertaRegressor, prompt="river").fit(PAIRS, Y)
