"""Features of many texts, part by part: those of one call, each distinct text once, with the same errors and warnings."""

import re

import numpy as np
import pytest

from skxlmr import TruncationWarning, XLMRobertaVectorizer
from skxlmr.estimators._vectors import parts
from skxlmr.estimators._vectors.parts import Rows, one_dimension, parts_of
from skxlmr.inference import _progress
from skxlmr.utils._validation import Texts


@pytest.fixture
def small_parts(monkeypatch):
    """Parts of five rows."""
    monkeypatch.setattr(parts, "ROWS", 5)


def repeated(texts):
    """Texts of which some come again in the same part, and some in later ones."""
    return [*texts[:7], texts[6], texts[0], *texts[7:12], texts[3], texts[13], texts[13]]


KINDS = {
    "texts": (repeated, {}),
    "pairs": (lambda texts: list(zip(repeated(texts), [text[:9] for text in repeated(texts[::-1])], strict=True)), {}),
    "side by side": (lambda texts: list(zip(repeated(texts), repeated(texts[:3] * 5), strict=True)), {"pairs": False}),
    "windows": (
        lambda texts: [" ".join([text] * 4) for text in repeated(texts)],
        {"long_text": "window", "stride": 2, "max_length": 24},
    ),
    "a prompt": (repeated, {"prompt": "query: ", "normalize": True, "truncate_dim": 5}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_parts_equal_the_whole(make, texts, monkeypatch, kind):
    rows, params = KINDS[kind]
    X, vectorizer = rows(texts), make(XLMRobertaVectorizer, **params)
    whole = vectorizer.transform(X)
    monkeypatch.setattr(parts, "ROWS", 5)
    found = vectorizer.transform(X)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, whole, rtol=0, atol=1e-6)
    assert np.ptp(whole, axis=0).min() > 1e-3  # rows differ, so that a wrong order would show


@pytest.mark.parametrize("pairs", [True, False], ids=["pairs", "side by side"])
def test_each_distinct_row_is_encoded_once(make, texts, computed, small_parts, pairs):
    X = [[text, texts[30 + i % 3]] for i, text in enumerate(repeated(texts)[:12])]
    distinct = {tuple(row) for row in X} if pairs else {text for row in X for text in row}
    make(XLMRobertaVectorizer, pairs=pairs).transform(X + X)
    assert sum(computed) == len(distinct) and len(computed) > 2


def test_each_distinct_text_is_tokenised_once(make, texts, monkeypatch, tiny_tokenizer, small_parts):
    read, kind = [], type(tiny_tokenizer)
    original = kind._encode_texts
    monkeypatch.setattr(kind, "_encode_texts", lambda self, some, how: read.extend(some) or original(self, some, how))
    vectorizer = make(XLMRobertaVectorizer).fit(texts[:1])
    read.clear()
    vectorizer.transform(repeated(texts))
    assert sorted(read) == sorted(set(repeated(texts)))


def test_bounds_of_parts(monkeypatch):
    texts = Texts(["a" * n for n in (3, 3, 1, 1, 1, 1, 9, 2)])
    monkeypatch.setattr(parts, "ROWS", 3)
    monkeypatch.setattr(parts, "CHARACTERS", 6)
    bounds = [(0, 2), (2, 5), (5, 6), (6, 7), (7, 8)]  # a longer text is a part of its own
    assert [(part.start, part.stop) for part in parts_of(texts, 4)] == bounds
    for n, (start, _) in enumerate(bounds):
        assert [(part.start, part.stop) for part in parts_of(texts, 4, start)] == bounds[n:]
    monkeypatch.setattr(parts, "BYTES", 4 * 100 * 2)
    assert next(parts_of(texts, 100)) == slice(0, 2)
    assert next(parts_of(texts, 1000)) == slice(0, 1)
    assert list(parts_of(Texts([]), 4)) == []


def test_equal_rows():
    rows = Rows.of(Texts(["a", "b", "a", "", "b", "a", "\ud800"]))
    assert rows.first_N.tolist() == [0, 1, 0, 3, 1, 0, 6] and rows.times_N.tolist() == [3, 2, 0, 1, 0, 0, 1]
    pairs = Rows.of(Texts(["a", "ab", "a", "1 a"], ["bc", "c", "bc", ""]))
    assert pairs.first_N.tolist() == [0, 1, 0, 3]
    assert len({Rows.of(texts).digest for texts in (Texts(["a"]), Texts(["a"], [""]), Texts(["a", "a"]))}) == 3


def test_columns_side_by_side_follow_one_another_in_a_row():
    assert one_dimension(Texts(["a", "b", "c", "1", "2", "3"], side_by_side=2)).first == ["a", "1", "b", "2", "c", "3"]


def test_truncation_is_warned_of_once_with_all_rows(make, texts, small_parts, monkeypatch):
    X, vectorizer, said = repeated(texts), make(XLMRobertaVectorizer, max_length=9), []
    for most in (5, 1000):
        monkeypatch.setattr(parts, "ROWS", most)
        with pytest.warns(TruncationWarning) as found:
            vectorizer.transform(X)
        assert len(found) == 1 and found[0].filename == __file__
        said.append(str(found[0].message))
    assert said[0] == said[1] and re.match(r"[1-9]\d* of 17 texts are longer than 9 tokens", said[0])


def test_an_error_names_the_row_of_the_input(make, texts, small_parts):
    X = [("a", "b"), *[(text, text) for text in texts[:6]], (" ".join(texts), " ".join(texts))]
    with pytest.raises(ValueError, match=r"^row 7: a pair's shorter text must leave room"):
        make(XLMRobertaVectorizer, long_text="window", stride=0).transform(X)


def test_one_progress_bar_for_all_parts(make, texts, small_parts, monkeypatch, capsys):
    vectorizer = make(XLMRobertaVectorizer, verbose=1, batch_size=1).fit(texts[:1])
    monkeypatch.setattr(_progress, "PATIENCE", 0)
    monkeypatch.setattr(_progress, "INTERVAL", 0)
    vectorizer.transform(texts[:12] + texts[:3])
    lines = capsys.readouterr().err.split("\r")[1:]
    shown = [int(re.match(r"rows (\d+)/12 ", line)[1]) for line in lines]
    assert shown == sorted(shown) and shown[-1] == 12 and {5, 10} <= set(shown)
    assert [line.endswith("\n") for line in lines] == [False] * (len(lines) - 1) + [True]
