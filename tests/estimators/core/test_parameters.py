"""Parameters are declared once, and look as if each class had written its own constructor.

That they survive ``get_params``, ``clone`` and ``set_params`` is in tests/test_common.py.
"""

import ast
import inspect
import pydoc
import re
from collections import Counter, defaultdict
from dataclasses import MISSING, fields
from pathlib import Path

import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skxlmr import (
    XLMMaskedLM,
    XLMRobertaClassifier,
    XLMRobertaRegressor,
    XLMRobertaTokenClassifier,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
    estimators,
)
from skxlmr.estimators.other_words import FROM_Y, NO_PARAMETER, OTHER_WORDS, misspelt
from tests.contract import ESTIMATORS, FAST, TEXTS, Y, each

# One word for something else of the same kind: how often it is declared
SEVERAL = {
    "checkpoint": 3,
    "class_weight": 2,  # of the classes of rows, or of the tags of words
    "stride": 3,  # of windows over a text, over words, or over a context
    "threshold": 2,  # of each of several labels, or of labels in words
}


# What a constructor shows ---------------------------------------------------------------------------------------------


@each
def test_signature_is_what_is_declared(estimator):
    shown, declared = list(inspect.signature(estimator).parameters.values()), fields(estimator)
    assert [each.name for each in shown] == sorted(
        (each.name for each in declared), key=lambda name: name != "checkpoint"
    )
    by_name = {each.name: each for each in declared}
    for parameter in shown:
        field = by_name[parameter.name]
        assert parameter.default == field.default is not MISSING
        assert parameter.annotation == field.type
        kind = parameter.KEYWORD_ONLY if field.kw_only else parameter.POSITIONAL_OR_KEYWORD
        assert parameter.kind == kind and field.kw_only == (field.name != "checkpoint")
    of_method = list(inspect.signature(estimator.__init__).parameters.values())
    assert of_method[1:] == shown and estimator.__init__.__qualname__ == f"{estimator.__name__}.__init__"


@each
def test_a_parameter_is_the_declaration_nearest_to_the_estimator(estimator):
    for field in fields(estimator):
        nearest = next(cls for cls in estimator.__mro__ if field.name in inspect.get_annotations(cls))
        declared = {each.name: each for each in fields(nearest)}[field.name]
        assert (field.default, field.metadata) == (declared.default, declared.metadata), field.name


def test_estimators_that_train_have_smaller_batches():
    for estimator in ESTIMATORS:
        trains = hasattr(estimator, "partial_fit")
        assert estimator().batch_size == (16 if trains else 32), estimator


@each
def test_help_has_an_entry_for_each_parameter(estimator):
    page = pydoc.plain(pydoc.render_doc(estimator))
    assert "{parameters}" not in page
    lines = [line.strip(" |") for line in page.splitlines()]
    section = [line for line in lines[lines.index("Parameters") + 2 : lines.index("Attributes")] if line]
    entries = []
    for field in fields(estimator):
        entries += [field.name, f"default={field.default!r}", field.metadata["text"]]
    found = re.split(r"^(\w+) : (.*), (default=.*)$", "\n".join(section), flags=re.MULTILINE)[1:]
    names, kinds, defaults, texts = (found[start::4] for start in range(4))
    texts = [" ".join(text.split()) for text in texts]
    assert [part for each in zip(names, defaults, texts, strict=True) for part in each] == entries
    assert all(kinds) and not any("Interval" in kind or "boolean" in kind for kind in kinds)


def test_help_states_types_as_the_documentation_does():
    lines = [line.strip() for line in inspect.getdoc(XLMRobertaClassifier).splitlines()]
    for line in (
        "checkpoint : str or path, default='FacebookAI/xlm-roberta-base'",
        "max_length : int or None, default=None",
        "dtype : {'auto', 'bfloat16', 'float16', 'float32', 'int8'}, default='auto'",
        "early_stopping : bool, default=False",
        "class_weight : dict, list, 'balanced' or None, default=None",
        "threshold : float or array-like, default=0.5",
        "random_state : int, RandomState instance or None, default=None",
    ):
        assert line in lines, line


# Misspelt names -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("checkpont", "checkpoint"),
        ("learning_rates", "learning_rate"),
        ("max_epoch", "max_epochs"),
        ("lr", "learning_rate"),
        ("epochs", "max_epochs"),
        ("max_iter", "max_epochs"),
        ("num_train_epochs", "max_epochs"),
        ("model_name", "checkpoint"),
        ("seed", "random_state"),
    ],
)
def test_a_misspelt_name_names_the_nearest(name, right):
    said = f"XLMRobertaClassifier has no parameter {name!r}: did you mean {right!r}?"
    with pytest.raises(TypeError) as refused:
        XLMRobertaClassifier(**{name: 1})
    assert str(refused.value) == said
    classifier = XLMRobertaClassifier()
    alone, behind = classifier, make_pipeline(FunctionTransformer(), classifier)
    for made, prefix in ((alone, ""), (behind, "xlmrobertaclassifier__")):
        with pytest.raises(ValueError, match=r"^Invalid parameter") as refused:
            made.set_params(**{f"{prefix}{name}": 1})
        assert str(refused.value).endswith(said)
        with pytest.raises(ValueError, match=r"^Invalid parameter") as refused:
            GridSearchCV(made, {f"{prefix}{name}": [1, 2]}, cv=2, error_score="raise").fit(TEXTS, Y)
        assert str(refused.value).endswith(said)
    assert not hasattr(classifier, name)


@pytest.mark.parametrize("name", ["auto_mapping", "config", "no_save", "regression", "sampling_strategy"])
def test_a_name_of_another_meaning_is_not_taken_for_a_misspelt_one(name):
    with pytest.raises(TypeError, match=rf"^XLMRobertaClassifier has no parameter '{name}': it has checkpoint, "):
        XLMRobertaClassifier(**{name: 1})


def test_a_misspelt_name_of_a_nested_estimator_names_the_nearest():
    zero_shot = XLMRobertaZeroShotClassifier(XLMRobertaClassifier(), candidate_labels=["a", "b"])
    with pytest.raises(ValueError, match=r"XLMRobertaClassifier has no parameter 'lr': did you mean 'learning_rate'"):
        zero_shot.set_params(checkpoint__lr=1)
    assert zero_shot.set_params(checkpoint__learning_rate=1.0).checkpoint.learning_rate == 1.0


def test_parameters_of_a_parameter_that_is_no_estimator():
    zero_shot = XLMRobertaZeroShotClassifier("nli")
    with pytest.raises(ValueError, match="XLMRobertaZeroShotClassifier has no parameter 'checkpoint__max_length'"):
        zero_shot.set_params(checkpoint__max_length=8)
    zero_shot.set_params(checkpoint=XLMRobertaClassifier("nli"), checkpoint__max_length=8)
    assert zero_shot.checkpoint.max_length == 8


def test_a_name_far_from_all_lists_them():
    said = r"^XLMRobertaVectorizer has no parameter 'xyz': it has checkpoint, revision, .*normalize"
    with pytest.raises(TypeError, match=said):
        XLMRobertaVectorizer(xyz=1)


@pytest.mark.parametrize("cls", [XLMRobertaClassifier, XLMRobertaRegressor])
def test_an_argument_of_from_checkpoint_is_not_one_of_the_constructor(cls):
    said = f"{cls.__name__} has no parameter 'problem_type': pass it to {cls.__name__}.from_checkpoint"
    with pytest.raises(TypeError, match=rf"^{said}$"):
        cls(problem_type="regression")
    with pytest.raises(TypeError, match="XLMRobertaTokenClassifier has no parameter 'params': it has"):
        XLMRobertaTokenClassifier(params=1)


@pytest.mark.parametrize("word", sorted(OTHER_WORDS))
def test_words_of_other_libraries_are_known(word):
    have = {cls: [field.name for field in fields(cls)] for cls in ESTIMATORS}
    assert not any(word in names for names in have.values())  # it would never be looked up
    knows = [cls for cls, names in have.items() if OTHER_WORDS[word] in names]
    assert knows
    for cls in knows:
        assert misspelt(cls, word, have[cls]).endswith(f"did you mean {OTHER_WORDS[word]!r}?")


@pytest.mark.parametrize("word", sorted(FROM_Y))
def test_what_follows_from_y_is_no_parameter(word):
    with pytest.raises(TypeError, match=rf"^XLMRobertaClassifier has no parameter {word!r}: it follows from y in fit$"):
        XLMRobertaClassifier(**{word: 3})
    with pytest.raises(TypeError) as refused:
        XLMRobertaVectorizer(**{word: 3})  # has no y
    assert "follows" not in str(refused.value)


def test_labels_of_a_zero_shot_classifier_are_its_candidates():
    with pytest.raises(TypeError, match="did you mean 'candidate_labels'"):
        XLMRobertaZeroShotClassifier(labels=["a"])


@pytest.mark.parametrize("word", sorted(NO_PARAMETER))
def test_what_is_no_parameter_here_says_why(word):
    assert word not in OTHER_WORDS and not any(word in [each.name for each in fields(cls)] for cls in ESTIMATORS)
    with pytest.raises(TypeError) as refused:
        XLMRobertaClassifier(**{word: 3})
    assert str(refused.value) == f"XLMRobertaClassifier has no parameter {word!r}: {NO_PARAMETER[word]}"


def test_a_word_for_what_an_estimator_lacks_is_not_offered():
    with pytest.raises(TypeError) as refused:
        XLMRobertaVectorizer(lr=1)
    assert "learning_rate" not in str(refused.value)


# One declaration ------------------------------------------------------------------------------------------------------


def declarations():
    """Names of the parameters that the source declares, each as often as it does."""
    for file in Path(estimators.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            call = getattr(node, "value", None)
            if (
                isinstance(node, ast.AnnAssign)
                and isinstance(call, ast.Call)
                and getattr(call.func, "id", "") in ("parameter", "positional")
            ):
                yield node.target.id


def test_each_parameter_is_declared_once():
    counts = Counter(declarations())
    assert set(counts) == {field.name for cls in ESTIMATORS for field in fields(cls)}
    assert {name: count for name, count in counts.items() if count > 1} == SEVERAL


def test_estimators_share_the_declaration():
    declared = defaultdict(set)
    for cls in ESTIMATORS:
        for field in fields(cls):
            declared[field.name, field.metadata["text"]].add(id(field))
    # a changed default keeps the text of the declaration that it changes
    changed = {"max_epochs"}
    assert {name for (name, _), found in declared.items() if len(found) > 1} == changed


@each
def test_constructors_are_not_written_by_hand(estimator):
    for cls in estimator.__mro__:
        if cls.__module__.startswith("skxlmr."):
            tree = ast.parse(inspect.getsource(inspect.getmodule(cls)))
            (body,) = [
                node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls.__name__
            ]
            written = {getattr(node, "name", None) for node in body}
            written |= {ast.unparse(target) for node in body for target in getattr(node, "targets", [])}
            assert not written & {"__init__", "_parameter_constraints"}, cls


# Subclasses of users --------------------------------------------------------------------------------------------------


class Plain(XLMRobertaClassifier):
    """Without a constructor of its own."""

    def shout(self, X):
        return [str(label).upper() for label in self.predict(X)]


class Own(XLMRobertaClassifier):
    """With a constructor as scikit-learn wants them, which passes some parameters on."""

    def __init__(self, checkpoint="skxlmr-mini", *, learning_rate=3e-3, shout=False):
        super().__init__(checkpoint, learning_rate=learning_rate, max_epochs=1, dtype="float32")
        self.shout = shout


class Bare(XLMRobertaVectorizer):
    """With a constructor that only assigns: the others have their defaults."""

    def __init__(self, checkpoint="skxlmr-mini", *, shout=False):
        self.checkpoint = checkpoint
        self.shout = shout


def test_a_subclass_without_a_constructor(tiny_checkpoint):
    made = clone(Plain(tiny_checkpoint, **FAST))
    assert type(made) is Plain and made.get_params() == XLMRobertaClassifier(tiny_checkpoint, **FAST).get_params()
    assert made.fit(TEXTS, ["a", "b"] * 3).shout(TEXTS[:1])[0] in ("A", "B")
    with pytest.raises(ValueError, match=r"Plain has no parameter 'lr': did you mean 'learning_rate'\?"):
        made.set_params(lr=1)
    with pytest.raises(TypeError, match=r"Plain has no parameter 'lr': did you mean 'learning_rate'\?"):
        Plain(lr=1)


@pytest.mark.parametrize(("cls", "also"), [(Own, {"learning_rate": 3e-3}), (Bare, {})])
def test_a_subclass_with_its_own_constructor(tiny_checkpoint, cls, also):
    made = clone(cls(tiny_checkpoint, shout=True))
    assert made.get_params() == {"checkpoint": tiny_checkpoint, "shout": True, **also}
    assert clone(made.set_params(shout="loud")).shout == "loud"
    with pytest.raises(ValueError, match=r"has no parameter 'shouts': did you mean 'shout'\?"):
        made.set_params(shouts=True)
    assert hasattr(clone(made).fit(TEXTS, Y), "module_")
    with pytest.raises(ValueError, match=r"The 'checkpoint' parameter of (Own|Bare) must be"):
        cls(3).fit(TEXTS, Y)


def test_an_own_default_is_the_only_one_that_differs():
    assert Own().max_epochs == 1 and Own().batch_size == XLMRobertaClassifier().batch_size
    assert Bare().batch_size == XLMRobertaVectorizer().batch_size and XLMMaskedLM().max_epochs == 3
