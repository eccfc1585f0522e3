"""Entity scores: recorded cases, and agreement with seqeval on random tags that follow no rules."""

import numpy as np
import pytest

from skxlmr.metrics import entities, entity_f1_score, entity_precision_recall_f1, word_accuracy

PERSON_PLACE = ["B-PER", "I-PER", "O", "B-LOC"]


@pytest.mark.parametrize(
    ("tags", "lenient", "iob2", "iobes"),
    [
        ("B-X I-X O B-Y", [("X", 0, 2), ("Y", 3, 4)], [("X", 0, 2), ("Y", 3, 4)], []),
        ("O I-X I-X", [("X", 1, 3)], [], []),
        ("B-X I-Y", [("X", 0, 1), ("Y", 1, 2)], [("X", 0, 1)], []),
        ("B-X B-X I-X", [("X", 0, 1), ("X", 1, 3)], [("X", 0, 1), ("X", 1, 3)], []),
        ("S-X B-Y I-Y E-Y", [("X", 0, 1), ("Y", 1, 4)], None, [("X", 0, 1), ("Y", 1, 4)]),
        ("B-X E-X I-X", [("X", 0, 2), ("X", 2, 3)], None, [("X", 0, 2)]),
        ("E-X S-X", [("X", 0, 1), ("X", 1, 2)], None, [("X", 1, 2)]),
        ("B-a-b I-a-b", [("a-b", 0, 2)], [("a-b", 0, 2)], []),
        ("", [], [], []),
    ],
)
def test_entities_of_each_scheme(tags, lenient, iob2, iobes):
    tags = tags.split()
    assert entities(tags) == lenient
    assert entities(tags, "IOBES") == iobes
    if iob2 is None:
        with pytest.raises(
            ValueError, match=r"is not a tag of the scheme 'IOB2': expected 'O' or 'B-\.\.\.', 'I-\.\.\.'"
        ):
            entities(tags, "IOB2")
    else:
        assert entities(tags, "IOB2") == iob2


def test_equal_neighbouring_plain_tags_are_one_entity():
    assert entities(["X-Y", "X-Y", "O", "Z"], "plain") == [("X-Y", 0, 2), ("Z", 3, 4)]


def test_recorded_scores():
    true = [PERSON_PLACE, ["O", "B-LOC"]]
    predicted = [["B-PER", "O", "O", "B-LOC"], ["B-LOC", "B-LOC"]]
    assert entity_precision_recall_f1(true, predicted) == (2 / 4, 2 / 3, 4 / 7)
    assert entity_f1_score(true, predicted) == 4 / 7
    assert entity_precision_recall_f1([["O"]], [["O"]]) == (0.0, 0.0, 0.0)
    assert entity_precision_recall_f1([["O"]], [["B-X"]]) == (0.0, 0.0, 0.0)
    assert word_accuracy([["a", "b"], []], [["a", "c"], []]) == 0.5 and word_accuracy([[]], [[]]) == 0.0


def test_weights_act_like_repetitions():
    true, predicted = (
        [PERSON_PLACE, ["O", "B-LOC"], ["B-PER"]],
        [["B-PER", "O", "O", "B-LOC"], ["B-LOC"] * 2, ["B-PER"]],
    )
    times = [3, 2, 0]
    again = [[row for row, n in zip(rows, times, strict=True) for _ in range(n)] for rows in (true, predicted)]
    for score in (entity_precision_recall_f1, entity_f1_score):
        np.testing.assert_allclose(score(true, predicted, sample_weight=times), score(*again), rtol=1e-12)
    assert word_accuracy(true, predicted, times) == word_accuracy(*again) != word_accuracy(true, predicted)
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(2,\), expected \(3,\)"):
        entity_f1_score(true, predicted, sample_weight=[1, 2])
    with pytest.raises(ValueError, match="Negative values"):
        entity_f1_score(true, predicted, sample_weight=[1, 2, -1])


@pytest.mark.parametrize(("scheme", "prefixes"), [("BIO", "BI"), ("BIO", "BIES"), ("IOB2", "BI"), ("IOBES", "BIES")])
def test_seqeval_agrees(scheme, prefixes):
    seqeval = pytest.importorskip("seqeval.metrics")
    schemes = pytest.importorskip("seqeval.scheme")
    strict = {} if scheme == "BIO" else {"mode": "strict", "scheme": getattr(schemes, scheme)}
    tags = np.array(["O", *(f"{prefix}-{kind}" for prefix in prefixes for kind in ("PER", "a-b"))])
    rng = np.random.default_rng(0)
    n_some = 0
    for _ in range(60):
        lengths = rng.integers(1, 12, 4)
        true = [tags[rng.integers(0, len(tags), n)].tolist() for n in lengths]
        predicted = [[tag if rng.random() < 0.7 else str(rng.choice(tags)) for tag in row] for row in true]
        expected = [
            getattr(seqeval, f"{name}_score")(true, predicted, zero_division=0, **strict)
            for name in ("precision", "recall", "f1")
        ]
        np.testing.assert_allclose(entity_precision_recall_f1(true, predicted, scheme=scheme), expected, atol=1e-12)
        n_some += 0 < expected[2] < 1
    assert n_some > 30


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: entity_f1_score([["O"]], [["O"], ["O"]]), "the same number of rows, found 1 and 2"),
        (lambda: entity_f1_score([["O"], ["O"]], [["O"], []]), "row 1: y_true has 1 tags, y_pred has 0"),
        (lambda: entities(["NOUN"]), "'NOUN' is not a tag of the scheme 'BIO'"),
        (lambda: entities(["B-"]), "'B-' is not a tag"),
        (lambda: entities(["B-X"], "BILOU"), "scheme must be one of BIO, IOB2, IOBES, plain; found 'BILOU'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
