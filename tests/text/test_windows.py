"""Windows over long texts, and rows of pre-split words."""

import numpy as np
import pytest
from tokenizers import Tokenizer as PackageTokenizer
from tokenizers import models, pre_tokenizers

from tests.tiny import sentences


def rows(batch):
    return [batch.row(i).tolist() for i in range(len(batch))]


def package_windows(n_tokens, room, stride):
    """Windows of the tokenizers package over this many tokens."""
    words = {f"w{i}": i for i in range(n_tokens + 1)}
    tokenizer = PackageTokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.enable_truncation(room, stride=stride)
    encoding = tokenizer.encode(" ".join(f"w{i}" for i in range(n_tokens)))
    return [encoding.ids, *(rest.ids for rest in encoding.overflowing)]


def inner(tiny, text):
    return tiny.encode_batch([text]).ids[1:-1].tolist()


def test_windows_equal_the_tokenizers_package(tiny):
    text = " ".join(sentences(4))
    ids = inner(tiny, text)
    assert len(ids) > 40
    for max_length in (3, 4, 7, 12, len(ids) + 1, len(ids) + 2, len(ids) + 9):
        for stride in range(0, min(max_length - 2, 6)):
            batch = tiny.encode_batch([text], max_length=max_length, stride=stride)
            expected = package_windows(len(ids), max_length - 2, stride)
            assert rows(batch) == [[0, *(ids[i] for i in window), 2] for window in expected]
            assert batch.window_starts.tolist() == [window[0] for window in expected]
            assert batch.row_of_window.tolist() == [0] * len(expected)
            assert batch.n_windows.tolist() == [len(expected)]
            assert not batch.n_dropped.any()


def test_each_row_has_its_windows(tiny):
    texts = [*sentences(6), "", "the"]
    batch = tiny.encode_batch(texts, max_length=9, stride=3, return_offsets=True)
    alone = [tiny.encode_batch([text], max_length=9, stride=3, return_offsets=True) for text in texts]
    assert rows(batch) == [row for one in alone for row in rows(one)]
    assert np.array_equal(batch.offsets, np.concatenate([one.offsets for one in alone]))
    assert batch.n_windows.tolist() == [len(one) for one in alone]
    assert batch.n_windows.tolist()[-2:] == [1, 1]
    assert (batch.lengths <= 9).all()
    last = batch.take([len(batch) - 1, 0])
    assert last.row_of_window.tolist() == [7, 0] and last.window_starts.tolist() == [0, 0]


@pytest.mark.parametrize("windowed", ["only_first", "only_second"])
def test_of_a_pair_one_text_is_windowed(tiny, windowed):
    short, long = sentences(5), [" ".join(sentences(9, seed=i)) for i in range(5)]
    texts, pairs = (short, long) if windowed == "only_second" else (long, short)
    batch = tiny.encode_batch(texts, pairs, truncation=windowed, max_length=60, stride=5, return_offsets=True)
    k = int(windowed == "only_second")
    seen = [set() for _ in short]
    for w, i in enumerate(batch.row_of_window.tolist()):
        span = batch.span(w)
        ids, sequence = batch.ids[span], batch.sequence_ids[span]
        assert ids[sequence == 1 - k].tolist() == inner(tiny, short[i])
        whole = inner(tiny, long[i])
        start = batch.window_starts[w]
        assert ids[sequence == k].tolist() == whole[start : start + (sequence == k).sum()]
        seen[i] |= set(range(start, start + (sequence == k).sum()))
        for begin, end in batch.offsets[span][sequence == k].tolist():
            assert long[i][begin:end].strip() in (long[i][begin:end], "")
    assert [len(tokens) for tokens in seen] == [len(inner(tiny, text)) for text in long]
    assert (batch.n_windows > 1).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"stride": -1, "max_length": 8}, "stride must be 0 or more tokens, found -1"),
        ({"stride": 1}, "stride needs max_length"),
        (
            {"stride": 6, "max_length": 8},
            "stride=6 must be less than the 6 tokens that max_length=8 leaves next to the special tokens",
        ),
        ({"stride": 4, "max_length": 8, "pairs": ["the"]}, "stride=4 must be less than the 4 tokens that max_length=8"),
        ({"stride": 0, "max_length": 1}, "stride=0 must be less than the 0 tokens that max_length=1"),
        (
            {"stride": 2, "max_length": 9, "pairs": ["the house the house"], "truncation": "only_first"},
            r"stride=2 must be less than what a window of row 0 can show: .* and the other text takes \d of them",
        ),
    ],
)
def test_impossible_windows_are_refused(tiny, call, message):
    with pytest.raises(ValueError, match=message):
        tiny.encode_batch([" ".join(sentences(3))], **call)


def test_no_rows_have_no_windows(tiny):
    batch = tiny.encode_batch([], max_length=8, stride=2)
    assert len(batch) == len(batch.n_windows) == 0


WORDS = [["the", "old", "house"], [], ["Wörter", "", " ", "\u200b", "ﬁ", "New York"], ["漢字"]]


def test_every_word_has_its_tokens(tiny):
    batch = tiny.encode_words(WORDS, return_offsets=True)
    assert len(batch) == 4
    for i, row in enumerate(WORDS):
        ids, word_ids = batch.row(i), batch.word_ids[batch.span(i)]
        assert word_ids[[0, -1]].tolist() == [-1, -1]
        assert sorted(set(word_ids[1:-1].tolist())) == list(range(len(row)))
        for k, word in enumerate(row):
            own = ids[word_ids == k].tolist()
            places = batch.offsets[batch.span(i)][word_ids == k].tolist()
            if word.strip("\u200b "):
                alone = tiny.encode_batch([word], return_offsets=True)
                assert own == alone.ids[1:-1].tolist()
                assert places == alone.offsets[1:-1].tolist()
            else:
                assert own == [tiny.unk_token_id] and places == [[0, 0]]


def test_words_truncated_and_windowed(tiny):
    words = [sentence.split() for sentence in sentences(5)]
    whole = tiny.encode_words(words)
    cut = tiny.encode_words(words, max_length=8)
    assert (cut.lengths <= 8).all() and (cut.lengths + cut.n_dropped == whole.lengths).all()
    windows = tiny.encode_words(words, max_length=8, stride=2)
    for i in range(5):
        shown = [windows.word_ids[windows.span(w)][1:-1] for w in np.flatnonzero(windows.row_of_window == i)]
        assert set(np.concatenate(shown).tolist()) == set(range(len(words[i])))
        assert cut.word_ids[cut.span(i)][1:-1].tolist() == shown[0].tolist()
    taken = whole.take([2])
    assert taken.word_ids.tolist() == whole.word_ids[whole.span(2)].tolist()
    assert whole.offsets is None and whole.sequence_ids is None


def test_words_may_spell_special_tokens(tiny):
    parsed = tiny.encode_words([["the", "<mask>"]], parse_special=True)
    assert parsed.ids[parsed.word_ids == 1].tolist() == [tiny.mask_token_id]
    assert tiny.mask_token_id not in tiny.encode_words([["the", "<mask>"]]).ids


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["the house"], "rows must be lists of words, found one str in row 0"),
        ([["a"], ["b", None]], "words must be str, found NoneType as word 1 of row 1"),
    ],
)
def test_words_must_be_words(tiny, words, message):
    with pytest.raises(TypeError, match=message):
        tiny.encode_words(words)
