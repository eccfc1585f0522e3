"""Subword regularisation: SentencePiece's distribution, from a seed alone."""

import json
import math
import random
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import sentencepiece
from sentencepiece import SentencePieceProcessor

from skxlmr.text import SentencePieceTokenizer, SubwordSampling, load_tokenizer
from skxlmr.utils._errors import CheckpointError
from tests import processes
from tests.text.alone import draw
from tests.tiny import sentences, train

TEXTS = sentences(40)


def rows(batch):
    return [batch.row(i).tolist() for i in range(len(batch))]


@pytest.mark.parametrize("sampling", [SubwordSampling(), SubwordSampling(nbest_size=16, alpha=0.2)])
def test_the_seed_decides(tiny, sampling):
    first = rows(tiny.encode_batch(TEXTS, sampling=sampling))
    random.seed(99)
    assert rows(tiny.encode_batch(TEXTS, sampling=sampling)) == first
    with ThreadPoolExecutor(3) as pool:
        assert all(rows(b) == first for b in pool.map(lambda _: tiny.encode_batch(TEXTS, sampling=sampling), range(6)))
    other = SubwordSampling(sampling.nbest_size, sampling.alpha, seed=1)
    assert rows(tiny.encode_batch(TEXTS, sampling=other)) != first
    assert first != rows(tiny.encode_batch(TEXTS))


def test_another_process_draws_the_same(tiny, tiny_proto, tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(tiny_proto)
    done = processes.run(draw, tmp_path, TEXTS[:9], SubwordSampling(seed=4))
    ids = tiny.encode_batch(TEXTS[:9], sampling=SubwordSampling(seed=4)).ids
    assert json.loads(done.stdout) == ids.tolist()


@pytest.mark.parametrize("options", [{"byte_fallback": True, "vocab_size": 660}])
def test_models_that_cannot_be_drawn_from(options):
    with pytest.raises(ValueError, match="sampling needs a model whose unknown characters do not fall back to bytes"):
        SentencePieceTokenizer(train(**options)).encode_batch(["a"], sampling=SubwordSampling())


@pytest.mark.parametrize("nbest_size", [0, 1])
def test_sizes_0_and_1_draw_nothing(tiny, nbest_size):
    sampling = SubwordSampling(nbest_size)
    assert rows(tiny.encode_batch(TEXTS, sampling=sampling)) == rows(tiny.encode_batch(TEXTS))


def test_long_texts_are_drawn_among_all_but_not_among_many(tiny):
    texts = ["the small old house " * 800]
    best, among_many, among_all = (
        rows(tiny.encode_batch(texts, sampling=sampling))
        for sampling in (None, SubwordSampling(512, 0.1), SubwordSampling(-1, 0.1))
    )
    assert among_many == best != among_all


def test_drawn_tokens_spell_the_text_and_lie_on_it(tiny):
    texts = [*TEXTS, "the 漢 house", ""]
    batch = tiny.encode_batch(texts, sampling=SubwordSampling(), return_offsets=True)
    for i, text in enumerate(texts):
        if "漢" not in text:
            assert tiny.decode(batch.row(i)) == text
        shown = "".join(text[begin:end] for begin, end in batch.offsets[batch.span(i)].tolist())
        assert shown.replace(" ", "") == text.replace(" ", "")
    words = tiny.encode_words([text.split() for text in TEXTS], sampling=SubwordSampling())
    assert words.word_ids.max() > 3


@pytest.mark.parametrize("text", ["the bird", "the 漢字 bird"])
@pytest.mark.parametrize(("nbest_size", "alpha"), [(-1, 0.3), (5, 0.3), (-1, 0.0), (20, 0.1)])
def test_distribution_equals_sentencepieces(tiny, tiny_proto, nbest_size, alpha, text):
    """10,000 draws of ours against 10,000 of sentencepiece's and, for n-best, the exact probabilities."""
    n = 10_000
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(tiny_proto)
    sentencepiece.set_random_generator_seed(5)
    theirs = Counter(
        map(
            tuple, processor.encode([text] * n, enable_sampling=True, nbest_size=nbest_size, alpha=alpha, num_threads=1)
        )
    )
    batch = tiny.encode_batch([text] * n, sampling=SubwordSampling(nbest_size, alpha, seed=7))
    ours = Counter(tuple(i - 1 if i > 3 else 0 for i in row[1:-1]) for row in rows(batch))
    kinds = sorted(set(ours) | set(theirs))
    assert len(kinds) > 3
    expected = np.array([(ours[kind] + theirs[kind]) / 2 for kind in kinds])
    usual = expected >= 5
    chi2 = sum(
        ((counts[k] - e) ** 2 / e) for counts in (ours, theirs) for k, e in zip(kinds, expected, strict=True) if e >= 5
    )
    degrees = usual.sum() - 1
    assert chi2 < degrees + 5 * math.sqrt(2 * degrees)
    if nbest_size > 1 and "漢" not in text:
        scores = {
            tuple(ids): sum(map(processor.get_score, ids))
            for ids in processor.nbest_encode(text, nbest_size=nbest_size)
        }
        weights = {ids: math.exp(alpha * score) for ids, score in scores.items()}
        for ids, weight in weights.items():
            p = weight / sum(weights.values())
            assert abs(ours[ids] / n - p) < 5 * math.sqrt(p * (1 - p) / n)


def test_the_checkpoints_own_sampling(tiny_proto, tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(tiny_proto)
    config = tmp_path / "tokenizer_config.json"
    config.write_text(json.dumps({"sp_model_kwargs": {"enable_sampling": True, "nbest_size": 8, "alpha": 0.2}}))
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.subword_sampling(seed=3) == SubwordSampling(8, 0.2, 3)
    assert rows(tokenizer.encode_batch(TEXTS)) == rows(SentencePieceTokenizer(tiny_proto).encode_batch(TEXTS))
    tokenizer.save(tmp_path / "saved")
    assert load_tokenizer(tmp_path / "saved") == tokenizer
    assert SentencePieceTokenizer(tiny_proto).subword_sampling(seed=0) is None
    for broken in ([], {"enable_sampling": True, "alpha": "x"}, {"enable_sampling": True, "nbest_size": 513}):
        config.write_text(json.dumps({"sp_model_kwargs": broken or [1]}))
        with pytest.raises(CheckpointError, match="sp_model_kwargs"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nbest_size": 513}, "nbest_size must be at most 512, found 513"),
        ({"alpha": -0.1}, "alpha must be a finite number of 0 or more, found -0.1"),
        ({"alpha": float("nan")}, "alpha must be"),
        ({"seed": -1}, "seed must be 0 or more, found -1"),
    ],
)
def test_values_out_of_range(values, message):
    with pytest.raises(ValueError, match=message):
        SubwordSampling(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nbest_size": 2.5}, "nbest_size must be a whole number, found 2.5"),
        ({"seed": None}, "seed must be a whole number, found None"),
        ({"alpha": "x"}, "alpha must be a number, found 'x'"),
    ],
)
def test_values_that_are_no_numbers(values, message):
    with pytest.raises(TypeError, match=message):
        SubwordSampling(**values)


def test_numbers_of_numpy_draw_the_same(tiny):
    sampling = SubwordSampling(np.int64(16), np.float32(0.5), np.uint32(3))
    assert sampling == SubwordSampling(16, 0.5, 3) and type(sampling.seed) is int
    assert rows(tiny.encode_batch(TEXTS, sampling=sampling)) == rows(
        tiny.encode_batch(TEXTS, sampling=SubwordSampling(16, 0.5, 3))
    )
