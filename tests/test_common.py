"""One contract over every estimator, before and beside fit: construction, parameters, tags, texts that describe it.

The other parts of the contract are in test_common_fit.py and test_common_rows.py.
"""

import doctest
import inspect
import pickle
import re
import time
from dataclasses import fields, is_dataclass, replace
from email.message import Message

import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import check_param_validation

import skxlmr
from skxlmr import all_estimators, estimators
from skxlmr.checkpoints import on_meta
from tests.contract import ESTIMATORS, each, is_original_xlm, parameters


def test_all_are_public():
    assert set(estimators.__all__) <= set(skxlmr.__all__) and estimators.__all__ == sorted(estimators.__all__)
    assert all(getattr(skxlmr, name) is getattr(estimators, name) for name in estimators.__all__)


def test_all_are_discovered():
    named = {name for name in skxlmr.__all__ if isinstance(getattr(skxlmr, name), type)}
    assert {name for name, _ in all_estimators()} == {n for n in named if issubclass(getattr(skxlmr, n), BaseEstimator)}
    of_kind = {kind: {name for name, _ in all_estimators(kind)} for kind in ("classifier", "regressor", "transformer")}
    assert of_kind["regressor"] == {"XLMRobertaRegressor"}
    assert of_kind["classifier"] > {"XLMClassifier", "XLMRobertaZeroShotClassifier"}
    assert of_kind["transformer"] > {"XLMVectorizer", "XLMRobertaMaskedLM"}
    both = [name for name, _ in all_estimators(["regressor", "transformer"])]
    assert both == sorted(of_kind["regressor"] | of_kind["transformer"])
    with pytest.raises(ValueError, match=r"type_filter must be one of 'classifier', .* got 'cluster'"):
        all_estimators("cluster")


# Construction and parameters ------------------------------------------------------------------------------------------


@each
def test_init_only_assigns(estimator):
    values = {parameter.name: object() for parameter in parameters(estimator)}
    made = estimator(**values)
    assert vars(made) == values
    assert vars(estimator()) == {parameter.name: parameter.default for parameter in parameters(estimator)}


@each
def test_only_the_checkpoint_is_positional(estimator):
    first, *rest = parameters(estimator)
    default = "FacebookAI/xlm-mlm-en-2048" if is_original_xlm(estimator) else "FacebookAI/xlm-roberta-base"
    if estimator is estimators.XLMRobertaZeroShotClassifier:  # the base model has no head that knows entailment
        default = "joeddav/xlm-roberta-large-xnli"
    assert first.name == "checkpoint" and first.default == default
    assert {parameter.kind for parameter in rest} == {inspect.Parameter.KEYWORD_ONLY}


@each
def test_defaults_are_valid_and_constraints_complete(estimator):
    assert set(estimator._parameter_constraints) == {parameter.name for parameter in parameters(estimator)}
    estimator()._validate_params()


@each
def test_each_parameter_refuses_what_it_is_not(estimator):
    check_param_validation(estimator.__name__, estimator())  # names the parameter; before any file is looked for


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
def test_unfitted_pickle_is_small(estimator):
    content = pickle.dumps(estimator())
    assert len(content) < 10_000
    assert pickle.loads(content).get_params() == estimator().get_params()


# Tags -----------------------------------------------------------------------------------------------------------------

TEXT = {"input_tags.string": True, "input_tags.two_d_array": False}
FEATURES = {**TEXT, "transformer_tags.preserves_dtype": []}  # always float32
STATELESS = {**FEATURES, "requires_fit": False}
SUPERVISED = {**TEXT, "target_tags.required": True}
CLASSES = {
    **SUPERVISED,
    "estimator_type": "classifier",
    "classifier_tags.poor_score": False,
    "classifier_tags.multi_class": True,
    "classifier_tags.multi_label": False,
}
LABELS = {**CLASSES, "classifier_tags.multi_label": True, "target_tags.multi_output": True}
# The tags of each that are not what scikit-learn's BaseEstimator has
TAGS = {
    "XLMClassifier": LABELS,
    "XLMMaskedLM": FEATURES,
    "XLMRobertaCausalLM": TEXT,
    "XLMRobertaClassifier": LABELS,
    "XLMRobertaDialogueLM": FEATURES,
    "XLMRobertaEmbedder": FEATURES,
    "XLMRobertaMaskedLM": FEATURES,
    "XLMRobertaMultipleChoiceClassifier": CLASSES,
    "XLMRobertaQuestionAnswerer": SUPERVISED,
    "XLMRobertaRegressor": {
        **SUPERVISED,
        "estimator_type": "regressor",
        "regressor_tags.poor_score": False,
        "target_tags.multi_output": True,
    },
    # no classifier: scikit-learn looks for the classes of its targets, which ragged ones do not have
    "XLMRobertaTokenClassifier": SUPERVISED,
    "XLMRobertaVectorizer": STATELESS,
    "XLMRobertaZeroShotClassifier": {**CLASSES, "classifier_tags.poor_score": True},
    "XLMVectorizer": STATELESS,
}


def flat(tags, prefix=""):
    """Each tag by its full name."""
    found = {}
    for field in fields(tags):
        value = getattr(tags, field.name)
        inner = is_dataclass(value)
        found |= flat(value, f"{prefix}{field.name}.") if inner else {f"{prefix}{field.name}": value}
    return found


@each
def test_tags(estimator):
    usual = flat(get_tags(BaseEstimator()))
    differing = {name: tag for name, tag in flat(get_tags(estimator())).items() if usual.get(name, ...) != tag}
    assert differing == TAGS[estimator.__name__]


def test_tags_are_known_of_all():
    assert set(TAGS) == {estimator.__name__ for estimator in ESTIMATORS}
    # with labels of its own a zero-shot classifier needs no targets, and may give several labels
    zero_shot = skxlmr.XLMRobertaZeroShotClassifier(candidate_labels=["a", "b"], multi_label=True)
    tags = get_tags(zero_shot)
    assert not tags.target_tags.required and tags.classifier_tags.multi_label


# Representations ------------------------------------------------------------------------------------------------------


@each
def test_repr_is_an_expression(estimator):
    made = estimator("folder", batch_size=3)
    assert repr(made) == f"{estimator.__name__}(batch_size=3, checkpoint='folder')"
    assert eval(repr(made), vars(skxlmr)).get_params() == made.get_params()


def links(estimator):
    """Where the estimator's diagram leads to."""
    return set(re.findall(r'href="([^"]*)"', estimator._repr_html_()))


@each
def test_diagram_links_to_the_documentation(estimator, monkeypatch):
    about = Message()
    monkeypatch.setattr("skxlmr.estimators._core.documentation.metadata", lambda name: about)
    assert not links(estimator())  # above all not to scikit-learn's documentation
    about["Project-URL"] = "Source, https://source.example"
    about["Project-URL"] = "Documentation, https://docs.example/stable/"
    page = f"api/generated/skxlmr.{estimator.__name__}.html"  # tests/test_site.py finds it in the site
    assert f"https://docs.example/stable/{page}" in links(estimator())
    assert links(type("Own", (estimator,), {"__module__": "elsewhere"})()) == set()


@each
def test_diagram_of_a_fitted_base_size_model(fitted, estimator):
    """Shapes without values: whatever reads or prints weights fails on them, or is far too long."""
    made = fitted(estimator)
    sizes = {"emb_dim": 2048, "n_layers": 12, "n_heads": 16, "vocab_size": 64139}
    if not is_original_xlm(estimator):
        sizes = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "vocab_size": 250002}
        sizes["intermediate_size"] = 3072
    with on_meta():
        made.module_ = made._build(replace(made.config_, **sizes))
    assert sum(parameter.numel() for parameter in made.module_.parameters()) > 250_000_000
    start = time.perf_counter()
    page = made._repr_html_()
    assert time.perf_counter() - start < 1
    learnt = [name for name in vars(made) if name.endswith("_") and not name.startswith("_")]
    assert {"config_", "module_", "tokenizer_"} < set(learnt) and all(name in page for name in learnt)
    assert len(page) < len(estimator()._repr_html_()) + 10_000
    assert len(repr(made.set_params(checkpoint="folder"))) < 250


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
def test_each_fitted_attribute_is_documented(fitted, estimator):
    made = fitted(estimator)
    properties = {name for name, _ in inspect.getmembers(estimator, lambda value: isinstance(value, property))}
    public = {name for name in vars(made).keys() | properties if name.endswith("_") and not name.startswith("_")}
    documented = entries(estimator.__doc__, "Attributes")
    assert all(kind and text.endswith(".") for kind, text in documented.values())
    assert not public - documented.keys(), "the section Attributes lacks what a fit sets"
    # these two follow from a table only
    assert documented.keys() - public <= {"n_features_in_", "feature_names_in_"}, "a fit does not set them"


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
    # no checkpoint of the original XLM ships with the package: examples that need one are shown, but not run
    source = "".join(example.source for example in examples if doctest.SKIP not in example.options)
    assert ("skxlmr-mini" in source) != is_original_xlm(estimator)
    paper = "arXiv:1901.07291" if is_original_xlm(estimator) else "arXiv:1911.02116"
    assert "References" in estimator.__doc__ and paper in estimator.__doc__
