"""XLM-R's ids, against published ids, sentencepiece and transformers."""

import copy
import itertools
import json
import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from sentencepiece import SentencePieceProcessor

from skxlmr.text import SentencePieceTokenizer, load_tokenizer
from skxlmr.text._sentencepiece import tokenizer
from skxlmr.utils._errors import CheckpointError
from tests.text.texts import HOSTILE, SPELT_SPECIAL, real_texts
from tests.tiny import sentences, train


def rows(batch):
    return [batch.row(i).tolist() for i in range(len(batch))]


def goldens(shared_data, name):
    return json.loads((shared_data / "goldens" / f"{name}.json").read_text(encoding="utf-8"))


def encode_golden(tokenizer, row, parse_special):
    pairs = [row["text_pair"]] if "text_pair" in row else None
    return tokenizer.encode_batch([row["text"]], pairs, parse_special=parse_special).ids.tolist()


def test_special_ids_are_fairseqs(tiny, tiny_proto):
    size = _processor(tiny_proto).get_piece_size()
    assert (tiny.bos_token_id, tiny.pad_token_id, tiny.eos_token_id, tiny.unk_token_id) == (0, 1, 2, 3)
    assert (tiny.cls_token_id, tiny.sep_token_id) == (0, 2)
    assert (tiny.mask_token_id, tiny.vocab_size) == (size + 1, size + 2)
    assert tiny.all_special_ids == [0, 1, 2, 3, size + 1]


def test_published_ids_of_xlmr(xlmr, shared_data):
    golden = goldens(shared_data, "xlmr_token_ids")
    assert xlmr.vocab_size == 250_002
    assert xlmr.mask_token_id == 250_001
    counts = {True: 0, None: 0, False: 0}
    for row in golden:
        counts[row["sentencepiece_agrees"]] += 1
        expected = row["ids"]
        if row["sentencepiece_agrees"] is False:
            # half-width katakana: SentencePiece composes voiced marks, and so do we; the Fast conversion does not
            expected = json.loads(re.findall(r"sentencepiece gives (\[.*\])", row["note"])[0])
            assert expected != row["ids"]
        # null: the published ids treat special tokens that the text spells as such
        found = encode_golden(xlmr, row, parse_special=row["sentencepiece_agrees"] is None)
        assert found == expected, row["text"]
    assert counts == {True: 57, None: 4, False: 1}


def test_spelt_special_tokens_of_xlmr_are_text_by_default(xlmr, shared_data):
    row = next(row for row in goldens(shared_data, "xlmr_token_ids") if "<unk>, such as" in row["text"])
    ids = encode_golden(xlmr, row, parse_special=False)
    assert [4426, 3678, 2740] in [ids[i : i + 3] for i in range(len(ids))]
    assert 3 not in ids


def test_published_ids_of_the_toy_model(toy, shared_data):
    golden = goldens(shared_data, "toy1000_token_ids")
    assert len(golden) == 5
    for row in golden:
        expected = row["ids"] if "ids" in row else [0, *row["ids_no_special"], 2]
        ids = encode_golden(toy, row, parse_special=False)
        assert ids == expected, row["text"]
        if "pieces" in row:  # an unknown piece is shown as <unk>, as in the reference's vocabulary
            shown = [piece if i != 3 else "<unk>" for piece, i in zip(row["pieces"], ids[1:-1], strict=True)]
            assert toy.convert_ids_to_pieces(ids) == ["<s>", *shown, "</s>"]
        if "decoded" in row:
            assert toy.decode(ids) == row["decoded"]


def _processor(proto):
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(proto)
    return processor


def test_real_and_hostile_strings_equal_sentencepiece(xlmr, shared_data):
    texts, languages = [], set()
    for name, step in (("flores_sib200", 5), ("tatoeba_pairs", 12), ("udhr", 3)):
        with (shared_data / "rawtext" / f"{name}.jsonl").open(encoding="utf-8") as lines:
            for line in itertools.islice(lines, 0, None, step):
                row = json.loads(line)
                texts.append(row["text"])
                languages.add(row["lang"])
    assert len(texts) > 2000
    assert len(languages) > 50
    texts += HOSTILE + [a + b for a, b in itertools.product(HOSTILE[:20], SPELT_SPECIAL)]
    processor = _processor((shared_data / "tokenizer" / "xlmr.spm.model").read_bytes())
    expected = [[0, *(i + 1 if i else 3 for i in processor.encode(text, out_type=int)), 2] for text in texts]
    assert rows(xlmr.encode_batch(texts)) == expected


@pytest.mark.slow
def test_all_real_strings_equal_sentencepiece(xlmr, shared_data):
    texts = real_texts(shared_data)
    processor = _processor((shared_data / "tokenizer" / "xlmr.spm.model").read_bytes())
    expected = [[0, *(i + 1 if i else 3 for i in processor.encode(text, out_type=int)), 2] for _, text in texts]
    assert rows(xlmr.encode_batch([text for _, text in texts])) == expected
    n_languages = len({language for language, _ in texts})
    assert len(texts) >= 50_000 and n_languages >= 50
    print(f"{len(texts)} texts in {n_languages} languages, {sum(map(len, expected))} tokens")


def test_threads_do_not_change_the_ids(tiny, monkeypatch):
    texts = sentences(3000, seed=1)
    monkeypatch.setattr("skxlmr.text._sentencepiece.tokenizer._n_cpus", lambda: 4)
    threaded = rows(tiny.encode_batch(texts))
    assert threaded == [row for text in texts for row in rows(tiny.encode_batch([text]))]


def test_surrogates_are_read_as_replacement_characters(tiny):
    broken = ["\ud800", "the\udfffhouse", "\ud83d\ude00", "fine"]
    mended = ["\ufffd", "the\ufffdhouse", "\ufffd\ufffd", "fine"]
    assert rows(tiny.encode_batch(broken)) == rows(tiny.encode_batch(mended))
    assert rows(tiny.encode_batch(["\ud800<mask>"], parse_special=True)) == rows(
        tiny.encode_batch(["\ufffd<mask>"], parse_special=True)
    )


def test_spelt_special_tokens_are_text_unless_parsed(tiny):
    plain = tiny.encode_batch(SPELT_SPECIAL)
    assert not np.isin([tiny.mask_token_id, tiny.pad_token_id], plain.ids).any()
    assert (plain.lengths > 3).all()
    parsed = tiny.encode_batch(SPELT_SPECIAL, parse_special=True)
    assert rows(parsed) == [[0, i, 2] for i in (0, 2, 1, 3, tiny.mask_token_id)]


def test_parsed_special_tokens_cut_the_text_into_segments(tiny):
    def ids(text):
        return tiny.encode_batch([text]).ids[1:-1].tolist()

    mask = tiny.mask_token_id
    text = "the old \t<mask> bird<mask></s> sings<s"
    expected = [0, *ids("the old"), mask, *ids(" bird"), mask, 2, *ids(" sings<s"), 2]
    house = [0, *ids("house"), 2]
    assert rows(tiny.encode_batch(["house", text, ""], parse_special=True)) == [house, expected, [0, 2]]
    pair = tiny.encode_batch(["house"], [text], parse_special=True)
    assert rows(pair) == [[*house, 2, *expected[1:]]]
    cut = tiny.encode_batch([text], max_length=8, parse_special=True)
    assert rows(cut) == [[*expected[:7], 2]]
    assert cut.n_dropped[0] == len(expected) - 8


def test_mask_swallows_the_white_space_before_it():
    keeps_spaces = SentencePieceTokenizer(train(remove_extra_whitespaces=False))
    spaced, tight = rows(keeps_spaces.encode_batch(["the  ", "the"]))
    assert spaced != tight
    assert (
        rows(keeps_spaces.encode_batch(["the  <mask>", "the<mask>"], parse_special=True))
        == [[*tight[:-1], keeps_spaces.mask_token_id, 2]] * 2
    )


def test_decode_returns_the_text(tiny):
    texts = sentences(50, seed=2)
    batch = tiny.encode_batch(texts, parse_special=True)
    assert [tiny.decode(batch.row(i)) for i in range(50)] == texts
    ids = tiny.encode_batch(["the <mask> house"], parse_special=True).ids
    assert tiny.decode(ids) == "the house"
    assert tiny.decode(ids, skip_special_tokens=False) == "<s> the<mask> house</s>"
    assert tiny.decode([]) == tiny.decode([0, 2, 1]) == ""
    assert tiny.decode(tiny.encode_batch(["the 漢 house"]).ids) == "the  ⁇  house"
    assert tiny.decode([3], skip_special_tokens=False) == "<unk>"


@pytest.mark.parametrize("bad", [-1, 10**9])
def test_ids_outside_the_vocabulary_are_named(tiny, bad):
    for method in (tiny.decode, tiny.convert_ids_to_pieces):
        assert method([tiny.vocab_size - 1]) is not None
        with pytest.raises(ValueError, match="found"):
            method([tiny.vocab_size])
        with pytest.raises(ValueError, match=f"within 0 ... {tiny.vocab_size - 1}, found {bad} at position 1"):
            method([5, bad])


def test_pickle_needs_no_file(tiny_proto, tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(tiny_proto)
    original = load_tokenizer(tmp_path)
    (tmp_path / "sentencepiece.bpe.model").unlink()
    pickled = pickle.dumps(original)
    assert len(pickled) < len(tiny_proto) + 500  # the model once
    twin = pickle.loads(pickled)
    assert twin == original
    assert hash(twin) == hash(original)
    assert twin is not original
    assert rows(twin.encode_batch(sentences(20))) == rows(original.encode_batch(sentences(20)))
    assert original != SentencePieceTokenizer(tiny_proto, model_max_length=7)
    assert original != "a tokenizer"


def test_copies_share_the_model(tiny):
    assert copy.deepcopy({"tokenizer": tiny})["tokenizer"] is tiny is copy.copy(tiny)


def test_threads_may_share_a_tokenizer(tiny):
    texts = sentences(200)
    expected = rows(tiny.encode_batch(texts))
    with ThreadPoolExecutor(4) as pool:
        assert all(rows(batch) == expected for batch in pool.map(tiny.encode_batch, [texts] * 16))


def test_save_and_load(tiny_proto, tmp_path):
    tokenizer = SentencePieceTokenizer(tiny_proto, model_max_length=130)
    tokenizer.save(tmp_path / "new" / "folder")
    loaded = load_tokenizer(tmp_path / "new" / "folder")
    assert loaded == tokenizer
    assert loaded.model_max_length == 130
    assert repr(loaded) == f"SentencePieceTokenizer(vocab_size={tokenizer.vocab_size}, model_max_length=130)"


@pytest.mark.parametrize("auto", [True, False])
def test_transformers_loads_a_saved_folder(tiny_proto, tmp_path, auto):
    transformers = pytest.importorskip("transformers", reason="the reference tokenizer is in transformers")
    pytest.importorskip("google.protobuf", reason="transformers reads .model files with protobuf")
    ours = SentencePieceTokenizer(tiny_proto, model_max_length=130)
    ours.save(tmp_path)
    loader = transformers.AutoTokenizer if auto else transformers.XLMRobertaTokenizer
    theirs = loader.from_pretrained(tmp_path)
    assert isinstance(theirs, transformers.XLMRobertaTokenizer)
    assert theirs.model_max_length == 130
    assert (theirs.vocab_size, sorted(theirs.all_special_ids)) == (ours.vocab_size, ours.all_special_ids)
    assert theirs.convert_ids_to_tokens(range(ours.vocab_size)) == ours.convert_ids_to_pieces(range(ours.vocab_size))
    plain = [*sentences(50), "①ﬁ\u3000 Haus\t.", "", " "]
    texts = [
        *plain,
        "a  <mask>",
        "<mask><mask> the",
        "ein</s>Haus <s> <unk>und",
        "<pad>",
        "the\u00a0\n<mask>\u3000 bird",
    ]
    assert rows(ours.encode_batch(texts, parse_special=True)) == theirs(texts)["input_ids"]
    assert rows(ours.encode_batch(texts, texts[::-1], parse_special=True)) == theirs(texts, texts[::-1])["input_ids"]
    # spelt special tokens as text cannot be compared: in the reference's own vocabulary they are always special
    assert rows(ours.encode_batch(plain, plain[::-1])) == theirs(plain, plain[::-1])["input_ids"]
    batch = ours.encode_batch(texts, parse_special=True)
    for i in range(len(texts)):
        assert ours.decode(batch.row(i), skip_special_tokens=False) == theirs.decode(batch.row(i))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "found an empty file"),
        (b"not a model", "found something else or a damaged one"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (None, "cannot be read"),
    ],
)
def test_broken_model_files_are_named(tmp_path, content, reason):
    file = tmp_path / "sentencepiece.bpe.model"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        SentencePieceTokenizer.from_file(file)
    assert caught.value.file == str(file)


def test_a_model_cut_short_is_an_error(tiny_proto, tmp_path):
    file = tmp_path / "sentencepiece.bpe.model"
    for n in range(1, len(tiny_proto), len(tiny_proto) // 20):
        file.write_bytes(tiny_proto[:n])
        with pytest.raises(CheckpointError, match=r"sentencepiece\.bpe\.model: expected a SentencePiece model"):
            load_tokenizer(tmp_path)


def test_a_model_with_another_layout_is_an_error(tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(train(bos_id=-1, eos_id=-1))
    with pytest.raises(CheckpointError, match="starts with <unk>, <s>, </s>, found"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "is not valid JSON"),
        ("[]", "expected a JSON object, found list"),
        ('{"model_max_length": "long"}', "model_max_length, found 'long'"),
    ],
)
def test_broken_tokenizer_config_is_named(tiny, tmp_path, content, reason):
    tiny.save(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(CheckpointError, match=rf"tokenizer_config\.json: .*{reason}"):
        load_tokenizer(tmp_path)


def test_a_missing_tokenizer_config_is_fine(tiny, tmp_path):
    tiny.save(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    assert load_tokenizer(tmp_path).model_max_length > 10**20  # as in transformers, no limit


def test_a_folder_without_a_tokenizer_says_what_it_holds(tmp_path):
    with pytest.raises(CheckpointError, match="found nothing"):
        load_tokenizer(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "vocab.bpe").write_text("")
    with pytest.raises(CheckpointError, match=r"\(sentencepiece\.bpe\.model, .*\), found config\.json, vocab\.bpe"):
        load_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="expected a checkpoint folder, found a file"):
        load_tokenizer(tmp_path / "config.json")
    with pytest.raises(CheckpointError, match="expected a checkpoint folder, found nothing"):
        load_tokenizer(tmp_path / "absent")


def test_many_texts_are_read_some_at_a_time(tiny, monkeypatch):
    texts = ["a bird", "", "das Haus", "река", "the old house"]
    whole = tiny.encode_batch(texts, return_offsets=True)
    monkeypatch.setattr(tokenizer, "TEXTS_AT_ONCE", 2)
    found = tiny.encode_batch(texts, return_offsets=True)
    assert found.ids.dtype == np.int32
    for name in ("ids", "lengths", "offsets"):
        np.testing.assert_array_equal(getattr(found, name), getattr(whole, name))
