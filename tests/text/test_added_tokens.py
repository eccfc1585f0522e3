"""Tokens added to a vocabulary: their ids, no other id changes, and the reference reads the same from a saved folder."""

import json
import pickle

import pytest

from skxlmr.text import FastTokenizer, SentencePieceTokenizer, XLMTokenizer, load_tokenizer
from tests.tiny import sentences

transformers = pytest.importorskip("transformers", reason="the reference tokenizer is in transformers")
pytest.importorskip("google.protobuf", reason="transformers reads .model files with protobuf")

TOKENS = ("[SYS]", "[USR]")
SPELT = "[USR] the red house [SYS] das alte Haus[USR]река"


def rows(batch):
    return [batch.row(i).tolist() for i in range(len(batch))]


@pytest.fixture(scope="module")
def fast(tiny, tmp_path_factory):
    """The Fast conversion of the tiny tokenizer, by transformers."""
    folder, saved = tmp_path_factory.mktemp("slow"), tmp_path_factory.mktemp("fast")
    tiny.save(folder)
    transformers.XLMRobertaTokenizer.from_pretrained(folder).save_pretrained(saved)
    (saved / "sentencepiece.bpe.model").unlink(missing_ok=True)
    return load_tokenizer(saved)


@pytest.fixture(scope="module", params=["sentencepiece", "fast"])
def before(request, tiny):
    return tiny if request.param == "sentencepiece" else request.getfixturevalue("fast")


def test_new_ids_follow_the_vocabulary_and_no_other_changes(before):
    n = before.vocab_size
    after = before.with_tokens(TOKENS)
    assert type(after) is type(before)
    assert [after.token_to_id(token) for token in TOKENS] == [n, n + 1]
    assert after.vocab_size == n + 2 and before.vocab_size == n and before.token_to_id("[SYS]") is None
    assert after.all_special_ids == [*before.all_special_ids, n, n + 1]
    assert after.convert_ids_to_pieces([n, n + 1]) == list(TOKENS)
    assert (after.mask_token_id, after.model_max_length) == (before.mask_token_id, before.model_max_length)
    texts = [*sentences(40), SPELT]  # a spelt special token is text
    assert rows(after.encode_batch(texts)) == rows(before.encode_batch(texts))
    parsed = after.encode_batch([SPELT], parse_special=True).row(0).tolist()
    assert [i for i in parsed if i >= n] == [n + 1, n, n + 1]
    assert "[" not in after.decode(parsed) and "house" in after.decode(parsed)


def test_existing_tokens_stay(before):
    once = before.with_tokens(TOKENS)
    assert once.with_tokens(TOKENS) is once and before.with_tokens([]) is before
    assert before.with_tokens(["<mask>"]) is before
    more = once.with_tokens(["[USR]", "[NEW]", "[NEW]"])
    assert more.token_to_id("[NEW]") == before.vocab_size + 2 and more.vocab_size == before.vocab_size + 3
    piece = next(p for p in before.convert_ids_to_pieces(range(10, 200)) if p.startswith("▁") and len(p) > 3)
    place = before.convert_ids_to_pieces(range(before.vocab_size)).index(piece)
    assert before.with_tokens([piece]).token_to_id(piece) == place
    assert before.with_tokens([piece]).vocab_size == before.vocab_size
    with pytest.raises(ValueError, match="expected the spelling of each token"):
        before.with_tokens(["[A]", ""])
    with pytest.raises(ValueError, match=r"found '\\ud800\[A\]', which has a lone surrogate"):
        before.with_tokens(["[A]", "\ud800[A]"])
    with pytest.raises(TypeError, match="contents must be a list of str, found one str"):
        before.with_tokens("[A]")
    with pytest.raises(TypeError, match="contents must be str, found int in row 1"):
        before.with_tokens(["[A]", 5])


def test_added_tokens_are_saved_and_pickled(before, tmp_path):
    after = before.with_tokens(TOKENS)
    after.save(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert type(loaded) is type(after)
    for twin in (loaded, pickle.loads(pickle.dumps(after))):
        assert twin.vocab_size == after.vocab_size and twin.all_special_ids == after.all_special_ids
        for parse in (False, True):
            found, expected = (t.encode_batch([SPELT, "das Haus"], parse_special=parse) for t in (twin, after))
            assert rows(found) == rows(expected)
    if isinstance(after, SentencePieceTokenizer):
        assert loaded == after and after != before
    assert loaded.with_tokens(TOKENS) is loaded


@pytest.mark.parametrize("auto", [False, True])
def test_the_reference_reads_the_same_ids(before, tmp_path, auto):
    after = before.with_tokens(TOKENS)
    after.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "xlm-roberta"}))
    theirs = (transformers.AutoTokenizer if auto else transformers.XLMRobertaTokenizer).from_pretrained(tmp_path)
    assert theirs.convert_tokens_to_ids(list(TOKENS)) == [after.token_to_id(token) for token in TOKENS]
    assert len(theirs) == after.vocab_size
    texts = [SPELT, *sentences(20)]
    assert rows(after.encode_batch(texts, parse_special=True)) == theirs(texts)["input_ids"]


@pytest.mark.parametrize("place", ["after", "before"])  # before: beside the SentencePiece model, which lacks them
@pytest.mark.parametrize("special", [True, False])
def test_tokens_that_the_reference_added_have_its_ids(tiny, tmp_path, special, place):
    tiny.save(tmp_path / "before")
    theirs = transformers.XLMRobertaTokenizer.from_pretrained(tmp_path / "before")
    theirs.save_pretrained(tmp_path / "before")
    assert isinstance(load_tokenizer(tmp_path / "before"), SentencePieceTokenizer)
    theirs.add_tokens(list(TOKENS), special_tokens=special)
    theirs.save_pretrained(tmp_path / place)
    ours = load_tokenizer(tmp_path / place)
    assert isinstance(ours, FastTokenizer)
    assert [ours.token_to_id(token) for token in TOKENS] == theirs.convert_tokens_to_ids(list(TOKENS))
    assert ours.with_tokens(TOKENS, special) is ours
    assert rows(ours.encode_batch([SPELT], parse_special=True)) == [theirs(SPELT)["input_ids"]]
    for again in (True, False):  # they become what is asked for, also when saved
        ours.with_tokens(TOKENS, again).save(tmp_path / "again")
        found = load_tokenizer(tmp_path / "again")
        assert found.with_tokens(TOKENS, again) is found
        expected = ours.encode_batch([SPELT], parse_special=True) if not again else tiny.encode_batch([SPELT])
        assert rows(found.encode_batch([SPELT])) == rows(expected)


def test_old_files_of_added_tokens(tiny, tmp_path):
    """Checkpoints from before 2023, such as TOD-XLMR, have added_tokens.json next to the vocabulary."""
    tiny.save(tmp_path)
    n = tiny.vocab_size
    (tmp_path / "added_tokens.json").write_text(json.dumps({"[SYS]": n, "[USR]": n + 1}))
    loaded = load_tokenizer(tmp_path)
    assert [loaded.token_to_id(token) for token in TOKENS] == [n, n + 1]
    assert loaded.with_tokens(TOKENS, special=False) is loaded and loaded.vocab_size == n + 2
    assert [i for i in loaded.encode_batch([SPELT]).ids if i >= n] == [n + 1, n, n + 1]
    special = loaded.with_tokens(TOKENS)
    assert rows(special.encode_batch([SPELT])) == rows(tiny.encode_batch([SPELT]))
    assert special == tiny.with_tokens(TOKENS) and special.with_tokens(TOKENS, special=False) == loaded


def test_tokens_that_are_not_special_are_found_in_every_text(before, tmp_path):
    after, n = before.with_tokens(TOKENS, special=False), before.vocab_size
    special = before.with_tokens(TOKENS)
    assert after.all_special_ids == before.all_special_ids and after.vocab_size == n + 2
    parsed = after.encode_batch([SPELT])
    assert rows(parsed) == rows(special.encode_batch([SPELT], parse_special=True))
    assert "[SYS]" in after.decode(parsed.row(0))
    assert after.with_tokens(["<mask>"], special=False) is after  # it has a role
    for twin, expected in [
        (special.with_tokens(TOKENS, special=False), after),
        (after.with_tokens(TOKENS), special),
    ]:
        assert rows(twin.encode_batch([SPELT])) == rows(expected.encode_batch([SPELT]))
        assert twin.all_special_ids == expected.all_special_ids
        assert twin == expected or isinstance(twin, FastTokenizer)  # which also keeps the rest of its file
    after.save(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "xlm-roberta"}))
    loaded = load_tokenizer(tmp_path)
    texts = [SPELT, *sentences(20)]
    for parse in (False, True):
        assert rows(loaded.encode_batch(texts, parse_special=parse)) == rows(after.encode_batch(texts))
    assert loaded.with_tokens(TOKENS, special=False) is loaded
    assert rows(loaded.with_tokens(TOKENS).encode_batch(texts)) == rows(before.encode_batch(texts))
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert theirs(texts)["input_ids"] == rows(after.encode_batch(texts)) and len(theirs) == n + 2


def test_a_tokenizer_that_takes_no_tokens_says_so():
    tokenizer = XLMTokenizer({"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}, [])
    with pytest.raises(ValueError, match="a XLMTokenizer takes no further tokens"):
        tokenizer.with_tokens(TOKENS)
