"""Constrained decoding: the best of all allowed sequences of tags, by enumeration."""

import re
from itertools import product

import numpy as np
import pytest

from skxlmr.estimators._tokens.tag_rules import TagRules, detect_scheme, doubts
from skxlmr.metrics import entities

CLASSES = {
    "BIO": ["B-LOC", "B-PER", "I-LOC", "I-PER", "O"],
    "IOB2": ["O", "B-PER", "I-PER"],
    "IOBES": ["B-X", "E-X", "I-X", "S-X", "O", "S-Y"],
    "BILOU": ["B-X", "L-X", "I-X", "U-X", "O", "U-Y"],
    "BMES": ["B-X", "E-X", "M-X", "S-X", "O", "S-Y"],
}


def is_allowed(tags, scheme):
    """Whether each tag but O belongs to an entity as the strict reading finds it, and none is left over."""
    strict = "IOB2" if scheme == "BIO" else scheme
    covered = {i for _, start, end in entities(tags, strict) for i in range(start, end)}
    return all((tag == "O") != (i in covered) for i, tag in enumerate(tags))


@pytest.mark.parametrize("scheme", CLASSES)
@pytest.mark.parametrize("n", [1, 2, 4])
def test_best_allowed_row(scheme, n):
    classes, rng = CLASSES[scheme], np.random.default_rng(n)
    rules, n_changed = TagRules(classes, scheme), 0
    rows = [list(codes) for codes in product(range(len(classes)), repeat=n)]
    allowed = [codes for codes in rows if is_allowed([classes[code] for code in codes], scheme)]
    assert 0 < len(allowed) < len(rows)
    for _ in range(20):
        log_proba = np.log(rng.dirichlet(np.full(len(classes), 0.5), n) + 1e-9).astype(np.float32)
        found = rules.decode(log_proba)
        best = max(allowed, key=lambda codes: log_proba[np.arange(n), codes].sum(dtype=np.float64))
        assert found.tolist() == best
        n_changed += found.tolist() != log_proba.argmax(1).tolist()
    assert 0 < n_changed < 20 or n == 4


def test_types_without_b_begin_with_i():
    """Labels of a published tagger of CoNLL-2003: with the rules of IOB2 it would never find a person."""
    classes = ["B-LOC", "B-ORG", "I-LOC", "I-ORG", "I-PER", "O"]
    tags = ["I-PER", "I-PER", "O", "I-LOC", "I-ORG", "B-ORG", "I-ORG"]
    log_proba = np.log(np.where(np.equal.outer(tags, classes), 0.5, 0.1))
    assert TagRules(classes, "BIO").decode(log_proba).tolist() == [classes.index(tag) for tag in tags]
    assert "I-PER" not in np.array(classes)[TagRules(classes, "IOB2").decode(log_proba)]


def test_nothing_to_decode_and_nothing_allowed():
    assert TagRules(CLASSES["BIO"], "BIO").decode(np.zeros((0, 5))).shape == (0,)
    # these classes have no tag for an entity of one word: the fewest violations, then the most probable
    assert TagRules(["B-X", "E-X"], "IOBES").decode(np.log([[0.9, 0.1]])).tolist() == [0]
    assert TagRules(["B-X", "E-X"], "IOBES").decode(np.log([[0.1, 0.9], [0.4, 0.6]])).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("classes", "scheme"),
    [
        (["B-X", "I-X", "O"], "BIO"),
        (["B-X", "O"], "BIO"),
        (["B-X", "E-X", "I-X", "O", "S-X"], "IOBES"),
        (["NOUN", "VERB"], "plain"),
        (["B-X", "NOUN"], "plain"),
        (["B-X", "U-X", "O"], "BILOU"),
        (["B-X", "I-X", "L-X", "O", "U-Y"], "BILOU"),
        (["B-X", "E-X", "M-X", "O", "S-X"], "BMES"),
        (["B-X", "E-X", "O", "S-X"], "IOBES"),
        (["B-X", "I-X", "M-X", "O"], "plain"),
        (["O"], "plain"),
        ([0, 1], "plain"),
    ],
)
def test_scheme_follows_from_the_classes(classes, scheme):
    assert detect_scheme(classes) == scheme


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        (["B", "I", "O"], "the tags 'B', 'I' have no types"),
        (["B-X", "I-X", "O", "X"], "'X' is not of the form 'B-X'"),
        (["B-X", "I-X", "O", "[PAD]", ""], r"'\[PAD\]', '' are not of the form"),
        (["b-x", "i-x", "O"], "'b-x', 'i-x' are not of the form"),
        (["B_X", "I_X", "O"], "'B_X', 'I_X' are not of the form"),
        (["B-X", "M-X", "I-X", "O"], "no scheme has all of the prefixes B, I, M"),
        (["B-X", "M-X", "E-X", "W-X"], "no scheme has all of the prefixes B, E, M, W"),
        (["I-PER", "O", "o"], "'o' is not of the form"),
        (["NOUN", "VERB", "X"], None),
        (["B", "N", "V"], None),
        (["LABEL_0", "LABEL_1"], None),
        (["PER", "O"], None),
        ([0, 1], None),
        (["O", "PER-B", "PER-I"], "the prefix of 'PER-B', 'PER-I' stands at the end .write 'B-PER' for 'PER-B'"),
        (["O", "GRADE-A", "GRADE-B"], None),
    ],
)
def test_plain_tags_that_look_like_those_of_a_scheme(classes, said):
    assert detect_scheme(classes) == "plain"
    reason = doubts(classes)
    assert reason is None if said is None else re.match(said, reason)


def test_plain_tags_have_no_rules():
    with pytest.raises(ValueError, match=r"constrained=True needs tags with a scheme.*found 'NOUN', 'VERB'"):
        TagRules(["NOUN", "VERB"], "plain")
