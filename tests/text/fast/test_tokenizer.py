"""``tokenizer.json`` and RoBERTa's vocab.json with merges.txt, against the tokenizers package and transformers."""

import copy
import json
import pickle

import numpy as np
import pytest
import tokenizers
from tokenizers import models, pre_tokenizers, trainers

from skxlmr.text import FastTokenizer, SentencePieceTokenizer, load_tokenizer
from skxlmr.text._fast import tokenizer_json
from skxlmr.utils._errors import CheckpointError
from tests.text.texts import HOSTILE, SPELT_SPECIAL, real_texts
from tests.tiny import sentences

transformers = pytest.importorskip("transformers", reason="the reference tokenizer is in transformers")


def rows(batch):
    return [batch.row(i).tolist() for i in range(len(batch))]


@pytest.fixture(scope="module")
def unigram_folder(tiny_proto, tmp_path_factory):
    """XLM-R's Fast tokenizer over the tiny model, as transformers converts and saves it."""
    pytest.importorskip("google.protobuf", reason="transformers reads .model files with protobuf")
    folder = tmp_path_factory.mktemp("unigram")
    SentencePieceTokenizer(tiny_proto).save(folder)
    saved = tmp_path_factory.mktemp("unigram_fast")
    transformers.XLMRobertaTokenizer.from_pretrained(folder).save_pretrained(saved)
    (saved / "sentencepiece.bpe.model").unlink(missing_ok=True)
    return saved


@pytest.fixture(scope="module")
def byte_level_folder(tmp_path_factory):
    """A RoBERTa checkpoint's tokenizer files: vocab.json, merges.txt, config.json."""
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe = tokenizers.Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.train_from_iterator(sentences(), trainer)
    folder = tmp_path_factory.mktemp("byte_level")
    bpe.model.save(str(folder))
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    return folder


@pytest.fixture(scope="module", params=["unigram", "byte_level"])
def pair(request):
    """Our tokenizer of a folder, and the reference's."""
    folder = request.getfixturevalue(f"{request.param}_folder")
    if request.param == "unigram":
        return load_tokenizer(folder), transformers.XLMRobertaTokenizer.from_pretrained(folder)
    # as in the tokenizer.json of published checkpoints: the mask swallows the white space before it
    mask = transformers.AddedToken("<mask>", lstrip=True, special=True)
    return load_tokenizer(folder), transformers.RobertaTokenizer.from_pretrained(folder, mask_token=mask)


TEXTS = [*sentences(60), *HOSTILE, "two  spaces ", " lead", "e\u0301 ﬁ ①", "the <mask> house", "<s>a</s>b<pad>"]
PLAIN = [text for text in TEXTS if not any(token in text for token in SPELT_SPECIAL)]


def test_folders_choose_the_fast_tokenizer(pair):
    ours, theirs = pair
    assert isinstance(ours, FastTokenizer)
    assert ours.vocab_size == len(theirs)
    assert ours.all_special_ids == sorted(set(theirs.all_special_ids))
    for role in ("bos", "eos", "sep", "cls", "unk", "pad", "mask"):
        assert getattr(ours, f"{role}_token_id") == getattr(theirs, f"{role}_token_id")
    assert ours.convert_ids_to_pieces(range(ours.vocab_size)) == theirs.convert_ids_to_tokens(range(len(theirs)))


def test_texts_pairs_and_spelt_special_tokens_equal_the_reference(pair):
    ours, theirs = pair
    assert rows(ours.encode_batch(TEXTS, parse_special=True)) == theirs(TEXTS)["input_ids"]
    assert rows(ours.encode_batch(TEXTS, TEXTS[::-1], parse_special=True)) == theirs(TEXTS, TEXTS[::-1])["input_ids"]
    assert rows(ours.encode_batch(PLAIN)) == theirs(PLAIN)["input_ids"]
    cut = theirs(PLAIN, PLAIN[::-1], truncation=True, max_length=9)["input_ids"]
    assert rows(ours.encode_batch(PLAIN, PLAIN[::-1], max_length=9)) == cut


def test_spelt_special_tokens_are_text_by_default(pair):
    ours, _ = pair
    batch = ours.encode_batch(["<s>", "</s>", "<pad>", "a <mask> b", "<unk>"])
    for i in range(len(batch)):
        assert not np.isin(batch.row(i)[1:-1], [i for i in ours.all_special_ids if i != ours.unk_token_id]).any()
        assert len(batch.row(i)) > 3


def test_offsets_equal_the_reference_without_white_space(pair):
    ours, theirs = pair
    texts = [text for text in PLAIN if "\ud800" not in text]
    expected = theirs(texts, return_offsets_mapping=True)["offset_mapping"]
    batch = ours.encode_batch(texts, return_offsets=True)
    n = 0
    for i, text in enumerate(texts):
        for (begin, end), (b, e) in zip(batch.offsets[batch.span(i)].tolist(), expected[i], strict=True):
            if text[b:e].strip():
                assert text[begin:end] == text[b:e].strip()
                n += 1
    assert n > 500


def test_split_words_equal_the_reference(pair, byte_level_folder):
    ours, theirs = pair
    if isinstance(theirs, transformers.RobertaTokenizer):
        theirs = transformers.RobertaTokenizer.from_pretrained(byte_level_folder, add_prefix_space=True)
    words = [text.split() for text in sentences(40)] + [["New York", "e\u0301", "ﬁ", "漢字"]]
    expected = theirs(words, is_split_into_words=True)
    batch = ours.encode_words(words, return_offsets=True)
    assert rows(batch) == expected["input_ids"]
    for i in range(len(words)):
        found = [None if k < 0 else k for k in batch.word_ids[batch.span(i)].tolist()]
        assert found == expected.word_ids(i)
    empty = ours.encode_words([["the", "", "house"]])
    assert sorted(set(empty.word_ids[1:-1].tolist())) == [0, 1, 2]


def test_decode_equals_the_reference(pair):
    ours, theirs = pair
    batch = ours.encode_batch(TEXTS, parse_special=True)
    for i in range(len(batch)):
        ids = batch.row(i)
        for skip in (True, False):
            expected = theirs.decode(ids, skip_special_tokens=skip, clean_up_tokenization_spaces=False)
            assert ours.decode(ids, skip_special_tokens=skip) == expected


def test_windows_equal_the_reference(pair):
    ours, theirs = pair
    texts, contexts = sentences(10), [" ".join(sentences(12, seed=i)) for i in range(10)]
    expected = theirs(
        texts, contexts, truncation="only_second", max_length=60, stride=12, return_overflowing_tokens=True
    )
    batch = ours.encode_batch(texts, contexts, truncation="only_second", max_length=60, stride=12)
    assert rows(batch) == expected["input_ids"]
    assert batch.row_of_window.tolist() == expected["overflow_to_sample_mapping"]


def test_added_tokens_of_the_config_are_honoured(unigram_folder, tmp_path):
    theirs = transformers.XLMRobertaTokenizer.from_pretrained(unigram_folder)
    theirs.add_tokens(["houseboat"])
    theirs.add_special_tokens({"additional_special_tokens": ["<e1>", "<e2>"]})
    theirs.save_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    assert ours.vocab_size == len(theirs)
    texts = ["the houseboat <e1> and <e2>bird", "house boat"]
    assert rows(ours.encode_batch(texts, parse_special=True)) == theirs(texts)["input_ids"]
    literal = ours.encode_batch(texts)
    assert theirs.convert_tokens_to_ids("houseboat") in literal.row(0)
    assert theirs.convert_tokens_to_ids("<e1>") not in literal.row(0)
    assert set(theirs.convert_tokens_to_ids(["<e1>", "<e2>"])) <= set(ours.all_special_ids)
    assert ours.decode(ours.encode_batch(texts, parse_special=True).row(0)).replace(" ", "") == "thehouseboatandbird"


def test_save_and_load(pair, tmp_path):
    ours, theirs = pair
    ours.save(tmp_path)
    again = load_tokenizer(tmp_path)
    assert isinstance(again, FastTokenizer)
    assert rows(again.encode_batch(TEXTS, parse_special=True)) == rows(ours.encode_batch(TEXTS, parse_special=True))
    assert rows(again.encode_batch(TEXTS)) == rows(ours.encode_batch(TEXTS))
    reference = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert reference(TEXTS)["input_ids"] == theirs(TEXTS)["input_ids"]
    (tmp_path / "vocabulary").mkdir()
    assert all((tmp_path / "vocabulary" / name).exists() for name in ours.save_vocabulary(tmp_path / "vocabulary"))


def test_pickle_and_copies(pair):
    ours, _ = pair
    twin = pickle.loads(pickle.dumps(ours))
    assert twin == ours and hash(twin) == hash(ours)
    assert rows(twin.encode_batch(TEXTS)) == rows(ours.encode_batch(TEXTS))
    assert copy.deepcopy(ours) is ours is copy.copy(ours)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": None}, "expected an object as model"),
        (
            {"model": {"type": "WordLevel", "vocab": {"a": 0}}},
            "expected a Unigram, BPE or WordPiece model, found 'WordL",
        ),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "dropout": 0.1}}, "without dropout"),
        ({"model": {"type": "BPE", "vocab": {"a": 0, "b": 0}, "merges": []}}, "distinct ids"),
        ({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}}, "expected an id within"),
        ({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [], "unk_token": ["a"]}}, r"unk_token, found \['a'\]"),
        ({"model": {"type": "Unigram", "vocab": [["a"]], "unk_id": 0}}, "pieces with their scores"),
        (
            {"model": {"type": "Unigram", "vocab": [["a" * 1025, 0.0]]}},
            "a token of 1025 bytes, 'a+, expected at most 1024",
        ),
        ({"model": {"type": "BPE", "vocab": {"é" * 600: 0}, "merges": []}}, "a token of 1200 bytes"),
        ({"added_tokens": [{"id": 300, "content": "a" * 2000}]}, "a token of 2000 bytes"),
        ({"post_processor": None}, "expected the layout <s> A </s> and"),
        ({"added_tokens": [{"id": 7, "content": "<s>"}]}, "expected the added token '<s>' at id 0, found it at 7"),
        ({"added_tokens": 2}, "expected a list as added_tokens, found 2"),
        ({"added_tokens": {"a": 1}}, "expected a list as added_tokens, found {'a': 1}"),
        ({"added_tokens": [{"id": True, "content": "<s>"}]}, "expected added tokens with content, id and flags"),
        ({"added_tokens": [{"id": "7", "content": "<s>"}]}, "expected added tokens with content, id and flags"),
        ({"normalizer": {"type": "Nonsense"}}, "the tokenizers package cannot use it"),
    ],
)
def test_broken_files_are_named(unigram_folder, tmp_path, change, reason):
    content = json.loads((unigram_folder / "tokenizer.json").read_text(encoding="utf-8"))
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | change))
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.file == str(tmp_path / "tokenizer.json")


def test_what_the_package_cannot_do_with_a_text_names_the_file(unigram_folder, tmp_path):
    """It raises plain Exception, and panics are no Exception at all."""
    content = json.loads((unigram_folder / "tokenizer.json").read_text(encoding="utf-8"))
    probes = set("".join(tokenizer_json._PROBES))
    vocab = content["model"]["vocab"] + [
        [c, -5.0] for c in sorted(probes - {piece for piece, _ in content["model"]["vocab"]})
    ]
    no_unknown = {"model": content["model"] | {"unk_id": None, "vocab": vocab}}
    strip = {"decoder": {"type": "Strip", "content": "a", "start": 1, "stop": 1}}
    for change, use in (
        (no_unknown, lambda tokenizer: tokenizer.encode_batch(["\U0001f600"])),
        (strip, lambda tokenizer: tokenizer._spell(["a"])),
    ):
        (tmp_path / "tokenizer.json").write_text(json.dumps(content | change))
        tokenizer = load_tokenizer(tmp_path)
        with pytest.raises(CheckpointError, match="the tokenizers package cannot use it") as caught:
            use(tokenizer)
        assert caught.value.file == str(tmp_path / "tokenizer.json")


def test_a_vocabulary_of_too_many_tokens(unigram_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("skxlmr.text._bpe_files.MOST_PIECES", 10)
    with pytest.raises(CheckpointError, match=r"has a vocabulary of \d+ tokens, expected at most 10"):
        load_tokenizer(unigram_folder)


@pytest.mark.parametrize(
    ("model_type", "name", "n_separators"),
    [
        ("xlm-roberta", "XLMRobertaTokenizer", 2),
        ("xlm-roberta", "XLMRobertaTokenizerFast", 2),
        ("xlm-roberta", None, 2),
        ("xmod", None, 2),
        ("xlm-roberta", "TokenizersBackend", 1),
        ("xlm-roberta", "PreTrainedTokenizerFast", 1),
        ("xlm-roberta-xl", "XLMRobertaTokenizer", 1),
        ("xlm-roberta-xl", None, 1),
    ],
)
def test_a_template_with_one_separator(unigram_folder, tmp_path, model_type, name, n_separators):
    """transformers 5.0 to 5.2 saved it; later versions put their own in its place where they know the class."""
    content = json.loads((unigram_folder / "tokenizer.json").read_text(encoding="utf-8"))
    del content["post_processor"]["pair"][3]
    config = json.loads((unigram_folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config = {key: value for key, value in config.items() if key != "tokenizer_class"}
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | ({"tokenizer_class": name} if name else {})))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    if n_separators == 2:
        with pytest.warns(UserWarning, match="its template puts one </s> between the texts of a pair"):
            ours = load_tokenizer(tmp_path)
    else:
        ours = load_tokenizer(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = ["the house", "a bird"]
    assert rows(ours.encode_batch(texts, texts[::-1])) == theirs(texts, texts[::-1])["input_ids"]
    assert rows(ours.encode_batch(texts)) == theirs(texts)["input_ids"]
    assert ours.n_special(pair=True) == 2 + n_separators
    ours.save(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text(json.dumps({"model_type": model_type}))
    for twin in (pickle.loads(pickle.dumps(ours)), load_tokenizer(tmp_path / "saved")):  # and no warning any more
        assert twin.n_special(pair=True) == 2 + n_separators
        assert rows(twin.encode_batch(texts, texts)) == rows(ours.encode_batch(texts, texts))


def test_a_piece_that_overflows_the_stack_of_the_package_is_refused(unigram_folder, tmp_path):
    content = json.loads((unigram_folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["model"]["vocab"].append(["x" * 5_000_000, -1.0])
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="a token of 5000000 bytes") as caught:
        load_tokenizer(tmp_path)
    assert len(str(caught.value)) < 300 + len(str(tmp_path))


def test_merges_must_be_pairs(byte_level_folder, tmp_path):
    for name in ("config.json", "vocab.json"):
        (tmp_path / name).write_bytes((byte_level_folder / name).read_bytes())
    (tmp_path / "merges.txt").write_text("#version: 0.2\nt h\nthe\n")
    with pytest.raises(CheckpointError, match=r"merges\.txt: expected two tokens in line 3, found 'the'"):
        load_tokenizer(tmp_path)


def test_sampling_needs_a_sentencepiece_model(pair):
    from skxlmr.text import SubwordSampling

    with pytest.raises(ValueError, match="sampling needs a SentencePiece model"):
        pair[0].encode_batch(["a"], sampling=SubwordSampling())


@pytest.fixture(scope="module")
def xlmr_fast(xlmr, tmp_path_factory):
    """The Fast conversion of the real model, by transformers."""
    pytest.importorskip("google.protobuf", reason="transformers reads .model files with protobuf")
    folder, fast = tmp_path_factory.mktemp("xlmr"), tmp_path_factory.mktemp("xlmr_fast")
    xlmr.save(folder)
    transformers.XLMRobertaTokenizer.from_pretrained(folder).save_pretrained(fast)
    return fast


@pytest.mark.slow
def test_all_real_texts_equal_the_tokenizers_package(xlmr_fast, xlmr, shared_data):
    texts = [text for _, text in real_texts(shared_data)]
    reference = tokenizers.Tokenizer.from_file(str(xlmr_fast / "tokenizer.json"))
    ours = load_tokenizer(xlmr_fast)
    expected = [encoding.ids for encoding in reference.encode_batch_fast(texts)]
    assert rows(ours.encode_batch(texts, parse_special=True)) == expected
    slow = rows(xlmr.encode_batch(texts))
    different = [i for i, row in enumerate(slow) if row != expected[i]]
    print(f"{len(texts)} texts, {len(different)} differ between Fast and SentencePiece")
    for i in different[:40]:
        print(repr(texts[i][:200]), xlmr.convert_ids_to_pieces(slow[i]), xlmr.convert_ids_to_pieces(expected[i]))
    assert len(different) < 0.002 * len(texts)


@pytest.mark.parametrize("piece", ["ous", "he"])
def test_a_piece_of_bpe_that_is_special(byte_level_folder, tmp_path, piece):
    """As special it is found in a text only with `parse_special`; else the text is of smaller pieces, and says the same."""
    theirs = transformers.RobertaTokenizer.from_pretrained(byte_level_folder)
    assert theirs.convert_tokens_to_ids(piece) != theirs.unk_token_id
    theirs.add_tokens([piece], special_tokens=True)
    theirs.save_pretrained(tmp_path)
    ours = load_tokenizer(tmp_path)
    texts = ["house", "the houses", "a mouse in the house", "x"]
    assert rows(ours.encode_batch(texts, parse_special=True)) == theirs(texts)["input_ids"]
    literal = ours.encode_batch(texts)
    assert theirs.convert_tokens_to_ids(piece) not in literal.ids
    assert [ours.decode(literal.row(i), skip_special_tokens=True) for i in range(len(texts))] == texts


def test_a_character_of_bpe_that_is_special(byte_level_folder, tmp_path):
    """Hidden from plain texts it would be lost: there is no smaller piece."""
    theirs = transformers.RobertaTokenizer.from_pretrained(byte_level_folder)
    theirs.add_tokens(["o"], special_tokens=True)
    theirs.save_pretrained(tmp_path)
    with pytest.raises(
        CheckpointError, match="the special token 'o' is a character of the vocabulary too, which texts"
    ):
        load_tokenizer(tmp_path)
