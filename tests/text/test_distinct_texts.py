"""Each distinct string is tokenised once per call, and every row is the same as if it were encoded alone."""

import dataclasses

import numpy as np
import pytest

from skxlmr.text import EncodedBatch, SubwordSampling
from skxlmr.text._tokens import Tokens, encode_distinct
from tests.tiny import sentences

TEXTS = [*sentences(7), "", "the house", " ", "the 漢 house"]
REPEATED = [TEXTS[i] for i in (3, 0, 7, 3, 8, 3, 1, 7, 10, 9, 0, 3, 2, 10)]
LONG = [" ".join(sentences(5, seed=i % 3)) for i in range(len(REPEATED))]


@pytest.fixture
def passed_down(tokenizer, monkeypatch):
    """The strings of each call to the tokenizer's own encoding."""
    calls = []

    def count(method):
        def encode(self, strings, *options):
            calls.append(strings)
            return method(self, strings, *options)

        return encode

    cls = type(tokenizer)
    monkeypatch.setattr(cls, "_encode_texts", count(cls._encode_texts))
    return calls


def assert_same_as_alone(batch, alone):
    """Every array of the batch equals those of rows encoded one by one."""
    for field in dataclasses.fields(EncodedBatch):
        found, expected = (getattr(each, field.name) for each in (batch, alone[0]))
        if field.name == "row_of_window" and found is not None:
            expected = np.repeat(np.arange(len(alone)), [len(one) for one in alone])
        elif expected is not None:
            expected = np.concatenate([getattr(one, field.name) for one in alone])
        assert (found is None) == (expected is None), field.name
        if found is not None:
            np.testing.assert_array_equal(found, expected, err_msg=field.name)
            assert found.dtype == expected.dtype, field.name


OPTIONS = [
    {},
    {"max_length": 9},
    {"return_offsets": True},
    {"max_length": 12, "stride": 2, "return_offsets": True},
    {"parse_special": True, "max_length": 8},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_texts(tokenizer, passed_down, options):
    alone = [tokenizer.encode_batch([text], **options) for text in REPEATED]
    passed_down.clear()
    batch = tokenizer.encode_batch(REPEATED, **options)
    assert passed_down == [list(dict.fromkeys(REPEATED))]
    assert_same_as_alone(batch, alone)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_length": 20},
        {"max_length": 21, "return_offsets": True},
        {"max_length": 120, "truncation": "only_second", "return_offsets": True},
        {"max_length": 120, "truncation": "only_second", "stride": 5, "return_offsets": True},
        {"max_length": 120, "stride": 0},
    ],
    ids=str,
)
def test_pairs(tokenizer, passed_down, options):
    """A text that is on both sides is encoded once, too."""
    first, second = [*REPEATED, TEXTS[4]], [*LONG, TEXTS[3]]
    alone = [tokenizer.encode_batch([a], [b], **options) for a, b in zip(first, second, strict=True)]
    passed_down.clear()
    batch = tokenizer.encode_batch(first, second, **options)
    assert passed_down == [list(dict.fromkeys([*first, *second]))]
    assert TEXTS[3] in first and TEXTS[3] in second
    assert_same_as_alone(batch, alone)


@pytest.mark.parametrize(
    "options", [{}, {"return_offsets": True}, {"max_length": 9, "stride": 2, "return_offsets": True}], ids=str
)
def test_words(tokenizer, passed_down, options):
    rows = [*(text.split(" ") for text in [*REPEATED, *LONG]), [], ["", "", "the"], [], ["the"] * 5]
    words = [word for row in rows for word in row]
    alone = [tokenizer.encode_words([row], **options) for row in rows]
    passed_down.clear()
    batch = tokenizer.encode_words(rows, **options)
    assert (
        passed_down[0] == list(dict.fromkeys(words)) and len(passed_down) == 1 and len(passed_down[0]) < len(words) / 2
    )
    assert_same_as_alone(batch, alone)


def test_numbers_of_strings_in_common_uses(tokenizer, passed_down):
    hundred, labels = [f"{text} {i}" for i, text in enumerate(sentences(100))], [f"about {i}" for i in range(20)]
    tokenizer.encode_batch(["the same"] * 50)
    tokenizer.encode_batch([text for text in hundred for _ in labels], labels * 100, truncation="only_first")
    tokenizer.encode_batch(["Who?", "Where?"] * 30, ["one context"] * 60)
    tokenizer.encode_words([["to", "be", "or", "not", "to", "be"]] * 9)
    assert [len(strings) for strings in passed_down] == [1, 120, 3, 4]


def test_distinct_texts_keep_their_order(tokenizer, passed_down):
    texts = sentences(20)
    tokenizer.encode_batch(texts)
    assert passed_down == [texts]


def test_each_row_draws_its_own_segmentation(tiny, monkeypatch):
    calls = []
    monkeypatch.setattr(
        tiny._sampler, "draw", lambda texts, _, draw=tiny._sampler.draw: calls.append(texts) or draw(texts, _)
    )
    sampling = SubwordSampling(seed=2)
    batch = tiny.encode_batch(["the old house"] * 50, ["the old house"] * 50, sampling=sampling)
    assert calls == [["the old house"] * 50] * 2
    assert len({batch.row(i).tobytes() for i in range(50)}) > 5
    tiny.encode_words([["the", "the"], ["the"]], sampling=sampling)
    assert calls[2:] == [["the"] * 3]
    batch = tiny.encode_batch(["the old house"] * 50, sampling=SubwordSampling(1))  # the best one, nothing drawn
    assert len(calls) == 3 and len({batch.row(i).tobytes() for i in range(50)}) == 1


def test_equal_texts_share_their_tokens():
    def encode(texts):
        lengths = np.array([len(text) for text in texts])
        return Tokens.packed(np.frombuffer("".join(texts).encode("utf-32-le"), np.int32), lengths)

    first, second = encode_distinct(encode, ["ab", "c", "ab"], ["c", "", "d"])
    assert first.ids is second.ids and "".join(map(chr, first.ids)) == "abcd"
    assert [first.starts.tolist(), first.lengths.tolist()] == [[0, 2, 0], [2, 1, 2]]
    assert [second.starts.tolist(), second.lengths.tolist()] == [[2, 3, 3], [1, 0, 1]]
