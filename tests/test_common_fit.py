"""One contract over every estimator: what fit learns, keeps and leaves alone."""

import copy
import pickle
import random
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags

import skxlmr
from tests.contract import answers, each, each_of_pairs, each_that_trains, infer, inputs, methods_of, n_features
from tests.test_common import entries


@each
def test_fit_returns_self_and_keeps_parameters(make_any, estimator):
    made = make_any(estimator)
    params = dict(vars(made))
    assert made.fit(*inputs(estimator)[:2]) is made
    assert all(vars(made)[name] is value for name, value in params.items())
    learnt = set(vars(made)) - set(params)
    assert all(name.endswith("_") or name.startswith("_") for name in learnt)
    assert not made.module_.training
    assert {tensor.dtype for tensor in made.module_.parameters()} == {torch.float32}


@each
def test_each_fitted_attribute_is_documented(make_any, estimator):
    X, y, columns = inputs(estimator)
    made = make_any(estimator).fit(pd.DataFrame(X, columns=columns), y)
    documented = entries(estimator.__doc__, "Attributes")
    public = {name for name in vars(made) if name.endswith("_") and not name.startswith("_")}
    properties = {name for name in dir(estimator) if name.endswith("_") and not name.startswith("_")}
    assert public == set(documented) - properties
    assert all(name in estimator.__doc__ for name in properties)
    assert all(text for _, text in documented.values())


@each
def test_fitting_again_is_fitting_anew(make_any, estimator):
    X, y, _ = inputs(estimator)
    made = make_any(estimator).fit(X, y)
    first = infer(made)
    np.testing.assert_array_equal(infer(made.fit(X[::-1], y).fit(X, y)), first)
    np.testing.assert_array_equal(infer(clone(made).fit(X, y)), first)
    assert getattr(made, "n_features_in_", None) == n_features(estimator) and not hasattr(made, "feature_names_in_")


@each
def test_a_search_over_folds(make_any, estimator):
    """Rows of any kind are cut into folds, and every split is scored."""
    X, y, columns = inputs(estimator)
    for rows in (X, pd.DataFrame(X, columns=columns, index=range(10, 16))):
        made, name = make_any(estimator), "batch_size"
        if estimator.__name__ == "XLMRobertaEmbedder":  # two rows of a step are too few to compare
            made.set_params(accumulate=2)
        if not hasattr(estimator, "score"):
            made, name = make_pipeline(made, LogisticRegression()), f"{estimator.__name__.lower()}__batch_size"
        search = GridSearchCV(made, {name: [2]}, cv=2, error_score="raise").fit(rows, y)
        assert np.isfinite(search.cv_results_["mean_test_score"]).all() and search.best_params_ == {name: 2}


@each_that_trains
def test_random_state_decides(make_any, estimator):
    X, y, _ = inputs(estimator)

    def losses(seed):
        return make_any(estimator, random_state=seed).fit(X, y).loss_curve_

    assert losses(1) == losses(1) == losses(np.random.RandomState(1)) != losses(2)


@each
def test_copies_answer_alike(fitted, estimator):
    made = fitted(estimator)
    expected = infer(made)
    for other in (pickle.loads(pickle.dumps(made)), copy.copy(made), copy.deepcopy(made)):
        np.testing.assert_array_equal(infer(other), expected)


# What only some have, and what may be asked of it
OF_SOME = {
    "coverage": (["a text"],),
    "fill_mask": (["a <mask>"],),
    "generate": (["a text"],),
    "get_feature_names_out": (),
    "perplexity": (["a text"],),
    "rank_responses": ([[("user", "a text")]], ["an answer"]),
}


@each
def test_nothing_is_answered_before_fit(make_any, estimator):
    X, y, _ = inputs(estimator)
    made = make_any(estimator)
    stateless = not get_tags(made).requires_fit
    for name in [] if stateless else methods_of(made):
        with pytest.raises(NotFittedError, match=f"This {estimator.__name__} instance is not fitted yet"):
            getattr(made, name)(X)
    if hasattr(made, "score"):
        with pytest.raises(NotFittedError):
            made.score(X, y)
    for name in filter(partial(hasattr, made), OF_SOME):
        with pytest.raises(NotFittedError):
            getattr(made, name)(*OF_SOME[name])
    if not stateless:
        with pytest.raises(NotFittedError):
            answers(clone(made.fit(X, y)), X)


@each_of_pairs
def test_columns_and_their_names(make_any, estimator):
    made = make_any(estimator).fit(*_frame(estimator, ["review"]))
    assert made.n_features_in_ == 1 and made.feature_names_in_.tolist() == ["review"]
    with pytest.raises(ValueError, match="feature names should match"):
        infer(made, _frame(estimator, ["title"])[0])
    with pytest.raises(ValueError, match=r"Feature names unseen at fit time:\n- price"):  # and not that 1 is no text
        infer(made, _frame(estimator, ["review"])[0].assign(price=1))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        infer(made, inputs(estimator)[0])
    made.fit(*_frame(estimator, ["a", "b"]))
    assert made.n_features_in_ == 2 and made.feature_names_in_.tolist() == ["a", "b"]
    with pytest.raises(ValueError, match=r"X has texts \(1 column\), but .* was fitted on pairs of texts"):
        infer(made, inputs(estimator)[0])


def _frame(estimator, columns):
    X, y, _ = inputs(estimator)
    return pd.DataFrame({name: X[::step] for name, step in zip(columns, (1, -1), strict=False)}), y


@each
def test_names_of_the_columns_of_a_frame(make_any, estimator):
    X, y, columns = inputs(estimator)
    made = make_any(estimator).fit(pd.DataFrame(X, columns=columns), y)
    assert made.n_features_in_ == len(columns) and made.feature_names_in_.tolist() == columns
    table = pd.DataFrame(X, columns=columns)
    with pytest.raises(ValueError, match="feature names should match"):
        infer(made, table.rename(columns={columns[0]: "other"}))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        infer(made, X)
    with pytest.warns(UserWarning, match="X has feature names, but"):
        infer(made.fit(X, y), table)
    assert getattr(made, "n_features_in_", None) == n_features(estimator) and not hasattr(made, "feature_names_in_")


def around():
    """What belongs to the whole process."""
    return {
        "torch generator": torch.get_rng_state().tolist(),
        "numpy generator": pickle.dumps(np.random.get_state()),
        "python generator": random.getstate(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "warning filters": list(warnings.filters),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "torch defaults": (torch.get_default_dtype(), torch.are_deterministic_algorithms_enabled()),
        "matrix products": (torch.get_float32_matmul_precision(), torch.backends.mkldnn.enabled),
        "float errors": np.geterr(),
    }


@each
def test_the_process_is_left_as_it_was(make_any, threads_stay, estimator):
    X, y, _ = inputs(estimator)
    torch.optim.AdamW([torch.zeros(1)])  # the first one of a process imports sympy, which adds a filter of its own
    before = around()
    made = make_any(estimator).fit(X, y)
    if hasattr(made, "partial_fit"):
        made.partial_fit(X, y)
    answers(made, X)
    assert around() == before


@each_that_trains
def test_weights_that_are_all_zero_are_refused_by_name(make_any, estimator):
    X, y, _ = inputs(estimator)
    with pytest.raises(ValueError, match="sample_weight is zero for all 6 rows"):
        make_any(estimator).fit(X, y, sample_weight=np.zeros(6))
    with pytest.raises(ValueError, match="Negative values in data passed to `sample_weight`"):
        make_any(estimator).fit(X, y, sample_weight=[1, 1, -1, 1, 1, 1])


def test_zero_shot_classifier_trains_nothing(fitted):
    made = fitted(skxlmr.XLMRobertaZeroShotClassifier)
    assert not hasattr(made, "partial_fit") and not hasattr(made, "loss_curve_")
