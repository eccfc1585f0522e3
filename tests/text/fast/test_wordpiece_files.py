"""What the files of a WordPiece tokenizer may say: lines of vocab.txt, models, options and templates; against transformers."""

import json

import pytest

from skxlmr.text import load_tokenizer
from skxlmr.utils._errors import CheckpointError
from tests.text.parity import differences, rows, without_special
from tests.text.texts import WORDPIECE as TEXTS
from tests.tiny_wordpiece import SPECIAL, tiny_vocabulary, write_files

transformers = pytest.importorskip("transformers", reason="the reference tokenizer is in transformers")


def lines(text="", end="\n"):
    return ["".join(f"{token}{end}" for token in tiny_vocabulary()), text]


@pytest.mark.parametrize(
    "content",
    [
        "".join(lines(end="\r\n")),
        "\n".join(tiny_vocabulary()),  # without a line end after the last line
        "".join(lines("\n\n\n")),
        "".join(lines("house\nthe\n")),  # the last of two lines counts
        "".join(lines()).replace("house\n", "house \t\u00a0\n"),
        "\ufeff" + "".join(lines()),  # belongs to the first token, which no text can spell
        "\ufeff[UNUSED]\n" + "".join(lines()),
        "".join(lines()).replace("house\n", "\n"),
        "".join(lines()).replace("house\n", "ho\0use\n"),
    ],
    ids=["CRLF", "no-end", "blank-lines", "twice", "trailing-space", "BOM", "BOM-and-all", "blank-inside", "NUL"],
)
def test_lines_of_a_vocabulary_are_read_as_by_the_reference(tmp_path, content):
    write_files(tmp_path, [])
    (tmp_path / "vocab.txt").write_bytes(content.encode())
    ours, theirs = load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [*TEXTS, "\ufeff[PAD]", "ho\0use"]
    assert rows(ours.encode_batch(texts)) == theirs(texts, split_special_tokens=True)["input_ids"]
    assert ours.pad_token_id == theirs.pad_token_id
    known = {i: token for token, i in theirs.get_vocab().items() if token}
    assert all(
        piece == known.get(i, "[UNK]") for i, piece in enumerate(ours.convert_ids_to_pieces(range(ours.vocab_size)))
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "expected one token a line, found none"),
        (b"\n \n", "expected one token a line, found none"),
        (b"[CLS]\n[SEP]\n[PAD]\n", r"expected the token '\[UNK\]' on a line of its own"),
        (b"[UNK]\n[SEP]\n", r"expected the token '\[CLS\]' on a line of its own"),
        (b"[UNK]\n[CLS]\n[SE]\n", r"expected the token '\[SEP\]' on a line of its own"),
        (b"[CLS]\n\xff\xfe\n", "expected text in UTF-8"),
        ("\n".join(SPECIAL).encode("utf-16"), "expected text in UTF-8"),
        (b"[UNK]\n[CLS]\nthe\rhouse\n", "line 3, found a carriage return within it"),
        (b"\r".join(token.encode() for token in SPECIAL), "line 1, found a carriage return within it"),
        (b"a" * 1025, "a token of 1025 bytes"),
        (b"a\n" * 1_000_001, "has a vocabulary of 1000001 tokens, expected at most 1000000"),
        (b"\n" * 10_000_000, "expected at most 1000000"),
        (b"a" * (16 * 2**20 + 1), "at most 16777216"),
    ],
    ids=range(13),
)
def test_broken_vocabularies_are_named(tmp_path, content, reason):
    write_files(tmp_path, [])
    (tmp_path / "vocab.txt").write_bytes(content)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.file == str(tmp_path / "vocab.txt")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"model": {"max_input_chars_per_word": 257}}, "expected at most 256 as max_input_chars_per_word, found 257"),
        ({"model": {"max_input_chars_per_word": -1}}, "as max_input_chars_per_word, found -1"),
        ({"model": {"max_input_chars_per_word": True}}, "as max_input_chars_per_word, found True"),
        ({"model": {"continuing_subword_prefix": "#" * 17}}, "at most 16 characters as continuing_subword_prefix"),
        ({"model": {"continuing_subword_prefix": 1}}, "at most 16 characters as continuing_subword_prefix, found 1"),
        ({"model": {"unk_token": "<unk>"}}, "expected the unknown token '<unk>' in the vocabulary"),
        ({"model": {"unk_token": ["[UNK]"]}}, r"expected the unknown token \['\[UNK\]'\]"),
        ({"model": {"vocab": {"[UNK]": 0, "a": 0}}}, "distinct ids"),
        ({"model": {"vocab": ["[UNK]"]}}, "found 'WordPiece' with a vocab of list"),
        ({"post_processor": None}, r"expected the layout <s> A </s>"),
        ({"pre_tokenizer": {"type": "Nonsense"}}, "the tokenizers package cannot use it"),
    ],
    ids=range(11),
)
def test_broken_models_are_named(tmp_path, change, reason):
    write_files(tmp_path, tokenizer_class="PreTrainedTokenizerFast")
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    for key, value in change.items():
        content[key] = content[key] | value if key == "model" else value
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.file == str(file)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"model": {"max_input_chars_per_word": 50}},
            "expected max_input_chars_per_word 100, as the tokenizer's class",
        ),
        ({"model": {"continuing_subword_prefix": "@@"}}, "expected continuing_subword_prefix '##'"),
        ({"model": {"unk_token": "[PAD]"}}, r"expected unk_token '\[UNK\]', .*, found '\[PAD\]'"),
        ({"normalizer": None}, "expected a normalizer of the type 'BertNormalizer', .*, found None"),
        ({"normalizer": {"type": "NFC"}}, "expected a normalizer of the type 'BertNormalizer', .*, found 'NFC'"),
        ({"normalizer": {"type": "BertNormalizer", "clean_text": False}}, "expected clean_text of the normalizer True"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "expected a pre_tokenizer of the type 'BertPreTokenizer'"),
        (
            {"model": {"type": "BPE", "merges": []}},
            "expected a WordPiece model for the class BertTokenizer, found 'BPE'",
        ),
    ],
    ids=range(8),
)
def test_what_the_class_would_ignore_is_refused(tmp_path, change, reason):
    """Versions of transformers differ there; a general class does what the file says."""
    write_files(tmp_path, ["tokenizer.json"])
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    for key, value in change.items():
        content[key] = content[key] | value if key == "model" else value
    file.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=reason):
        load_tokenizer(tmp_path)
    if content["model"]["type"] == "BPE":
        return
    content["normalizer"] = (
        content["normalizer"] and {"handle_chinese_chars": True, "lowercase": False} | content["normalizer"]
    )
    file.write_text(json.dumps(content))
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    ours, theirs = load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = without_special(TEXTS)
    assert rows(ours.encode_batch(texts)) == theirs(texts)["input_ids"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"do_basic_tokenize": False}, "do_basic_tokenize is false, which only early versions"),
        ({"clean_text": False}, "clean_text is false, which only early versions"),
        ({"never_split": ["house"]}, "expected special tokens as never_split"),
        ({"never_split": "[MASK]"}, "expected special tokens as never_split"),
        ({"do_lower_case": "no"}, "expected true or false as do_lower_case, found 'no'"),
        ({"strip_accents": 1}, "expected true or false as strip_accents, found 1"),
        ({"model_input_names": "token_type_ids"}, "expected a list of names as model_input_names"),
    ],
    ids=range(7),
)
def test_options_that_cannot_be_honoured_are_named(tmp_path, options, reason):
    write_files(tmp_path, **options)
    with pytest.raises(CheckpointError, match=reason) as caught:
        load_tokenizer(tmp_path)
    assert caught.value.file == str(tmp_path / "tokenizer_config.json")


def template(types, single=(0, 0, 0), separators=1):
    pair = ["[CLS]", "A", *["[SEP]"] * separators, "B", "[SEP]"]

    def part(name, kind):
        return {"Sequence" if len(name) == 1 else "SpecialToken": {"id": name, "type_id": kind}}

    tokens = {token: {"id": token, "ids": [SPECIAL.index(token)], "tokens": [token]} for token in ("[CLS]", "[SEP]")}
    return {
        "type": "TemplateProcessing",
        "single": list(map(part, ["[CLS]", "A", "[SEP]"], single)),
        "pair": list(map(part, pair, types)),
        "special_tokens": tokens,
    }


@pytest.mark.parametrize(
    ("processor", "reads"),
    [
        (template([0, 0, 0, 1, 1]), True),
        (template([0, 0, 0, 0, 0]), True),
        (template([0, 0, 1, 1, 1]), True),
        (template([0, 0, 0, 0, 1, 1], separators=2), True),
        (template([0, 0, 0, 1, 1, 1], separators=2), True),
        (template([0, 0, 0, 1, 0]), False),
        (template([0, 0, 0, 0, 1]), False),
        (template([1, 1, 1, 1, 1]), False),
        (template([0, 1, 1, 1, 1]), False),
        (template([0, 0, 0, 2, 2]), False),
        (template([0, 0, 0, 1, 1], single=(0, 1, 1)), False),
    ],
    ids=range(11),
)
def test_token_types_of_templates(tmp_path, processor, reads):
    write_files(tmp_path, tokenizer_class="TokenizersBackend", model_input_names=["input_ids", "token_type_ids"])
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"post_processor": processor}))
    if not reads:
        with pytest.raises(
            CheckpointError, match="expected token type 0 for a text on its own, and for pairs 0, then 1"
        ):
            load_tokenizer(tmp_path)
        return
    ours, theirs = load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert differences(ours, theirs, TEXTS[::5]) == []
    config = json.loads((tmp_path / "tokenizer_config.json").read_text()) | {"tokenizer_class": "BertTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if processor == template([0, 0, 0, 1, 1]):
        assert load_tokenizer(tmp_path).n_special(pair=True) == 3
        return
    with pytest.raises(CheckpointError, match=r"expected the layout \[CLS\] A \[SEP\] B \[SEP\] with token type 1"):
        load_tokenizer(tmp_path)


def test_models_without_token_types_ignore_them(tmp_path):
    write_files(tmp_path, model_type="distilbert", tokenizer_class="BertTokenizer")
    batch = load_tokenizer(tmp_path).encode_batch(["the"], ["house"])
    assert batch.second_starts is None
    assert load_tokenizer(tmp_path).create_token_type_ids_from_sequences([7], [8]) == [0] * 5


@pytest.mark.parametrize(
    ("files", "of_file", "options", "companion"),
    [
        (["tokenizer.json"], False, {"added_tokens_decoder": {"500": {"normalized": True}}}, None),
        (["tokenizer.json"], True, {"added_tokens_decoder": {"500": {"normalized": False}}}, None),
        (["tokenizer.json"], True, {"added_tokens_decoder": {"500": {"special": True}}}, None),
        (["tokenizer.json"], None, {"added_tokens_decoder": {"500": {}}}, None),
        (["tokenizer.json"], True, {}, {"COVID": 500}),
        (["tokenizer.json"], False, {}, {"COVID": 500}),
        (["vocab.txt"], None, {"additional_special_tokens": [{"normalized": True, "__type": "AddedToken"}]}, None),
        (["vocab.txt"], None, {"added_tokens_decoder": {"500": {"normalized": False}}}, None),
    ],
)
def test_added_tokens_are_looked_for_in_the_text_as_it_is_or_in_lower_case(
    tmp_path, files, of_file, options, companion
):
    """As tokenizer_config.json says, or tokenizer.json where that doesn't list the token."""
    for entries in options.values():
        for entry in entries.values() if isinstance(entries, dict) else entries:
            entry["content"] = "COVID"
    write_files(tmp_path, files, lowercase=True, **options)
    if of_file is not None:
        flags = {"lstrip": False, "rstrip": False, "single_word": True, "normalized": of_file, "special": False}
        content = json.loads((tmp_path / "tokenizer.json").read_text())
        content["added_tokens"].append({"id": 500, "content": "COVID"} | flags)
        (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    if companion is not None:
        (tmp_path / "added_tokens.json").write_text(json.dumps(companion))
    ours, theirs = load_tokenizer(tmp_path), transformers.AutoTokenizer.from_pretrained(tmp_path)
    ours.save(tmp_path / "saved")
    texts = ["COVID", "covid", "the Covid house", "aCOVIDb"]
    expected = theirs(texts)["input_ids"]
    for tokenizer in (ours, load_tokenizer(tmp_path / "saved")):
        assert rows(tokenizer.encode_batch(texts, parse_special=True)) == expected
