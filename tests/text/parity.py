"""Compare a tokenizer with the one that transformers opens from the same folder."""

import random

import numpy as np

from tests.text.texts import SPELT_SPECIAL

MARKS = [*SPELT_SPECIAL, "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def rows(batch):
    return [batch.row(i).tolist() for i in range(len(batch))]


def without_special(texts):
    return [text for text in texts if not any(token in text for token in MARKS)]


def token_types(batch):
    """Token types of all rows, from where their second texts begin."""
    seconds = batch.lengths if batch.second_starts is None else batch.second_starts
    return [[0] * int(n) + [1] * int(m - n) for n, m in zip(seconds, batch.lengths, strict=True)]


def differences(ours, theirs, texts, seed=0):
    """Return what differs, as (what, text), over texts, pairs of them, and cut pairs; the number of texts compared."""
    partners = random.Random(seed).sample(texts, len(texts))
    found = []

    def compare(what, mine, yours):
        assert len(mine) == len(yours) == len(texts)
        found.extend((what, texts[i]) for i in range(len(texts)) if mine[i] != yours[i])

    single = theirs(texts, return_special_tokens_mask=True, return_token_type_ids=True)
    batch = ours.encode_batch(texts, parse_special=True, return_offsets=True)
    compare("ids", rows(batch), single["input_ids"])
    around = [(batch.sequence_ids[batch.span(i)] < 0).astype(int).tolist() for i in range(len(texts))]
    compare("special mask", around, single["special_tokens_mask"])
    pair = theirs(texts, partners)
    two = ours.encode_batch(texts, partners, parse_special=True)
    compare("ids of pairs", rows(two), pair["input_ids"])
    if "token_type_ids" in theirs.model_input_names:
        compare("token types", token_types(two), pair["token_type_ids"])
    else:
        assert two.second_starts is None
    for options in ({"max_length": 20}, {"max_length": 21}, {"max_length": 40, "truncation": "only_first"}):
        wanted = texts, partners
        if "truncation" in options:  # the other text must leave room
            wanted = texts, [text[:5] for text in partners]
        cut = theirs(*wanted, **({"truncation": True} | options))
        mine = ours.encode_batch(*wanted, parse_special=True, **options)
        compare(f"ids with {options}", rows(mine), cut["input_ids"])
        if "token_type_ids" in theirs.model_input_names:
            compare(f"token types with {options}", token_types(mine), cut["token_type_ids"])
    return found


def differing_offsets(ours, theirs, texts):
    """Return the texts, without spelt special tokens, some of whose tokens lie elsewhere.

    White space around a token is ignored, and the place of a lone "▁", where SentencePiece has none.
    """
    texts = [text for text in without_special(texts) if not any("\ud800" <= c <= "\udfff" for c in text)]
    expected = theirs(texts, return_offsets_mapping=True)["offset_mapping"]
    batch = ours.encode_batch(texts, return_offsets=True)
    wrong = []
    for i, text in enumerate(texts):
        pieces = iter(ours.convert_ids_to_pieces(batch.row(i)))
        places = [tuple(place) for place in batch.offsets[batch.span(i)].tolist()]
        if len(places) != len(expected[i]):
            wrong.append(text)
            continue
        for (begin, end), (b, e) in zip(places, expected[i], strict=True):
            inner = "" if next(pieces) == "▁" else text[b:e].strip()
            if inner and (text[begin:end] != inner or not b <= begin <= end <= e):
                wrong.append(text)
                break
    return wrong


def assert_same_vocabulary(ours, theirs):
    assert ours.vocab_size == len(theirs)
    assert ours.all_special_ids == sorted(set(theirs.all_special_ids))
    for role in ("sep", "cls", "unk", "pad", "mask"):
        assert getattr(ours, f"{role}_token_id") == getattr(theirs, f"{role}_token_id")
    assert ours.convert_ids_to_pieces(np.arange(len(theirs))) == theirs.convert_ids_to_tokens(range(len(theirs)))
