"""Texts whose tokens stay are cut as before, for models made to be difficult: ties, missing characters, odd scores."""

import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from skxlmr import XLMClassifier, load, save, trim_vocabulary
from skxlmr.text import FastTokenizer, SentencePieceTokenizer, TokenizerSettings, XLMTokenizer, load_tokenizer
from skxlmr.text._sentencepiece.pieces import BYTE, USER_DEFINED, pieces_of, with_pieces
from skxlmr.text._special_tokens import DEFAULT_ROLES
from skxlmr.trimming._tokenizer_files import trimmed_json, vocabulary_of
from skxlmr.trimming._unigram import Unigram
from tests.tiny import train, write_xlm_checkpoint
from tests.trimming.kinds import SPECIAL, tokenizer_of
from tests.trimming.texts import back, rows

pb = pytest.importorskip("sentencepiece.sentencepiece_model_pb2", reason="a model is put together with protobuf")

few = settings(max_examples=150, deadline=None)
words = st.lists(st.text("abcd", min_size=1, max_size=8), min_size=1, max_size=4).map(" ".join)
corpora = st.lists(words, min_size=1, max_size=6)


def model_of(pieces, kinds=(), byte_fallback=False):
    """A Unigram model with these pieces and scores behind the three special ones."""
    proto = pb.ModelProto.FromString(train(vocab_size=300))
    special = list(proto.pieces[:3])
    del proto.pieces[:]
    proto.pieces.extend(special)
    for piece, score in pieces.items():
        kind = kinds.get(piece, 1) if kinds else 1
        proto.pieces.add(piece=piece, score=score, type=kind)
    proto.trainer_spec.byte_fallback = byte_fallback
    return proto.SerializeToString()


def trimmed(proto, texts, min_count=1, characters=True):
    """The tokenizer before and after, as `trim_vocabulary` chooses pieces, and the old ids."""
    before = SentencePieceTokenizer(proto)
    vocabulary = Unigram.of_sentencepiece(before)
    counts = np.bincount(
        np.concatenate([row[1:-1] for row in map(np.array, rows(before, texts))]), minlength=before.vocab_size
    )
    kept = counts >= min_count
    kept[[0, 1, 2, 3, before.vocab_size - 1]] = True
    kept = vocabulary.needed(kept | vocabulary.characters() & characters)
    ids = np.flatnonzero(kept)
    places = [0, 1, 2, *(i - 1 for i in ids if 4 <= i < before.vocab_size - 1)]
    return before, SentencePieceTokenizer(with_pieces(proto, places)), ids


def assert_same_where_all_stays(before, after, ids, texts):
    n = 0
    for text in texts:
        (old,), (new,) = rows(before, [text]), rows(after, [text])
        if set(old) <= set(ids.tolist()):
            assert back([new], ids) == [old], text
            n += 1
    return n


@st.composite
def models(draw):
    """Pieces over four letters with few distinct scores, so that many sums are equal, and some far below the others."""
    pieces = draw(st.lists(st.text("▁abcd", min_size=1, max_size=4), min_size=2, max_size=40, unique=True))
    scores = st.sampled_from([-1.0, -2.0, -3.0, -4.0, -6.0, -30.0, -60.0])
    return {piece: draw(scores) for piece in pieces}


@few
@given(models(), corpora, corpora, st.integers(1, 3), st.booleans())
def test_unigram_models(pieces, texts, others, min_count, characters):
    before, after, ids = trimmed(model_of(pieces), texts, min_count, characters)
    n = assert_same_where_all_stays(before, after, ids, texts + others)
    assert min_count > 1 or n >= len(set(texts))


def test_the_piece_with_the_lowest_score_stays():
    """Without it unknown characters would cost less: a "c" that is gone would be cheaper than the best way without it."""
    pieces = {"▁a": -30.0, "bc": -30.0, "d": -30.0, "▁ab": -5.0, "c": -60.0, "▁x": -7.0}
    texts = ["abcd", "ab"]
    before, after, ids = trimmed(model_of(pieces), texts, characters=False)
    assert before.convert_ids_to_pieces(rows(before, texts)[0])[1:-1] == ["▁a", "bc", "d"]
    assert back(rows(after, texts), ids) == rows(before, texts)
    assert [piece.text for piece in pieces_of(after.model_proto)[3:]] == ["▁a", "bc", "d", "▁ab", "c"]
    broken = SentencePieceTokenizer(with_pieces(before.model_proto, [0, 1, 2, 3, 4, 5, 6]))
    assert broken.convert_ids_to_pieces(rows(broken, texts)[0])[1:-1] == ["▁ab", "<unk>", "d"]


def test_symbols_of_users_and_bytes_stay():
    symbols = {"<c>": USER_DEFINED}
    before, after, ids = trimmed(
        model_of({"▁": -2.0, "a": -1.0, "aa": -1.5, "<c>": 0.0}, symbols), ["a"], characters=False
    )
    texts = ["a", "a<c>a", "<c>"]
    assert back(rows(after, texts), ids) == rows(before, texts)
    bytes_ = {f"<0x{i:02X}>": 0.0 for i in range(256)}
    proto = model_of(
        {**bytes_, "▁": -2.0, "a": -1.0, "aa": -1.5, "b": -3.0}, dict.fromkeys(bytes_, BYTE), byte_fallback=True
    )
    before, after, ids = trimmed(proto, ["a"], characters=False)
    texts = ["a", "é漢", "aé"]
    assert back(rows(after, texts), ids) == rows(before, texts)
    assert after.vocab_size < before.vocab_size


def test_the_order_and_the_bytes_of_the_pieces_stay():
    proto = train(vocab_size=300)
    assert with_pieces(proto, range(len(pieces_of(proto)))) == proto
    processor = SentencePieceProcessor(model_proto=with_pieces(proto, [0, 1, 2, 7, 200]))
    assert processor.id_to_piece([3, 4]) == [pieces_of(proto)[i].text for i in (7, 200)]


def test_samples_that_test_a_model_go():
    """SentencePiece would refuse the model whose samples need pieces that are gone."""
    sample = b"\x0a\x08the bird\x12\x0e" + "▁the▁bird".encode()[:14]
    proto = train(vocab_size=300)
    tested = proto + bytes([4 << 3 | 2, len(sample) + 2, 1 << 3 | 2, len(sample)]) + sample
    assert with_pieces(tested, range(len(pieces_of(tested)))) == proto


@few
@given(
    st.lists(st.text("abcd", min_size=1, max_size=4), min_size=2, max_size=25, unique=True),
    st.integers(0, 2**25),
    corpora,
    corpora,
    st.integers(1, 3),
    st.booleans(),
)
def test_wordpiece(pieces, marks, texts, others, min_count, characters):
    """Unknown words included, of which some pieces are found before the place where none fits."""
    marked = [f"{'##' * (marks >> i & 1)}{piece}" for i, piece in enumerate(pieces)]
    vocab = {piece: i for i, piece in enumerate([*SPECIAL, *marked])}
    check(tokenizer_of(vocab, "WordPiece"), texts, others, min_count, characters)


def test_the_beginnings_of_unknown_words_stay():
    vocab = {piece: i for i, piece in enumerate([*SPECIAL, "ab", "a", "##bc", "##b", "d"])}
    before, after, ids = check(tokenizer_of(vocab, "WordPiece"), ["abc", "a", "abx"], [], 1, False)
    assert before.convert_ids_to_pieces(rows(before, ["abc"])[0]) == ["<s>", "<unk>", "</s>"]
    assert "ab" in after.convert_ids_to_pieces(range(after.vocab_size)) and len(ids) < len(vocab)


@few
@given(st.integers(0, 10**6), corpora, corpora, st.integers(1, 3), st.booleans())
def test_byte_pairs(seed, texts, others, min_count, characters):
    """Merges in any order, the same token by several ways among them, and characters that are missing."""
    rng = random.Random(seed)
    symbols, merges = rng.sample("abcd", rng.randint(2, 4)), []
    for _ in range(25):
        pair = (rng.choice(symbols), rng.choice(symbols))
        if pair not in merges and len("".join(pair)) < 9:
            merges.append(pair)
            symbols.append("".join(pair))
    vocab = {piece: i for i, piece in enumerate(dict.fromkeys([*SPECIAL, *symbols]))}
    check(tokenizer_of(vocab, "BPE", merges), texts, others, min_count, characters)


def check(before, texts, others, min_count, characters):
    """Trim; returns both tokenizers and the ids that stayed."""
    vocabulary = vocabulary_of(Path("folder"), before)
    vocabulary.look(before, texts)
    counts = np.bincount(
        np.concatenate([np.array(row, int) for row in rows(before, texts)]), minlength=before.vocab_size
    )
    kept = counts >= min_count
    kept[: len(SPECIAL)] = True
    ids = np.flatnonzero(vocabulary.needed(kept | vocabulary.characters() & characters))
    content = trimmed_json(before.content, {int(old): i for i, old in enumerate(ids)}, vocabulary)
    after = FastTokenizer(content, settings=TokenizerSettings(roles=DEFAULT_ROLES))
    n = assert_same_where_all_stays(
        before, after, ids, texts if "WordPiece" in str(before.content["model"]["type"]) else texts + others
    )
    assert min_count > 1 or n >= len(texts)
    return before, after, ids


def test_what_the_original_xlm_merges_to_and_has_no_id_for(tmp_path):
    """Such a word is unknown, and without its merges would fall into parts that are known."""
    pytest.importorskip("sacremoses", reason="the original XLM needs the extra xlm")
    special = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10))]
    vocab = {piece: i for i, piece in enumerate([*special, "a", "b", "c", "c</w>", "b</w>", "ab", "d</w>", "bc"])}
    before = XLMTokenizer(vocab, [("a", "b"), ("b", "c"), ("ab", "c</w>")])
    folder = write_xlm_checkpoint(tmp_path / "whole", before)
    report = trim_vocabulary(folder, ["abc d"], tmp_path / "small")
    after = load_tokenizer(report.folder)
    assert before.convert_ids_to_pieces(rows(before, ["abc d"])[0])[1:-1] == ["<unk>", "d</w>"]
    assert back(rows(after, ["abc d"]), report.old_ids) == rows(before, ["abc d"])
    assert "bc" not in after.vocab and ("b", "c") not in after.merges


@pytest.mark.parametrize("keep", ["characters", "used"])
@pytest.mark.parametrize("without_id", [("ab", "abde"), ()], ids=["steps without ids", "all ids"])
def test_no_word_of_the_original_xlm_stops_at_a_step_without_an_id(tmp_path, keep, without_id):
    """Such a step stays for "abc". Words that went on from there still do, also by a further step without an id."""
    pytest.importorskip("sacremoses", reason="the original XLM needs the extra xlm")
    special = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10))]
    letters = [piece for c in "abcde" for piece in (c, f"{c}</w>")]
    merges = [("a", "b"), ("d", "e"), ("ab", "c</w>"), ("ab", "d</w>"), ("ab", "de"), ("abde", "a</w>"), ("c", "d")]
    made = [left + right for left, right in merges if left + right not in without_id]
    before = XLMTokenizer({piece: i for i, piece in enumerate([*special, *letters, *made])}, merges)
    folder = write_xlm_checkpoint(tmp_path / "whole", before)
    after = load_tokenizer(trim_vocabulary(folder, ["abc a b c d e"], tmp_path / "small", keep=keep).folder)
    onward = {"abc</w>", "abd</w>", "de", "abdea</w>"} if without_id else {"ab", "abc</w>"}
    assert after.vocab.keys() & set(made) == onward
    for word in ("abc", "abd", "abdea", "dea"):
        old, new = (each.convert_ids_to_pieces(rows(each, [word])[0]) for each in (before, after))
        assert new == old if without_id else "<unk>" not in new, word


def test_the_original_xlm_reads_kept_texts_by_the_rules_of_each_language(tmp_path):
    """French rules part "l'homme" after the apostrophe, English ones before it."""
    folder = write_french(tmp_path / "whole")
    tokenizer = load_tokenizer(folder)
    pieces = {"en": ["l</w>", "'ho", "m</w>"], "fr": ["l'</w>", "ho", "m</w>"]}
    for languages in (["fr"], ["en"], ["en", "fr"]):
        texts = {language: ["a"] for language in languages}
        report = trim_vocabulary(folder, texts, tmp_path / "small", keep_texts=["l'hom"])
        after = load_tokenizer(report.folder)
        for language in languages:
            row = rows(tokenizer.for_language(language), ["l'hom"])[0]
            assert tokenizer.convert_ids_to_pieces(row)[1:-1] == pieces[language]
            assert back(rows(after.for_language(language), ["l'hom"]), report.old_ids) == [row]
        assert {"l'</w>", "'ho"} & after.vocab.keys() == {pieces[language][language == "en"] for language in languages}


@pytest.mark.parametrize("lang", ["en", "fr"])
def test_a_saved_estimator_of_the_original_xlm_reads_texts_in_its_language(tmp_path, lang):
    """Unless they come with languages."""
    folder, texts = write_french(tmp_path / "whole"), ["l'hom", "hom"]
    classifier = XLMClassifier(folder, lang=lang, max_epochs=1, random_state=0).fit(texts, [0, 1])
    save(classifier, tmp_path / "saved")
    report = trim_vocabulary(tmp_path / "saved", texts[1:], tmp_path / "small", keep_texts=texts[:1], keep="used")
    assert ("l'</w>" in load_tokenizer(report.folder).vocab) == (lang == "fr")
    np.testing.assert_array_equal(load(report.folder).predict_proba(texts), classifier.predict_proba(texts))
    report = trim_vocabulary(tmp_path / "saved", texts, tmp_path / "small")
    assert report.coverage["all texts"].n_tokens == 5
    np.testing.assert_array_equal(load(report.folder).predict_proba(texts), classifier.predict_proba(texts))
    report = trim_vocabulary(tmp_path / "saved", {"en": texts}, tmp_path / "small", keep="used")
    assert "'ho" in load_tokenizer(report.folder).vocab and "l'</w>" not in load_tokenizer(report.folder).vocab


def write_french(folder):
    """A checkpoint of the original XLM, whose merges tell English and French apart."""
    pytest.importorskip("sacremoses", reason="the original XLM needs the extra xlm")
    special = ["<s>", "</s>", "<pad>", "<unk>", *(f"<special{i}>" for i in range(10))]
    letters = [piece for c in "ahlmo'" for piece in (c, f"{c}</w>")]
    merges = [("h", "o"), ("l", "'</w>"), ("'", "ho")]
    vocab = {piece: i for i, piece in enumerate([*special, *letters, *map("".join, merges)])}
    return write_xlm_checkpoint(folder, XLMTokenizer(vocab, merges, lang2id={"en": 0, "fr": 1}), n_langs=2)
