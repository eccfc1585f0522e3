"""Occlusion and Shapley values: against calls one by one, and enumeration; and with ONNX Runtime."""

from functools import cache

import numpy as np
import pytest

from skxlmr import XLMRobertaClassifier, export_onnx, load_onnx
from skxlmr.inspection import attributions
from skxlmr.text import EncodedBatch
from tests.contract import TEXTS
from tests.inspection.attributions.reference import is_part_of, shapley_values

LONG = "the bird sings over the red house and the children walk slowly"
TOLERANCE = 1e-5


@pytest.fixture
def classifier(fitted):
    return fitted(XLMRobertaClassifier)


def logits_without(classifier, text, row, target):
    """The logit where the words of a set, and no others, are there: each set in a call of its own."""
    made = classifier.tokenizer_.encode_batch([text], return_offsets=True)

    @cache
    def value_of(there):
        ids = made.ids.copy()
        for i, (_, start, end) in enumerate(row.spans):
            if i not in there:
                inside = [
                    number == 0 and is_part_of(text, token, (start, end))
                    for number, token in zip(made.sequence_ids, made.offsets, strict=True)
                ]
                ids[inside] = classifier.tokenizer_.mask_token_id
        return classifier._engine().rows(EncodedBatch(ids, made.lengths, made.n_dropped))[0, target]

    return value_of


def test_occlusion_is_what_each_word_takes_away(classifier):
    for text, row in zip([*TEXTS, LONG], attributions(classifier, [*TEXTS, LONG], "occlusion", target=1), strict=True):
        value_of, everything = logits_without(classifier, text, row, 1), frozenset(range(len(row.spans)))
        expected = [value_of(everything) - value_of(everything - {i}) for i in sorted(everything)]
        np.testing.assert_allclose(row.values, expected, atol=TOLERANCE)
        assert row.prediction == pytest.approx(value_of(everything), abs=TOLERANCE)
        assert row.baseline == pytest.approx(value_of(frozenset()), abs=TOLERANCE)


def test_shapley_values_of_few_words_are_exact(classifier):
    for text, row in zip(TEXTS, attributions(classifier, TEXTS, "shapley", target=1), strict=True):
        expected = shapley_values(len(row.spans), logits_without(classifier, text, row, 1))
        np.testing.assert_allclose(row.values, expected, atol=TOLERANCE)


def test_drawn_shapley_values_sum_to_the_whole_and_approach_the_exact_ones(classifier):
    text = " ".join(LONG.split()[:8])  # so few that they can be enumerated
    few, many = (
        attributions(classifier, [text], "shapley", target=1, n_permutations=n, random_state=0)[0] for n in (2, 20)
    )
    value_of = logits_without(classifier, text, few, 1)
    exact = shapley_values(8, value_of)
    errors = [np.abs(row.values - exact).max() for row in (few, many)]
    assert 1e-4 < errors[1] < errors[0] < np.abs(exact).max()
    assert abs(few.completeness_gap) < 1e-9 and abs(many.completeness_gap) < 1e-9

    draws, expected = np.random.RandomState(0), np.zeros(8)
    for drawn in [draws.permutation(8) for _ in range(10)]:
        for order in (drawn, drawn[::-1]):
            for place, word in enumerate(order):
                there = frozenset(order[:place].tolist())
                expected[word] += (value_of(there | {int(word)}) - value_of(there)) / 20
    np.testing.assert_allclose(many.values, expected, atol=TOLERANCE)


def test_draws_follow_random_state(classifier):
    one, again, other = (
        attributions(classifier, [LONG], "shapley", target=1, random_state=seed)[0].values for seed in (0, 0, 1)
    )
    assert np.array_equal(one, again) and not np.array_equal(one, other)


def test_all_variants_run_in_one_pass_and_equal_ones_once(classifier, computed, monkeypatch):
    rows = []
    forward = classifier.module_.forward
    monkeypatch.setattr(
        classifier.module_, "forward", lambda ids, layout: (rows.extend(layout.lengths), forward(ids, layout))[1]
    )
    texts = ["bird bird", "bird bird", "house bird"]
    found = attributions(classifier, texts, "occlusion", target=1)
    n_variants = [len(row.spans) + 2 for row in found]
    assert computed == [n_variants[0] + n_variants[2]]
    # "_ bird", "_ _" and so on are met again in other rows
    assert len(rows) < computed[0]


def test_onnx_gives_the_same_and_refuses_gradients(classifier, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    export_onnx(classifier, tmp_path / "graph")
    graph = load_onnx(tmp_path / "graph")
    for method in ("occlusion", "shapley"):
        ours = attributions(classifier, TEXTS, method, random_state=0)
        theirs = attributions(graph, TEXTS, method, random_state=0)
        for a, b in zip(ours, theirs, strict=True):
            assert a.words == b.words and a.target == b.target
            np.testing.assert_allclose(a.values, b.values, atol=1e-4)
    for method in ("integrated_gradients", "gradient_x_input"):
        with pytest.raises(ValueError, match=r"use 'occlusion' or 'shapley'.* needs the weights in torch"):
            attributions(graph, TEXTS, method)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("method", "lime", "method must be one of integrated_gradients"),
        ("level", "letter", "level must be 'word' or 'token'"),
        ("n_steps", 0, "n_steps must be a whole number from 1"),
        ("n_permutations", 3, "n_permutations must be an even number from 2"),
        ("n_permutations", True, "n_permutations must be an even number"),
        ("target", 2, "target of row 0: 2 is not a class of the estimator, which has 0, 1"),
        ("target", [0, 7] * 3, "target of row 1: 7 is not a class"),
        ("target", [0], "target has 1 values for 6 rows"),
        ("word", 0, "word is for taggers"),
        ("edge", "start", "edge is for question answerers"),
    ],
)
def test_bad_arguments(classifier, name, value, message):
    with pytest.raises(ValueError, match=message):
        attributions(classifier, TEXTS, **{name: value})
