"""scikit-learn's own checks, which leave text estimators out: run through an adapter that turns rows of numbers into texts."""

import unittest

import numpy as np
import pytest
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn.utils.validation import validate_data

from skxlmr import (
    XLMRobertaCausalLM,
    XLMRobertaClassifier,
    XLMRobertaMaskedLM,
    XLMRobertaRegressor,
    XLMRobertaVectorizer,
)
from skxlmr.utils._validation import Texts
from tests.tiny import write_checkpoint


class FromNumbers:
    """Reads each row of numbers as the text that spells them."""

    def _check_X(self, X, reset, name="X"):
        X = validate_data(self, X, reset=reset, dtype=np.float64)
        self._series_name = None
        return Texts([" ".join(f"{value:.2g}" for value in row) for row in X])

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.two_d_array = False, True
        for kind in (tags.classifier_tags, tags.regressor_tags):
            if kind is not None:
                kind.poor_score = True
        return tags


class NumberClassifier(FromNumbers, XLMRobertaClassifier):
    pass


class NumberRegressor(FromNumbers, XLMRobertaRegressor):
    pass


class NumberVectorizer(FromNumbers, XLMRobertaVectorizer):
    pass


class NumberMaskedLM(FromNumbers, XLMRobertaMaskedLM):
    pass


class NumberCausalLM(FromNumbers, XLMRobertaCausalLM):
    pass


@pytest.fixture(scope="module")
def smallest_checkpoint(tmp_path_factory, tiny_tokenizer):
    geometry = {"hidden_size": 8, "num_hidden_layers": 1, "intermediate_size": 8, "max_position_embeddings": 400}
    return write_checkpoint(tmp_path_factory.mktemp("smallest") / "checkpoint", tiny_tokenizer, **geometry)


# Weighted and repeated rows make sums in another order, and AdamW in float32 shows that far above the 1e-7 asked for.
ROUNDING = {"check_sample_weight_equivalence_on_dense_data"}
NOT_HELD = {
    NumberClassifier: ROUNDING,
    NumberRegressor: ROUNDING | {"check_regressor_multioutput"},  # asks for float64 where ours is float32
    NumberVectorizer: set(),
    NumberMaskedLM: ROUNDING,
    NumberCausalLM: set(),
}
N_HELD = {NumberClassifier: 66, NumberRegressor: 57, NumberVectorizer: 45, NumberMaskedLM: 51, NumberCausalLM: 47}


@pytest.mark.parametrize("estimator", N_HELD, ids=lambda cls: cls.__bases__[1].__name__)
def test_checks_of_scikit_learn(smallest_checkpoint, estimator):
    params = {"max_epochs": 1, "warmup_ratio": 0.0, "learning_rate": 1e-3, "batch_size": 64, "random_state": 0}
    made = estimator(smallest_checkpoint, dtype="float32", **params if estimator is not NumberVectorizer else {})
    n_held, failed = 0, {}
    for instance, check in estimator_checks_generator(made):
        try:
            check(instance)
            n_held += 1
        except unittest.SkipTest:  # needs an environment variable for array API input, which texts are not
            pass
        except Exception as error:  # whatever a check may raise is told below by the check's name
            failed[check.func.__name__] = error
    unexpected = {name: error for name, error in failed.items() if name not in NOT_HELD[estimator]}
    assert not unexpected
    assert set(failed) == NOT_HELD[estimator]
    assert n_held >= N_HELD[estimator], "fewer of scikit-learn's checks ran than before"
