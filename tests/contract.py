"""What the contract over every estimator runs on: rows of each kind, and small helpers."""

import copy
import inspect
from itertools import pairwise

import numpy as np
import pytest

from skxlmr import all_estimators
from skxlmr.estimators._xlm.family import XLM

ESTIMATORS = [cls for _, cls in all_estimators()]

TEXTS = ["the bird sings", "das Haus", "река птица", "κόκκινο σπίτι", "children walk slowly", "ein Vogel läuft"]
Y = [0, 1] * 3
SPANS = [[(0, 3, "word")], [], [], [], [], [(0, 3, "word")]]
# X, y and names of columns of those that are not fitted on plain texts or pairs with any labels
INPUTS = {
    "XLMRobertaDialogueLM": (
        [{"turns": [("user", a), ("system", b)]} for a, b in zip(TEXTS, TEXTS[::-1], strict=True)],
        Y,
        ["turns"],
    ),
    "XLMRobertaCausalLM": (TEXTS, None, ["text"]),
    "XLMRobertaEmbedder": (TEXTS, Y, ["text"]),
    "XLMRobertaMultipleChoiceClassifier": ([(text, TEXTS[:2]) for text in TEXTS], Y, ["prompt", "choices"]),
    "XLMRobertaQuestionAnswerer": (
        [(text, TEXTS[0]) for text in TEXTS],
        ["bird"] * 6,
        ["question", "context"],
    ),
    "XLMRobertaZeroShotClassifier": (TEXTS, ["art", "sport"] * 3, ["text"]),
    "XLMRobertaTokenClassifier": (TEXTS, np.fromiter(SPANS, object), ["text"]),
}
FAST = {"max_epochs": 1, "warmup_ratio": 0.0, "learning_rate": 3e-3, "dtype": "float32", "random_state": 0}
# What a fitted estimator offers for rows of X, one answer a row
METHODS = (
    "predict",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "transform",
    "score_samples",
    "predict_spans",
    "no_answer_score",
    "predict_entities",
)


def inputs(estimator):
    """X, y and names of the columns of X, of their own for each caller."""
    return copy.deepcopy(INPUTS.get(estimator.__name__, (TEXTS, Y, ["text"])))


def each_that(holds):
    return pytest.mark.parametrize("estimator", list(filter(holds, ESTIMATORS)), ids=lambda cls: cls.__name__)


def takes_texts(estimator):
    return inputs(estimator)[0] == TEXTS


def n_features(estimator):
    """What `n_features_in_` is after a fit on these rows: texts in one dimension have none."""
    in_one_dimension = takes_texts(estimator) and estimator.__name__ != "XLMRobertaTokenClassifier"
    return None if in_one_dimension else len(inputs(estimator)[2])


def takes_pairs(estimator):
    """And texts."""
    return estimator.__name__ not in INPUTS


def is_original_xlm(estimator):
    """Whether the estimator is one of the original XLM, which has its own checkpoints."""
    return estimator._family is XLM


each = each_that(lambda cls: True)
each_of_texts = each_that(takes_texts)
each_of_pairs = each_that(takes_pairs)
each_that_trains = each_that(lambda cls: hasattr(cls, "partial_fit"))


def parameters(estimator):
    return list(inspect.signature(estimator.__init__).parameters.values())[1:]


def methods_of(estimator):
    """Names of those of METHODS that the estimator has."""
    return [name for name in METHODS if hasattr(estimator, name)]


def infer(estimator, X=None):
    """What the first of its methods gives."""
    X = inputs(type(estimator))[0] if X is None else X
    return getattr(estimator, methods_of(estimator)[0])(X)


def answers(estimator, X):
    """What each of its methods gives, a list of one answer a row."""
    return {name: list(getattr(estimator, name)(X)) for name in methods_of(estimator)}


def assert_same(found, expected, where=""):
    """Equal, and numbers but for rounding: other neighbours in a batch may add up in another order."""
    if isinstance(expected, list | tuple):
        assert len(found) == len(expected), where
        for i, (a, b) in enumerate(zip(found, expected, strict=True)):
            assert_same(a, b, f"{where}[{i}]")
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_same(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, float | np.floating) or getattr(expected, "dtype", np.dtype(int)).kind == "f":
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=where)
    else:
        assert np.array_equal(found, expected), f"{where}: {found!r} and not {expected!r}"


def parts(X, size):
    """X cut into pieces of so many rows."""
    return [X[a:b] for a, b in pairwise([*range(0, len(X), size), len(X)])]
