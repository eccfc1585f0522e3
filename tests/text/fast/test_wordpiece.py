"""BERT's WordPiece from vocab.txt and tokenizer.json, against transformers."""

import copy
import json
import pickle

import numpy as np
import pytest

from skxlmr.text import FastTokenizer, SubwordSampling, load_tokenizer
from skxlmr.utils._errors import CheckpointError
from tests.text.parity import assert_same_vocabulary, differences, differing_offsets, rows, token_types
from tests.text.texts import HOSTILE, real_texts
from tests.text.texts import WORDPIECE as TEXTS
from tests.tiny import sentences
from tests.tiny_wordpiece import SPECIAL, tiny_vocabulary, vocabulary, write_files

transformers = pytest.importorskip("transformers", reason="the reference tokenizer is in transformers")

FILES = [("vocab.txt",), ("tokenizer.json",)]


@pytest.fixture(scope="module", params=["cased", "lower"])
def lowercase(request):
    return request.param == "lower"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, lowercase):
    return write_files(tmp_path_factory.mktemp("bert"), ["vocab.txt"], lowercase=lowercase)


@pytest.fixture(scope="module")
def pair(folder):
    """Our tokenizer of a folder, and the reference's."""
    return load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("files", FILES, ids="-".join)
@pytest.mark.parametrize(
    ("model_type", "tokenizer_class"),
    [
        ("bert", "BertTokenizerFast"),
        ("bert", None),
        ("distilbert", "DistilBertTokenizer"),
    ],
)
def test_ids_pairs_token_types_masks_and_cuts_equal_the_reference(
    tmp_path, lowercase, files, model_type, tokenizer_class
):
    write_files(tmp_path, files, lowercase=lowercase, model_type=model_type, tokenizer_class=tokenizer_class)
    ours, theirs = load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert type(ours) is FastTokenizer
    assert_same_vocabulary(ours, theirs)
    texts = TEXTS if tokenizer_class == "BertTokenizerFast" else TEXTS[::4]
    assert differences(ours, theirs, texts) == []
    assert differing_offsets(ours, theirs, texts) == []


def test_token_types_of_layouts_without_texts(pair):
    ours, theirs = pair
    two = theirs("the house", "a bird", add_special_tokens=True)
    first, second = theirs("the house", add_special_tokens=False), theirs("a bird", add_special_tokens=False)
    ids = first["input_ids"], second["input_ids"]
    assert ours.build_inputs_with_special_tokens(*ids) == two["input_ids"]
    assert ours.create_token_type_ids_from_sequences(*ids) == two["token_type_ids"]
    assert set(ours.create_token_type_ids_from_sequences(ids[0])) == {0}
    assert ours.n_special(pair=True) == 3
    batch = ours.encode_batch(["the house"], ["a bird"])
    assert token_types(batch) == [two["token_type_ids"]] and ours.encode_batch(["the house"]).second_starts is None


@pytest.mark.parametrize(
    ("tokenizer_class", "names", "has_types"),
    [
        ("PreTrainedTokenizerFast", None, True),  # as in transformers 4, which wrote this name
        ("PreTrainedTokenizerFast", ["input_ids", "attention_mask"], False),
        ("PreTrainedTokenizerFast", ["input_ids", "token_type_ids"], True),
        ("TokenizersBackend", None, False),
        ("TokenizersBackend", ["input_ids", "token_type_ids"], True),
        ("BertTokenizer", ["input_ids"], False),
    ],
)
def test_token_types_reach_the_model_as_the_files_say(tmp_path, tokenizer_class, names, has_types):
    options = {} if names is None else {"model_input_names": names}
    write_files(tmp_path, tokenizer_class=tokenizer_class, **options)
    ours = load_tokenizer(tmp_path)
    batch = ours.encode_batch(["the house"], ["a bird"])
    assert (batch.second_starts is not None) == has_types
    if (tokenizer_class, names) != ("PreTrainedTokenizerFast", None):
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
        assert ("token_type_ids" in theirs("the house", "a bird")) == has_types
    ours.save(tmp_path / "saved")
    (tmp_path / "saved" / "config.json").write_text('{"model_type": "bert"}')
    again = load_tokenizer(tmp_path / "saved").encode_batch(["the house"], ["a bird"])
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")("the house", "a bird")
    assert token_types(again) == token_types(batch)
    assert theirs.get("token_type_ids", [0] * len(batch.ids)) == token_types(batch)[0]


def test_windows_of_pairs_say_where_the_second_text_begins(pair):
    ours, theirs = pair
    texts, contexts = sentences(10), [" ".join(sentences(12, seed=i)) for i in range(10)]
    options = {"truncation": "only_second", "max_length": 60, "stride": 12}
    expected = theirs(texts, contexts, **options, return_overflowing_tokens=True)
    batch = ours.encode_batch(texts, contexts, **options)
    assert rows(batch) == expected["input_ids"]
    assert token_types(batch) == expected["token_type_ids"]
    taken = batch.take_input_rows(np.array([3, 1]))
    assert token_types(taken) == [
        expected["token_type_ids"][i] for row in (3, 1) for i in np.flatnonzero(batch.row_of_window == row)
    ]


def test_words_equal_the_reference_and_none_is_lost(pair):
    ours, theirs = pair
    words = [text.split() for text in sentences(40)] + [["New York", "e\u0301", "ﬁ", "漢字", "don't"]]
    expected = theirs(words, is_split_into_words=True)
    batch = ours.encode_words(words)
    assert rows(batch) == expected["input_ids"]
    for i in range(len(words)):
        assert [None if k < 0 else k for k in batch.word_ids[batch.span(i)].tolist()] == expected.word_ids(i)
    lost = ours.encode_words([["the", "", "\u200d", " "]], return_offsets=True)
    assert lost.ids[-4:-1].tolist() == [ours.unk_token_id] * 3
    assert lost.word_ids[-4:-1].tolist() == [1, 2, 3]


def test_decode_joins_pieces_as_the_reference_does(pair):
    ours, theirs = pair
    batch = ours.encode_batch(TEXTS, parse_special=True)
    for i in range(len(batch)):
        for skip in (True, False):
            expected = theirs.decode(batch.row(i), skip_special_tokens=skip)
            assert ours.decode(batch.row(i), skip_special_tokens=skip) == expected
    assert ours.decode(ours.encode_batch(["the houses ?"]).ids) == "the houses?"


def test_special_tokens_that_a_text_spells_are_text_by_default(pair):
    ours, _ = pair
    batch = ours.encode_batch([*SPECIAL, "a [MASK] b", "x[SEP]"])
    hidden = [i for i in ours.all_special_ids if i != ours.unk_token_id]
    assert not np.isin([i for row in rows(batch) for i in row[1:-1]], hidden).any()
    assert ours.encode_batch(["a [MASK]"], parse_special=True).ids[-2] == ours.mask_token_id
    assert (ours.bos_token_id, ours.eos_token_id) == (ours.cls_token_id, ours.sep_token_id)


def test_further_tokens(pair, tmp_path, lowercase):
    ours, _ = pair
    more = ours.with_tokens(["<Speaker>", "the"]).with_tokens(["houseBoat"], special=False)
    assert more.vocab_size == ours.vocab_size + 2
    literal, parsed = (more.encode_batch(["a <Speaker> houseBoat"], parse_special=p) for p in (False, True))
    assert more.token_to_id("<Speaker>") not in literal.ids and more.token_to_id("<Speaker>") in parsed.ids
    assert more.token_to_id("houseBoat") in literal.ids
    more.save(tmp_path)
    again, reference = load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [*TEXTS, "a <Speaker> houseBoat", "the"]
    assert rows(again.encode_batch(texts, parse_special=True)) == reference(texts)["input_ids"]
    assert rows(again.encode_batch(texts)) == rows(more.encode_batch(texts))


@pytest.mark.parametrize("tokenizer_class", ["BertTokenizer", "DistilBertTokenizer", "PreTrainedTokenizerFast", None])
def test_a_saved_folder_opens_to_the_same_ids(tmp_path, lowercase, tokenizer_class):
    model_type = "distilbert" if tokenizer_class == "DistilBertTokenizer" else "bert"
    write_files(tmp_path, lowercase=lowercase, tokenizer_class=tokenizer_class, model_type=model_type)
    ours = load_tokenizer(tmp_path)
    ours.save(tmp_path / "saved")
    assert ours.save_vocabulary(tmp_path, "x") == (str(tmp_path / "x-vocab.txt"),)
    assert (tmp_path / "x-vocab.txt").read_bytes() == (tmp_path / "vocab.txt").read_bytes()
    options = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert options["tokenizer_class"] == (tokenizer_class or "BertTokenizer")
    for with_config in (False, True):
        if with_config:
            (tmp_path / "saved" / "config.json").write_text(json.dumps({"model_type": model_type}))
        again = load_tokenizer(tmp_path / "saved")
        reference = transformers.AutoTokenizer.from_pretrained(tmp_path / "saved")
        assert again.model_max_length == reference.model_max_length == 512
        assert rows(again.encode_batch(TEXTS, parse_special=True)) == reference(TEXTS)["input_ids"]
        assert rows(again.encode_batch(TEXTS)) == rows(ours.encode_batch(TEXTS))
        both = again.encode_batch(TEXTS, TEXTS[::-1])
        assert token_types(both) == token_types(ours.encode_batch(TEXTS, TEXTS[::-1]))


def test_pickle_copies_and_equality(pair):
    ours, _ = pair
    twin = pickle.loads(pickle.dumps(ours))
    assert twin == ours and hash(twin) == hash(ours) and copy.deepcopy(ours) is ours
    both = ours.encode_batch(TEXTS, TEXTS), twin.encode_batch(TEXTS, TEXTS)
    assert rows(both[0]) == rows(both[1]) and (both[0].second_starts == both[1].second_starts).all()


def test_sampling_is_refused(pair):
    with pytest.raises(ValueError, match="sampling needs a SentencePiece model"):
        pair[0].encode_batch(["a"], sampling=SubwordSampling())


@pytest.mark.parametrize(
    "options",
    [
        {"tokenize_chinese_chars": False},
        {"strip_accents": True},
        {"strip_accents": False, "do_lower_case": True},
        {"do_lower_case": None},
        {"do_basic_tokenize": True, "never_split": None},
        {"mask_token": "house", "unk_token": "[PAD]", "pad_token": "[UNK]"},
        {"cls_token": "[SEP]", "sep_token": "[CLS]", "additional_special_tokens": ["bird", "<new>"]},
        {"mask_token": {"__type": "AddedToken", "content": "[MASK]", "lstrip": True, "normalized": False}},
    ],
    ids=str,
)
@pytest.mark.parametrize("files", FILES, ids="-".join)
def test_options_are_honoured(tmp_path, options, files):
    write_files(tmp_path, files, **options)
    if files == ("tokenizer.json",) and (
        "cls_token" in options or "unk_token" in options
    ):  # the files contradict each other
        with pytest.raises(CheckpointError, match=r"expected (the layout|unk_token)"):
            load_tokenizer(tmp_path)
        return
    ours, theirs = load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert_same_vocabulary(ours, theirs)
    assert differences(ours, theirs, [*TEXTS[::5], "漢字と仮名 the 中文 e\u0301"]) == []


def test_added_tokens_of_old_folders(tmp_path):
    """In added_tokens.json those are looked for in the text in lower case that are not special."""
    write_files(tmp_path, ["vocab.txt"], lowercase=True, additional_special_tokens=["<X>"])
    size = len(tiny_vocabulary(True))
    (tmp_path / "added_tokens.json").write_text(json.dumps({"HouseBoat": size, "<X>": size + 1}))
    ours, theirs = load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = ["a HouseBoat", "a houseboat", "HOUSEBOAT <X> <x>", "boat"]
    assert rows(ours.encode_batch(texts, parse_special=True)) == theirs(texts)["input_ids"]
    assert size in ours.encode_batch(texts[1:2]).ids and size + 1 not in ours.encode_batch(texts).ids


@pytest.mark.parametrize("name", ["BertJapaneseTokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("place", ["config.json", "tokenizer_config.json"])
def test_classes_that_read_a_vocabulary_otherwise_are_refused(tmp_path, name, place):
    """The first splits texts with another program; the second reads no vocab.txt."""
    write_files(tmp_path, ["vocab.txt"], tokenizer_class=None)
    values = json.loads((tmp_path / place).read_text()) | {"tokenizer_class": name}
    (tmp_path / place).write_text(json.dumps(values))
    with pytest.raises(
        CheckpointError, match=rf"reads vocab\.txt \(BertTokenizer, DistilBertTokenizer\), found '{name[:14]}"
    ):
        load_tokenizer(tmp_path)


def test_a_class_that_is_not_known_may_be_replaced(tmp_path):
    write_files(tmp_path, ["tokenizer.json"], tokenizer_class="ElectraTokenizer")
    with pytest.raises(
        CheckpointError, match="found 'ElectraTokenizer'; PreTrainedTokenizerFast does what the file says"
    ):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("model_type", "name"), [("bert", "XLMRobertaTokenizer"), ("bert", "RobertaTokenizerFast"), ("xlm-roberta", None)]
)
def test_classes_of_other_models_cannot_read_wordpiece(tmp_path, model_type, name):
    write_files(tmp_path, ["tokenizer.json"], model_type=model_type, tokenizer_class=name)
    with pytest.raises(
        CheckpointError, match=r"has a WordPiece model, which .*RobertaTokenizer cannot read; if tokenizer.js"
    ):
        load_tokenizer(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("files", FILES, ids="-".join)
@pytest.mark.parametrize(
    ("model_type", "tokenizer_class"), [("bert", "BertTokenizer"), ("distilbert", "DistilBertTokenizer")]
)
def test_ten_thousand_real_texts_equal_the_reference(
    shared_data, tmp_path, real_vocabularies, lowercase, files, model_type, tokenizer_class
):
    """Last passed with transformers 5.23 and tokenizers 0.23.3, without a difference."""
    write_files(
        tmp_path,
        files,
        lowercase=lowercase,
        model_type=model_type,
        tokenizer_class=tokenizer_class,
        tokens=real_vocabularies[lowercase],
    )
    ours, theirs = load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [*[text for _, text in real_texts(shared_data)][::6][:10_000], *HOSTILE]
    assert len(texts) > 10_000
    assert differences(ours, theirs, texts) == []
    assert differing_offsets(ours, theirs, texts) == []


@pytest.fixture(scope="module")
def real_vocabularies(shared_data):
    """Vocabularies of real texts, by whether they are in lower case; never written into the project."""
    texts = [text for _, text in real_texts(shared_data, step=7)]
    return {lower: vocabulary(texts, 8000, lower) for lower in (False, True)}
