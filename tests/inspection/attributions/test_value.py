"""The value of a row: what it says, and that nothing of it changes."""

import copy
import pickle
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from skxlmr.inspection import TokenAttribution

TEXT = "Great film!"
SPANS = ((0, 0, 5), (0, 6, 10), (0, 10, 11))


def made(values=(1.5, -0.25, 0.5), **more):
    return TokenAttribution((TEXT,), SPANS, values, "occlusion", "good", 2.0, 0.5, **more)


def test_words_and_gap():
    row = made()
    assert row.words == ("Great", "film", "!")
    assert row.completeness_gap == pytest.approx(2.0 - 0.5 - 1.75)
    assert TokenAttribution((TEXT,), SPANS, [0, 0, 0]).completeness_gap is None


def test_the_strongest_words_come_first_whatever_their_sign():
    assert made([0.1, -0.2, 0.2]).strongest(2) == [("film", -0.2), ("!", 0.2)]


def test_repr_is_short():
    assert repr(made()) == "TokenAttribution(target='good', prediction=2, Great +1.5, ! +0.5, film -0.25)"
    many = TokenAttribution(("a b c d e f g",), tuple((0, 2 * i, 2 * i + 1) for i in range(7)), np.arange(7))
    assert repr(many) == "TokenAttribution(g +6, f +5, e +4, d +3, c +2, and 2 more)"


def test_table():
    frame = made().to_frame()
    assert frame.columns.tolist() == ["text", "word", "start", "end", "value"]
    assert frame.iloc[1].tolist() == ["text", "film", 6, 10, -0.25]


def test_nothing_can_be_changed():
    values = np.ones(3)
    row = made(values)
    values[:] = 5
    assert row.values.tolist() == [1, 1, 1]
    with pytest.raises(FrozenInstanceError):
        row.target = "bad"
    with pytest.raises(ValueError, match="read-only"):
        row.values[0] = 3
    for other in (copy.deepcopy(row), pickle.loads(pickle.dumps(row))):
        assert other.spans == row.spans and other.values.tolist() == [1, 1, 1]


def test_values_and_spans_must_fit():
    with pytest.raises(ValueError, match="there are 3 words, but the values have the shape \\(2,\\)"):
        made([1, 2])
    with pytest.raises(ValueError, match="the value of word 1 is nan, not a finite number"):
        made([1, float("nan"), 2])
    with pytest.raises(ValueError, match="the span \\(0, 0, 12\\) lies outside"):
        TokenAttribution((TEXT,), ((0, 0, 12),), [1])
    with pytest.raises(ValueError, match="the span \\(0, 0, 1, 2\\) lies outside"):
        TokenAttribution((TEXT,), ((0, 0, 1, 2),), [1])
    with pytest.raises(ValueError, match="the span \\(1, 0, 1\\) lies outside"):
        TokenAttribution((TEXT,), ((1, 0, 1),), [1])


def test_the_words_are_cut_once_for_the_order(monkeypatch):
    cuts, words = [], TokenAttribution.words.fget
    monkeypatch.setattr(TokenAttribution, "words", property(lambda row: cuts.append(1) or words(row)))
    assert len(made().strongest()) == 3 and len(cuts) == 1
