"""Truncating a huge text costs little, and the ids are those of the whole text."""

import random
import resource
import sys
import tracemalloc

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor

from skxlmr.text._sentencepiece import prefix, tokenizer
from tests.text.texts import HOSTILE, real_texts
from tests.tiny import sentences


def cases(texts, n, seed=0, length=3000):
    """Long strings from shuffled texts, with and without spaces between and inside them."""
    rng = random.Random(seed)
    for i in range(n):
        joint = ("", " ", "\n", "\u3000", "。", "\x01", "<s>")[i % 7]
        parts = rng.choices(texts, k=max(2, length // 40))
        yield joint.join(parts) if i % 3 else joint.join(parts).replace(" ", "")


def check(tokenizer, texts, budgets):
    n_cut = 0
    whole = tokenizer.encode_batch(texts, return_offsets=True)
    for budget in budgets:
        cut = tokenizer.encode_batch(texts, max_length=budget, return_offsets=True)
        for i in range(len(texts)):
            inner = whole.ids[whole.span(i)][1:-1]
            row = cut.row(i)
            assert row[1:-1].tolist() == inner[: budget - 2].tolist()
            assert np.array_equal(cut.offsets[cut.span(i)][1:-1], whole.offsets[whole.span(i)][1:-1][: budget - 2])
            assert (cut.n_dropped[i] > 0) == (len(inner) > budget - 2)
            n_dropped = max(0, len(inner) - budget + 2)
            if cut.n_dropped_is_minimum is not None and cut.n_dropped_is_minimum[i]:
                assert 0 < cut.n_dropped[i] <= n_dropped
                n_cut += 1
            else:
                assert cut.n_dropped[i] == n_dropped
    return n_cut


@pytest.fixture
def short_is_long(monkeypatch):
    """Look for a place to cut in short texts, too."""
    monkeypatch.setattr(prefix, "LONG_TEXT", 64)
    monkeypatch.setattr(tokenizer, "LONG_TEXT", 64)


def test_tiny_model(tiny, short_is_long):
    texts = list(cases(sentences(200), 150))
    assert check(tiny, [*texts, *HOSTILE], [2, 3, 9, 40]) > 300


def test_real_texts(xlmr, shared_data, short_is_long):
    texts = [text for _, text in real_texts(shared_data, step=60)]
    assert (
        check(xlmr, list(cases([*texts, *HOSTILE[:-12]], 21, length=2000)), [12, 60]) > 30
    )  # each way to join, thrice


@pytest.mark.slow
def test_a_thousand_real_cases(xlmr, shared_data, short_is_long):
    texts = [text for _, text in real_texts(shared_data, step=5)]
    made = list(cases([*texts, *HOSTILE], 1000, seed=1, length=20_000))
    n_cut = sum(check(xlmr, made[i : i + 50], [16, 512]) for i in range(0, 1000, 50))
    print(f"{n_cut} of 2000 truncations looked at a part of the text only")
    assert n_cut > 1000


def test_pairs_with_a_huge_text(tiny, short_is_long):
    short, long = sentences(6), [" ".join(sentences(60, seed=i)) for i in range(6)]
    for texts, pairs in ((short, long), (long, short), (long, long[::-1])):
        for max_length in (20, 21):
            first, second = (tiny.encode_batch(part) for part in (texts, pairs))
            batch = tiny.encode_batch(texts, pairs, max_length=max_length)
            for i in range(6):
                row = batch.row(i)
                k = int(np.flatnonzero(row == tiny.sep_token_id)[0])
                a, b = first.row(i)[1:-1], second.row(i)[1:-1]
                room = max_length - 4
                n_short = min(len(a), len(b), room // 2)
                n_first = room - n_short if len(a) > len(b) else n_short
                assert row[1:k].tolist() == a[:n_first].tolist()
                assert row[k + 2 : -1].tolist() == b[: room - n_first].tolist()


def test_the_loss_is_exact_unless_the_end_was_skipped(tiny):
    text = " ".join(sentences(3000))
    assert len(text) > prefix.LONG_TEXT
    n = len(tiny.encode_batch([text]).ids) - 16
    cut = tiny.encode_batch([text, "the house " * 20, "the"], max_length=16)
    assert cut.n_dropped_is_minimum.tolist() == [True, False, False]
    assert 1000 < cut.n_dropped[0] < n
    assert cut.describe_longest_loss() == f"at least {cut.n_dropped[0]:,} tokens"
    pairs = tiny.encode_batch(["the", text, "the"], ["the", "the", text], max_length=16)
    assert pairs.n_dropped_is_minimum.tolist() == [False, True, True]
    parsed = tiny.encode_batch(["a <mask>", text], max_length=16, parse_special=True)
    assert parsed.n_dropped_is_minimum.tolist() == [False, True]
    for batch in (
        cut.take([1, 2]),
        tiny.encode_batch(["the house " * 20], max_length=16),
        tiny.encode_batch([text]),
        tiny.encode_batch([text], max_length=16, stride=2),
        tiny.encode_batch([text], ["the"], max_length=17),  # whole texts decide where the odd token goes
        tiny.encode_words([text.split()], max_length=16),
    ):
        assert batch.n_dropped_is_minimum is None or not batch.n_dropped_is_minimum.any()
        assert "at least" not in batch.describe_longest_loss()
    assert tiny.encode_words([text.split()], max_length=16).n_dropped[0] > 1000


def test_ten_megabytes(xlmr, shared_data, monkeypatch):
    """SentencePiece sees a small part of the text, and no memory is taken for the rest."""
    text = " ".join(text for _, text in real_texts(shared_data, step=4))
    text = (text * (10_000_000 // len(text.encode()) + 1)).encode()[:10_000_000].decode(errors="ignore")
    xlmr.encode_batch([text[:100_000]], max_length=512)  # builds the table of the vocabulary, once per tokenizer
    seen = []

    def counted(method):
        def count(self, given, *args, **options):
            seen.extend(map(len, given if isinstance(given, list) else [given]))
            return method(self, given, *args, **options)

        return count

    for name in ("encode", "normalize"):
        monkeypatch.setattr(SentencePieceProcessor, name, counted(getattr(SentencePieceProcessor, name)))
    tracemalloc.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    batch = xlmr.encode_batch([text], max_length=512)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    monkeypatch.undo()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    assert batch.lengths.tolist() == [512] and batch.n_dropped[0] > 0
    assert batch.ids[1:400].tolist() == xlmr.encode_batch([text[:20_000]]).ids[1:400].tolist()
    assert 0 < sum(seen) < 200_000
    assert max(peak, grown) < 200e6


def test_a_text_without_a_place_to_cut_is_encoded_as_a_whole(tiny, short_is_long):
    pairs = {piece[i : i + 2] for piece in tiny._model_pieces for i in range(len(piece) - 1)}
    letter = min(pair[0] for pair in pairs if pair[0] == pair[1])
    assert check(tiny, [letter * 3000], [12]) == 0
