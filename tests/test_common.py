"""One contract over every estimator: what scikit-learn's tools and its users rely on."""

import doctest
import inspect
import pickle
import re

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.utils import get_tags

import skxlmr
from skxlmr import estimators
from skxlmr.estimators._xlm import XLMEstimator

ESTIMATORS = [getattr(estimators, name) for name in estimators.__all__]

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


def inputs(estimator):
    """X, y and names of the columns of X."""
    return INPUTS.get(estimator.__name__, (TEXTS, Y, ["text"]))


def each_that(holds):
    return pytest.mark.parametrize("estimator", list(filter(holds, ESTIMATORS)), ids=lambda cls: cls.__name__)


each = each_that(lambda cls: True)
each_of_texts = each_that(lambda cls: inputs(cls)[0] is TEXTS)
each_of_pairs = each_that(lambda cls: cls.__name__ not in INPUTS)  # and of texts


def is_older(estimator):
    """Whether the estimator is one of the older XLM, which has checkpoints of its own."""
    return issubclass(estimator, XLMEstimator)


@pytest.fixture(scope="module")
def nli_checkpoint(tiny_checkpoint, tmp_path_factory):
    """A checkpoint of natural language inference."""
    labels = ["contradiction", "entailment", "neutral"] * 2
    classifier = estimators.XLMRobertaClassifier(tiny_checkpoint, **FAST)
    folder = tmp_path_factory.mktemp("nli") / "checkpoint"
    skxlmr.save(classifier.fit(list(zip(TEXTS, TEXTS[::-1], strict=True)), labels), folder)
    return folder


@pytest.fixture
def make(tiny_checkpoint, request):
    def make(estimator, **params):
        checkpoint = request.getfixturevalue("tiny_xlm") if is_older(estimator) else tiny_checkpoint
        if estimator is estimators.XLMRobertaZeroShotClassifier:
            checkpoint = request.getfixturevalue("nli_checkpoint")
        fast = {name: value for name, value in FAST.items() if name in inspect.signature(estimator).parameters}
        return estimator(checkpoint, **fast | params)

    return make


def infer(estimator, X=None):
    X = inputs(type(estimator))[0] if X is None else X
    method = next(name for name in ("predict", "transform", "score_samples") if hasattr(estimator, name))
    return getattr(estimator, method)(X)


def parameters(estimator):
    return list(inspect.signature(estimator.__init__).parameters.values())[1:]


def test_all_are_public():
    assert set(estimators.__all__) <= set(skxlmr.__all__) and estimators.__all__ == sorted(estimators.__all__)
    assert all(getattr(skxlmr, name) is getattr(estimators, name) for name in estimators.__all__)


# Before fit -----------------------------------------------------------------------------------------------------------


@each
def test_init_only_assigns(estimator):
    values = {parameter.name: object() for parameter in parameters(estimator)}
    made = estimator(**values)
    assert vars(made) == values
    assert vars(estimator()) == {parameter.name: parameter.default for parameter in parameters(estimator)}


@each
def test_only_the_checkpoint_is_positional(estimator):
    first, *rest = parameters(estimator)
    default = "FacebookAI/xlm-mlm-en-2048" if is_older(estimator) else "FacebookAI/xlm-roberta-base"
    if estimator is estimators.XLMRobertaZeroShotClassifier:  # the base model has no head that knows entailment
        default = "joeddav/xlm-roberta-large-xnli"
    assert first.name == "checkpoint" and first.default == default
    assert {parameter.kind for parameter in rest} == {inspect.Parameter.KEYWORD_ONLY}


@each
def test_defaults_are_valid_and_constraints_complete(estimator):
    assert set(estimator._parameter_constraints) == {parameter.name for parameter in parameters(estimator)}
    estimator()._validate_params()


@each
def test_parameters_round_trip(estimator):
    made = estimator("somewhere", batch_size=7)
    params = made.get_params()
    assert params["batch_size"] == 7 and params["checkpoint"] == "somewhere"
    assert set(params) == {parameter.name for parameter in parameters(estimator)}
    other = estimator().set_params(**params)
    assert other.get_params() == params and clone(made).get_params() == params
    assert made.set_params(batch_size=8) is made and clone(made).batch_size == 8


@each
def test_repr_is_an_expression(estimator):
    made = estimator("folder", batch_size=3)
    assert repr(made) == f"{estimator.__name__}(batch_size=3, checkpoint='folder')"
    assert eval(repr(made), vars(skxlmr)).get_params() == made.get_params()
    assert estimator.__name__ in made._repr_html_()


@each
def test_unfitted_pickle_is_small(estimator):
    content = pickle.dumps(estimator())
    assert len(content) < 10_000
    assert pickle.loads(content).get_params() == estimator().get_params()


# Documentation --------------------------------------------------------------------------------------------------------


def entries(documentation, section):
    """Name -> (type line, text) of a numpydoc section."""
    body = re.split(r"\n(?:[A-Z][a-zA-Z ]+)\n-{3,}\n", inspect.cleandoc(documentation))
    titles = re.findall(r"\n([A-Z][a-zA-Z ]+)\n-{3,}\n", inspect.cleandoc(documentation))
    text = dict(zip(titles, body[1:], strict=True)).get(section, "")
    parts = re.split(r"^(\S.*?) : (.*)$", text, flags=re.MULTILINE)[1:]
    return {
        name: (parts[3 * i + 1], parts[3 * i + 2].strip())
        for i, names in enumerate(parts[::3])
        for name in names.split(", ")
    }


@each
def test_each_parameter_is_documented(estimator):
    documented = entries(estimator.__doc__, "Parameters")
    assert list(documented) == [parameter.name for parameter in parameters(estimator)]
    for parameter in parameters(estimator):
        kind, text = documented[parameter.name]
        assert kind.endswith(f"default={parameter.default!r}"), parameter.name
        assert len(text) > 10 and text.rstrip().endswith("."), parameter.name


@each
def test_each_fitted_attribute_is_documented(make, estimator):
    X, y, columns = inputs(estimator)
    fitted = make(estimator).fit(pd.DataFrame(X, columns=columns), y)
    documented = entries(estimator.__doc__, "Attributes")
    public = {name for name in vars(fitted) if name.endswith("_") and not name.startswith("_")}
    assert public == set(documented)
    assert all(text for _, text in documented.values())


@each
def test_each_public_method_is_documented(estimator):
    for name, method in inspect.getmembers(estimator, callable):
        if name.startswith("_") or not getattr(method, "__module__", "").startswith("skxlmr"):
            continue
        assert inspect.getdoc(method), name
        if name in ("fit", "predict", "transform"):
            wanted = [p for p in inspect.signature(method).parameters if p != "self"]
            assert list(entries(method.__doc__, "Parameters")) == wanted, name


@each
def test_examples_are_there_and_need_no_network(estimator):
    examples = doctest.DocTestParser().get_examples(estimator.__doc__)
    assert len(examples) >= 2 and any(example.want for example in examples)
    # no older XLM ships with the package: what needs one is shown, but not run
    source = "".join(example.source for example in examples if doctest.SKIP not in example.options)
    assert ("skxlmr-mini" in source) != is_older(estimator)
    paper = "arXiv:1901.07291" if is_older(estimator) else "arXiv:1911.02116"
    assert "References" in estimator.__doc__ and paper in estimator.__doc__


# Fit ------------------------------------------------------------------------------------------------------------------


@each
def test_fit_returns_self_and_keeps_parameters(make, estimator):
    made = make(estimator)
    params = dict(vars(made))
    assert made.fit(*inputs(estimator)[:2]) is made
    assert all(vars(made)[name] is value for name, value in params.items())
    learnt = set(vars(made)) - set(params)
    assert all(name.endswith("_") or name.startswith("_") for name in learnt)
    assert not made.module_.training
    assert {tensor.dtype for tensor in made.module_.parameters()} == {torch.float32}


@each
def test_fitting_again_is_fitting_anew(make, estimator):
    X, y, columns = inputs(estimator)
    made = make(estimator).fit(X, y)
    first = infer(made)
    np.testing.assert_array_equal(infer(made.fit(X[::-1], y).fit(X, y)), first)
    np.testing.assert_array_equal(infer(clone(made).fit(X, y)), first)
    assert made.n_features_in_ == len(columns) and not hasattr(made, "feature_names_in_")


@each
def test_pickle_of_a_fitted_estimator(make, estimator):
    made = make(estimator).fit(*inputs(estimator)[:2])
    np.testing.assert_array_equal(infer(pickle.loads(pickle.dumps(made))), infer(made))


@each_of_pairs
def test_columns_and_their_names(make, estimator):
    made = make(estimator).fit(pd.DataFrame({"review": TEXTS}), Y)
    assert made.n_features_in_ == 1 and made.feature_names_in_.tolist() == ["review"]
    with pytest.raises(ValueError, match="feature names should match"):
        infer(made, pd.DataFrame({"title": TEXTS}))
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        infer(made, TEXTS)
    pairs = pd.DataFrame({"a": TEXTS, "b": TEXTS[::-1]})
    made.fit(pairs, Y)
    assert made.n_features_in_ == 2 and made.feature_names_in_.tolist() == ["a", "b"]
    assert len(infer(made, pairs)) == 6


CONTAINERS = {
    "tuple": tuple,
    "array": np.array,
    "object array": lambda X: np.array(X, dtype=object),
    "StringDType": lambda X: np.array(X, dtype=np.dtypes.StringDType()),
    "Series": lambda X: pd.Series(X, index=range(50, 56)),
    "string Series": lambda X: pd.Series(X, dtype="string"),
    "categorical Series": lambda X: pd.Series(X, dtype="category"),
    "DataFrame": lambda X: pd.DataFrame({"text": X}, index=list("fedcba")),
    "polars Series": pl.Series,
    "polars DataFrame": lambda X: pl.DataFrame({"text": X}),
    "arrow array": pa.array,
    "arrow chunks": lambda X: pa.chunked_array([X[:2], X[2:]]),
    "arrow table": lambda X: pa.table({"text": X}),
}


@each_of_texts
def test_containers_make_no_difference(make, estimator):
    y = inputs(estimator)[1]
    expected = infer(make(estimator).fit(TEXTS, y))
    for name, container in CONTAINERS.items():
        X = container(TEXTS)
        before = pickle.dumps(X)
        found = infer(make(estimator).fit(X, np.array(y)), X)
        np.testing.assert_array_equal(found, expected, err_msg=name)
        assert pickle.dumps(X) == before, name


@each_of_pairs
def test_pairs_in_any_container(make, estimator):
    pairs = list(zip(TEXTS, TEXTS[::-1], strict=True))
    expected = infer(make(estimator).fit(pairs, Y), pairs)
    for X in (
        np.array(pairs),
        pd.DataFrame(pairs, columns=["a", "b"]),
        pl.DataFrame(pairs, schema=["a", "b"], orient="row"),
    ):
        np.testing.assert_array_equal(infer(make(estimator).fit(X, Y), X), expected)


@each
def test_tags(estimator):
    tags = get_tags(estimator())
    assert tags.input_tags.string and not tags.input_tags.two_d_array and not tags.input_tags.allow_nan
    assert tags.requires_fit and not tags.no_validation
    # scikit-learn looks for the classes of a classifier's targets, which ragged ones do not have
    is_tagger = estimator is skxlmr.XLMRobertaTokenClassifier
    assert is_classifier(estimator()) == (hasattr(estimator, "predict_proba") and not is_tagger)
    has_other_targets = hasattr(estimator, "predict_proba") or estimator is skxlmr.XLMRobertaQuestionAnswerer
    assert is_regressor(estimator()) == (hasattr(estimator, "predict") and not has_other_targets)
    assert tags.target_tags.required == hasattr(estimator, "predict")
    assert (tags.transformer_tags is not None) == hasattr(estimator, "transform")
