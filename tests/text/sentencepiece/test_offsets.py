"""Every token's place in the original text, through SentencePiece's normalisation."""

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from skxlmr.text import SentencePieceTokenizer
from tests.text.texts import HOSTILE, real_texts
from tests.tiny import sentences, train

ODD_CHARACTERS = (
    "aé é\u0301\u0323ﬁﬃﷺ①㍿½Ǆ…\u00a8\u00b4 \t\n\u3000\u00a0\u00ad\u200b\u200d\u200e\ufeff\ufffd\0\x01\x1f\x7f▁"
    "ﾊﾟｶﾞパ全角漢字\u1100\u1161\u11a8한שלוםسلام\u0651हिन्दीก็👩\u200d👧𝕏\ud800\udfff\U0010ffff<s>"
)
odd_texts = st.text(st.sampled_from(ODD_CHARACTERS) | st.characters(), max_size=40)


def ink(text):
    return text.replace("▁", "").replace(" ", "")


def check(tokenizer, processor, texts):
    """Compare tokens one by one, and those that share a character as a group."""
    batch = tokenizer.encode_batch(texts, return_offsets=True)
    n_shared = 0
    for i, text in enumerate(texts):
        text = "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in text)
        pieces = processor.encode(text, out_type=str)
        places = batch.offsets[batch.span(i)][1:-1].tolist()
        assert len(pieces) == len(places)
        groups = []
        for piece, (begin, end) in zip(pieces, places, strict=True):
            assert 0 <= begin <= end <= len(text)
            if groups and begin < groups[-1][2]:
                before = groups[-1]
                groups[-1] = (before[0] + piece, before[1], max(before[2], end))
                n_shared += 1
            else:
                groups.append((piece, begin, end))
        at = 0
        for piece, begin, end in [*groups, ("", len(text), len(text))]:
            assert ink(processor.normalize(text[begin:end])) == ink(piece), (text, piece, begin, end)
            assert ink(processor.normalize(text[at:begin])) == "", (text, at, begin)
            at = end
    return n_shared


@pytest.fixture(scope="module")
def processor_of_xlmr(shared_data):
    processor = SentencePieceProcessor()
    processor.LoadFromFile(str(shared_data / "tokenizer" / "xlmr.spm.model"))
    return processor


@pytest.fixture(scope="module")
def tiny_processor(tiny_proto):
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(tiny_proto)
    return processor


def test_places_of_plain_words(xlmr):
    text = "  Hello   worlds,\u3000東京！ "
    batch = xlmr.encode_batch([text], return_offsets=True)
    pieces = xlmr.convert_ids_to_pieces(batch.ids)
    shown = [text[begin:end] for begin, end in batch.offsets.tolist()]
    assert pieces == ["<s>", "▁Hello", "▁world", "s", ",", "▁", "東京", "!", "</s>"]
    assert shown == ["", "Hello", "world", "s", ",", "\u3000", "東京", "！", ""]
    assert batch.offsets.dtype == np.int32 and batch.offsets.shape == (9, 2)
    assert batch.offsets[[0, -1]].tolist() == [[0, 0], [0, 0]]
    assert batch.sequence_ids.tolist() == [-1, *[0] * 7, -1]


def test_places_through_expansion_and_composition(xlmr):
    # one ligature is four words; decomposed letters are composed; a control character belongs to the token before it
    text = "ﷺ e\u0301 \u1100\u1161\u11a8 a\x01b"
    batch = xlmr.encode_batch([text], return_offsets=True)
    assert list(zip(xlmr.convert_ids_to_pieces(batch.ids), batch.offsets.tolist(), strict=True))[1:-1] == [
        ("▁صلى", [0, 1]), ("▁الله", [0, 1]), ("▁عليه", [0, 1]), ("▁وسلم", [0, 1]),
        ("▁é", [2, 4]), ("▁각", [5, 8]), ("▁ab", [9, 12]),
    ]  # fmt: skip


def test_places_count_characters_not_bytes_nor_surrogate_pairs(tiny):
    text = "\ud800 the 𝕏 house"
    batch = tiny.encode_batch([text], return_offsets=True)
    assert [text[begin:end] for begin, end in batch.offsets.tolist()][1] == "the"
    assert batch.offsets[-2].tolist()[1] == len(text)


def test_real_texts(xlmr, processor_of_xlmr, shared_data):
    texts = real_texts(shared_data, step=12)
    assert len({language for language, _ in texts}) >= 50
    texts = [text for _, text in texts] + HOSTILE
    assert check(xlmr, processor_of_xlmr, texts) < 0.001 * sum(map(len, texts))


@pytest.mark.slow
def test_all_real_texts(xlmr, processor_of_xlmr, shared_data):
    texts = [text for _, text in real_texts(shared_data, step=1)]
    assert len(texts) >= 50_000
    n_shared = sum(check(xlmr, processor_of_xlmr, texts[i : i + 1000]) for i in range(0, len(texts), 1000))
    print(f"{len(texts)} texts, {n_shared} tokens that share a character with the one before")


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.lists(odd_texts, max_size=4))
@example(["ﷺ\u00a8", "\0", "\ud800"])
@example(["\x01a", "a \x01", "\u00a0"])
def test_odd_texts(tiny, tiny_processor, texts):
    check(tiny, tiny_processor, texts)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(odd_texts)
def test_odd_texts_of_xlmr(xlmr, processor_of_xlmr, text):
    check(xlmr, processor_of_xlmr, [text])


@pytest.mark.parametrize(
    "options",
    [
        {"byte_fallback": True, "vocab_size": 660},
        {"remove_extra_whitespaces": False},
        {"add_dummy_prefix": False},
        {"normalization_rule_name": "identity"},
        {"treat_whitespace_as_suffix": True},
    ],
)
def test_other_models(options):
    proto = train(**options)
    tokenizer, processor = SentencePieceTokenizer(proto), SentencePieceProcessor()
    processor.LoadFromSerializedProto(proto)
    texts = [*sentences(30), "  two  spaces ", "▁", "漢字 한 ab", "the 漢 house"]
    if "byte_fallback" not in options:
        check(tokenizer, processor, texts)
        return
    batch = tokenizer.encode_batch(texts, return_offsets=True)
    for i, text in enumerate(texts):
        shown = [text[begin:end] for begin, end in batch.offsets[batch.span(i)].tolist()]
        pieces = tokenizer.convert_ids_to_pieces(batch.row(i))
        for slice_, piece in zip(shown[1:-1], pieces[1:-1], strict=True):
            if piece.startswith("<0x"):
                assert len(slice_) == 1 and int(piece[3:5], 16) in slice_.encode()
            else:
                assert ink(processor.normalize(slice_)) == ink(piece)


def test_spelt_special_tokens_have_places(tiny):
    text = "the old \t<mask> bird</s>"
    batch = tiny.encode_batch([text, "the"], parse_special=True, return_offsets=True)
    ids, places = batch.row(0).tolist(), batch.offsets[batch.span(0)].tolist()
    assert [text[begin:end] for begin, end in places if end] == [
        *(text[b:e] for b, e in tiny.encode_batch(["the old"], return_offsets=True).offsets.tolist() if e),
        "<mask>", *(" bird"[b:e] for b, e in tiny.encode_batch([" bird"], return_offsets=True).offsets.tolist() if e),
        "</s>",
    ]  # fmt: skip
    assert places[ids.index(tiny.mask_token_id)] == [9, 15]
    assert batch.sequence_ids[batch.span(0)].tolist() == [-1, *[0] * (len(ids) - 2), -1]


def test_pairs_truncation_and_take(tiny):
    texts, pairs = sentences(20), sentences(20, seed=1)
    whole = tiny.encode_batch(texts, pairs, return_offsets=True)
    cut = tiny.encode_batch(texts, pairs, max_length=12, return_offsets=True)
    alone = [tiny.encode_batch([text], return_offsets=True).offsets[1:-1].tolist() for text in texts]
    alone_second = [tiny.encode_batch([text], return_offsets=True).offsets[1:-1].tolist() for text in pairs]
    for i in range(20):
        sequence = cut.sequence_ids[cut.span(i)]
        for k, places in ((0, alone), (1, alone_second)):
            found = cut.offsets[cut.span(i)][sequence == k].tolist()
            assert found and found == places[i][: len(found)]
            assert whole.offsets[whole.span(i)][whole.sequence_ids[whole.span(i)] == k].tolist() == places[i]
        assert sequence.tolist().count(-1) == 4
    taken = cut.take([3, 1])
    assert np.array_equal(taken.offsets, np.concatenate([cut.offsets[cut.span(3)], cut.offsets[cut.span(1)]]))
    assert np.array_equal(
        taken.sequence_ids, np.concatenate([cut.sequence_ids[cut.span(3)], cut.sequence_ids[cut.span(1)]])
    )


def test_offsets_are_returned_only_on_request(tiny):
    batch = tiny.encode_batch(["the house"])
    assert batch.offsets is batch.sequence_ids is batch.word_ids is batch.row_of_window is None
    assert np.array_equal(batch.ids, tiny.encode_batch(["the house"], return_offsets=True).ids)
    empty = tiny.encode_batch([], return_offsets=True)
    assert empty.offsets.shape == (0, 2)


def test_golden_offsets_of_published_answers(shared_data, toy):
    contexts = (shared_data / "qa" / "xquad.jsonl").read_text(encoding="utf-8").split("\n")
    for line in filter(None, contexts[::40]):
        row = json.loads(line)
        batch = toy.encode_batch([row["context"]], return_offsets=True)
        begins, ends = batch.offsets[1:-1].T
        for question in row["qas"]:
            answer = question["answers"][0]
            start, stop = answer["answer_start"], answer["answer_start"] + len(answer["text"])
            # tokens cover the answer: no letter of it lies between them
            covered = np.zeros(len(row["context"]), bool)
            for begin, end in zip(begins, ends, strict=True):
                covered[begin:end] = True
            letters = np.array([not character.isspace() for character in row["context"]])
            assert covered[start:stop][letters[start:stop]].all()
