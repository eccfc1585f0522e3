"""Parameters in words: the same in each process, and other words for other values."""

import enum
import re
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, fbeta_score, make_scorer

from skxlmr.training import in_words
from tests import processes

HERE = __name__


def first(estimator, X, y, k=1):
    return float(k)


def second(estimator, X, y):
    return 0.0


class Scorer:
    def __init__(self, *held, **more):
        self.held, self.more = held, more

    def __call__(self, estimator, X, y):
        return 0.0

    def score(self, estimator, X, y):
        return 0.0

    @staticmethod
    def accuracy_score(y, predicted):
        return 0.0

    @classmethod
    def of_class(cls, estimator, X, y):
        return 0.0


@dataclass(slots=True)
class Slotted:
    function: object


class Language(enum.Enum):
    GERMAN = 1
    GREEK = 2


def values():
    """Each of them is to read the same whenever it is made, and unlike all others."""
    itself = Scorer()
    itself.held = [itself]
    return {
        "function": first,
        "other function": second,
        "partial": partial(first, k=2),
        "partial with another argument": partial(first, k=3),
        "partial with a place": partial(first, None),
        "object": Scorer(1),
        "object in another state": Scorer(2),
        "bound method": Scorer(1).score,
        "bound method of an object in another state": Scorer(2).score,
        "method of a class": Scorer.of_class,
        "held function": Scorer(first),
        "other held function": Scorer(second),
        "held object": Scorer(Scorer(1)),
        "slots": Slotted(first),
        "other slots": Slotted(second),
        "itself": itself,
        "random numbers": np.random.default_rng(0),
        "other random numbers": np.random.default_rng(1),
        "set": Scorer({"de", "el", "en", "ru"}),
        "enum": Language.GERMAN,
        "other enum": Language.GREEK,
        "scorer": make_scorer(accuracy_score),
        "scorer of another function of this name": make_scorer(Scorer.accuracy_score),
        "scorer with a factor": make_scorer(fbeta_score, beta=2),
        "scorer of a partial": make_scorer(partial(fbeta_score, beta=2)),
        "scorer of another partial": make_scorer(partial(fbeta_score, beta=3)),
        "text": "<a text at 0x7f>",
        "bytes": b"<a text at 0x7f>",
    }


def in_words_of_all():
    print({name: in_words(value) for name, value in values().items()})


def test_the_same_in_each_process_and_unlike_all_others():
    said = {name: in_words(value) for name, value in values().items()}
    assert len(set(said.values())) == len(said)
    done = processes.run(in_words_of_all)  # with other addresses, and another order of sets
    assert done.exit_code == 0 and done.stdout == f"{said}\n"
    assert not [name for name, words in said.items() if "<" in words and name not in ("text", "bytes")]


def test_what_it_says():
    assert in_words(first) == f"{HERE}.first" and in_words(Scorer.of_class) == f"{HERE}.Scorer.of_class"
    assert in_words(partial(first, [1], k=np.float32(2))) == f"partial({HERE}.first, [[1]], {{'k': 2.0}})"
    assert in_words(make_scorer(fbeta_score, beta=2)) == repr(make_scorer(fbeta_score, beta=2))
    assert in_words({"b", "a"}) == "{'a', 'b'}" and in_words({2: "b", 1: np.array([True])}) == "{1: [True], 2: 'b'}"
    assert in_words(PurePosixPath("a") / "b") == "'a/b'" and in_words(np.str_("a")) == "'a'"


def local_function():
    def agreement(y, predicted):
        return 0.0

    return agreement


@pytest.mark.parametrize(
    "value",
    [
        lambda *_: 0,
        partial(lambda *_: 0),
        Scorer(lambda *_: 0),
        Scorer(lambda *_: 0).score,
        make_scorer(lambda *_: 0),
        make_scorer(local_function()),
        Scorer(threading.Lock()),
        Scorer(re.compile("<a>")),
    ],
    ids=["lambda", "partial", "held", "bound", "scorer", "scorer of a local function", "lock", "pattern"],
)
def test_what_cannot_be_told_from_others_of_its_kind(value):
    assert "<" in in_words(value) and "0x" not in in_words(value)
