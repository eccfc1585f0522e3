"""What one text costs besides the layers, in counts: calls, walks over the modules, questions to the file system, operators."""

import os
import sys
from collections import Counter

import numpy as np
import pytest
import scipy.special
from sklearn.preprocessing import normalize
from torch.utils._python_dispatch import TorchDispatchMode

from skxlmr import Cache, XLMRobertaClassifier, XLMRobertaVectorizer
from skxlmr.checkpoints import resolve_checkpoint
from skxlmr.checkpoints._opened import loaded
from skxlmr.estimators._sequence.targets import OneClass
from skxlmr.estimators._vectors import transformer
from skxlmr.utils import _sklearn

TEXT = "Guten Morgen, good morning"
LAYERS = 6  # of skxlmr-mini


@pytest.fixture(scope="module")
def classifier():
    params = {"max_epochs": 1, "learning_rate": 1e-3, "random_state": 0, "device": "cpu"}
    fitted = XLMRobertaClassifier("skxlmr-mini", **params).fit(["Guter Film", "Schlechter Film"] * 4, [1, 0] * 4)
    fitted.predict([TEXT])  # what is the same for every call is there
    return fitted


def calls_during(run):
    """Calls of Python functions, by the package that holds them."""
    found = Counter()

    def count(frame, event, _):
        if event == "call":
            name = frame.f_globals.get("__name__", "")
            found["nn" if name.startswith("skxlmr.nn") else name.partition(".")[0]] += 1

    sys.setprofile(count)
    try:
        run()
    finally:
        sys.setprofile(None)
    return found


class Operators(TorchDispatchMode):
    """Counts the operators that reach a kernel or make a view."""

    def __init__(self):
        super().__init__()
        self.found = Counter()

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        self.found[str(operator)] += 1
        return operator(*args, **(kwargs or {}))


def test_calls_around_the_layers(classifier):
    """Each call costs some four times what it does in a loop of its own: the layers leave nothing of Python in the caches."""
    calls = calls_during(lambda: classifier.predict([TEXT]))
    assert calls["skxlmr"] <= 200, calls
    assert calls["sklearn"] + calls["inspect"] + calls["scipy"] + calls["narwhals"] <= 12, calls
    assert calls["nn"] <= 60 + 120 * LAYERS, calls


def test_operators_of_a_text(classifier):
    with Operators() as operators:
        classifier.predict([TEXT])
    assert operators.found.total() <= 30 + 85 * LAYERS, operators.found
    whole = ("index_select", "index.Tensor", "masked_fill", "repeat_interleave", "cumsum", "dropout", "native_dropout")
    assert not [name for name in operators.found if name.removeprefix("aten.").startswith(whole)], operators.found


def test_the_file_system_is_asked_once_for_each_file_of_weights(classifier, monkeypatch):
    asked, stat = [], os.stat
    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: asked.append(args[0]) or stat(*args, **kwargs))
    classifier.predict([TEXT])
    assert sorted(asked) == sorted(map(str, resolve_checkpoint("skxlmr-mini").rglob("model.safetensors")))


@pytest.mark.parametrize(("memory", "walks"), [(None, 0), (Cache(max_bytes=2**20), 1)])
def test_walks_over_the_weights(monkeypatch, memory, walks):
    vectorizer = XLMRobertaVectorizer("skxlmr-mini", memory=memory, device="cpu").fit([TEXT])
    found, walk = [], loaded._facts_and_marks
    monkeypatch.setattr(loaded, "_facts_and_marks", lambda parts: found.append(parts) or walk(parts))
    vectorizer.transform([TEXT])
    assert len(found) == walks


# Parameters that passed are not looked at again ---------------------------------------------------------------------------


def test_parameters_are_validated_once(classifier, monkeypatch):
    monkeypatch.setattr(_sklearn, "validate_parameter_constraints", lambda *args, **kwargs: pytest.fail("again"))
    classifier.predict([TEXT])


@pytest.mark.parametrize(
    ("name", "value"),
    [("batch_size", 0), ("batch_size", 16.0), ("dtype", "float31"), ("class_weight", {1})],
)
def test_parameters_that_change_after_a_fit_are_validated(classifier, monkeypatch, name, value):
    for valid in (1, 16):  # equal to some of the values
        monkeypatch.setattr(classifier, "batch_size", valid)
        classifier.predict([TEXT])
    monkeypatch.setattr(classifier, name, value)
    for _ in range(2):  # what failed is not taken for valid
        with pytest.raises(ValueError, match=r"parameter of XLMRobertaClassifier must be"):
            classifier.predict([TEXT])


def test_a_value_that_changes_in_place_is_validated_again():
    vectorizer = XLMRobertaVectorizer("skxlmr-mini", layers=[1, 2], memory=None, device="cpu").fit([TEXT])
    vectorizer.transform([TEXT])
    vectorizer.layers.append("last")
    with pytest.raises(ValueError, match="layers"):
        vectorizer.transform([TEXT])


# Written here in place of a call that takes longer ------------------------------------------------------------------------


def test_probabilities_are_those_of_scipy():
    logits = np.random.default_rng(0).normal(0, 30, (200, 7)).astype(np.float32)
    found = OneClass(np.arange(7)).log_proba(logits)
    assert found.dtype == np.float32
    assert np.array_equal(found, scipy.special.log_softmax(logits, axis=1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_unit_length_is_that_of_scikit_learn(dtype):
    features = np.random.default_rng(0).normal(0, 3, (50, 33)).astype(dtype)
    features[3] = 0
    expected = normalize(features)
    assert np.array_equal(transformer._of_unit_length(features), expected)
    features[4, 5] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        transformer._of_unit_length(features)


def test_few_texts_start_no_thread(classifier, monkeypatch):
    """SentencePiece starts its threads anew for each list, even one thread."""
    tokenizer = classifier.tokenizer_.alike()
    texts = ["Guten Morgen", "", "доброе утро 😀", TEXT]
    at_once = tokenizer._processor.encode(texts, out_type=int)

    class Watched:
        def encode(self, text, **options):
            assert isinstance(text, bytes) and "num_threads" not in options
            return processor.encode(text, **options)

    processor, tokenizer._processor = tokenizer._processor, Watched()
    ids, lengths = tokenizer._best(texts)
    assert lengths.tolist() == list(map(len, at_once))
    assert ids.tolist() == [i for row in at_once for i in row]
