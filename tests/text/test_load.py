"""Which tokenizer a folder holds, by its files and its model_type."""

import itertools
import json

import pytest

from skxlmr.text import FastTokenizer, SentencePieceTokenizer, XLMTokenizer, load_tokenizer
from skxlmr.utils._errors import CheckpointError

SPM, FAST, VOCAB, MERGES = "sentencepiece.bpe.model", "tokenizer.json", "vocab.json", "merges.txt"
LETTERS = [*"abcdefghijklmnopqrstuvwxyz", *(f"{letter}</w>" for letter in "abc")]
VOCABULARY = {token: i for i, token in enumerate(["<s>", "</s>", "<pad>", "<unk>", "<mask>", *LETTERS, "ab"])}


@pytest.fixture
def contents(tiny_proto):
    processor = {"type": "RobertaProcessing", "sep": ["</s>", 1], "cls": ["<s>", 0]}
    processor |= {"trim_offsets": True, "add_prefix_space": False}
    model = {"type": "BPE", "vocab": VOCABULARY, "merges": ["a b"]}
    fast = {"version": "1.0", "added_tokens": [], "post_processor": processor, "model": model}
    return {
        SPM: tiny_proto,
        FAST: json.dumps(fast | dict.fromkeys(["normalizer", "pre_tokenizer", "decoder"])).encode(),
        VOCAB: json.dumps(VOCABULARY).encode(),
        MERGES: b"a b\n",
    }


def expected(files, model_type):
    """The documented table."""
    if model_type in ("roberta", "roberta-prelayernorm"):
        if SPM in files:
            return None
        return FastTokenizer if FAST in files or {VOCAB, MERGES} <= files else None
    if model_type == "xlm":
        return XLMTokenizer if {VOCAB, MERGES} <= files and SPM not in files else None
    if SPM in files:
        return None if files & {VOCAB, MERGES} or model_type == "camembert" else SentencePieceTokenizer
    return FastTokenizer if FAST in files else None


@pytest.mark.parametrize("model_type", ["xlm-roberta", "roberta", "roberta-prelayernorm", "xlm", "camembert", None])
def test_every_combination(tmp_path, contents, model_type):
    if str(model_type).startswith("roberta"):  # whose class splits words in its own way, as the file must
        steps = {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}}
        contents[FAST] = json.dumps(json.loads(contents[FAST]) | steps).encode()
    kinds = set()
    for n in range(5):
        for files in itertools.combinations(contents, n):
            folder = tmp_path / "-".join([*files, "x"])
            folder.mkdir()
            for name in files:
                (folder / name).write_bytes(contents[name])
            if model_type is not None:
                (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
            kind = expected(set(files), model_type)
            kinds.add(kind)
            if kind is not None:
                assert type(load_tokenizer(folder)) is kind
                continue
            with pytest.raises(CheckpointError, match=r"expected .*, found ") as caught:
                load_tokenizer(folder)
            found = caught.value.reason.partition(", found ")[2] or caught.value.reason
            assert all(name in found for name in files)
            assert caught.value.file == str(folder)
    assert None in kinds and len(kinds) >= 2


def test_the_tokenizers_class_stands_in_for_the_models_type(tmp_path, contents):
    for name in (VOCAB, MERGES):
        (tmp_path / name).write_bytes(contents[name])
    for name, kind in (("XLMTokenizer", XLMTokenizer), ("RobertaTokenizerFast", FastTokenizer)):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": name}))
        assert type(load_tokenizer(tmp_path)) is kind
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "xlm"}))
    assert type(load_tokenizer(tmp_path)) is XLMTokenizer


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
def test_a_bert_body_with_the_vocabulary_of_xlm_roberta(tmp_path, contents, tiny, model_type):
    """As in paraphrase-multilingual-MiniLM-L12-v2 and multilingual-e5-small; the class may stand in either file."""
    (tmp_path / SPM).write_bytes(contents[SPM])
    (tmp_path / "unigram.json").write_text("{}")  # unused, in the first of them
    classes = ("XLMRobertaTokenizer", "XLMRobertaTokenizerFast", "PreTrainedTokenizerFast", "TokenizersBackend", None)
    for name, place in itertools.product(classes, ("config.json", "tokenizer_config.json")):
        (tmp_path / "tokenizer_config.json").write_text("{}")
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type, "pad_token_id": 0}))
        values = json.loads((tmp_path / place).read_text()) | ({"tokenizer_class": name} if name else {})
        (tmp_path / place).write_text(json.dumps(values))
        loaded = load_tokenizer(tmp_path)
        assert type(loaded) is SentencePieceTokenizer and loaded.pad_token_id == 1
        assert loaded.encode_batch(["the house"]).ids.tolist() == tiny.encode_batch(["the house"]).ids.tolist()
    refused = ("BertTokenizer", "AlbertTokenizerFast", "CamembertTokenizer")
    for name, place in itertools.product(refused, ("tokenizer_config.json", "config.json")):
        (tmp_path / "tokenizer_config.json").write_text("{}")
        (tmp_path / place).write_text(json.dumps({"model_type": model_type, "tokenizer_class": name}))
        with pytest.raises(CheckpointError, match=rf"reads {SPM} \(XLMRobertaTokenizer, .*, found '{name[:9]}"):
            load_tokenizer(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_broken_configs_are_named(tmp_path, contents, name):
    (tmp_path / SPM).write_bytes(contents[SPM])
    (tmp_path / name).write_text("{")
    with pytest.raises(CheckpointError, match="is not valid JSON") as caught:
        load_tokenizer(tmp_path)
    assert caught.value.file == str(tmp_path / name)


def test_the_folder_must_exist(tmp_path):
    with pytest.raises(CheckpointError, match="expected a checkpoint folder, found nothing"):
        load_tokenizer(tmp_path / "missing")


@pytest.mark.parametrize(
    ("files", "model_type"),
    [((SPM,), "xlm-roberta"), ((FAST,), "xlm-roberta"), ((VOCAB, MERGES), "roberta"), ((VOCAB, MERGES), "xlm")],
)
def test_a_folder_whose_long_texts_lose_their_beginning_is_refused(tmp_path, contents, files, model_type):
    for name in files:
        (tmp_path / name).write_bytes(contents[name])
    config = tmp_path / "tokenizer_config.json"
    for side in ("left", "middle", 3):
        config.write_text(json.dumps({"truncation_side": side}))
        with pytest.raises(CheckpointError, match="'right' as truncation_side, found") as caught:
            load_tokenizer(tmp_path, model_type)
        assert caught.value.file == str(config)
    for side in ("right", None):
        config.write_text(json.dumps({"truncation_side": side}))
        load_tokenizer(tmp_path, model_type)


@pytest.mark.parametrize("files", [(FAST,), (SPM, FAST)])
def test_truncation_in_tokenizer_json_counts_where_the_config_says_nothing(tmp_path, contents, files):
    for name in files:
        (tmp_path / name).write_bytes(contents[name])
    content = json.loads(contents[FAST])
    for direction, is_refused in (("Left", True), ("Right", False)):
        truncation = {"direction": direction, "max_length": 512, "strategy": "LongestFirst", "stride": 0}
        (tmp_path / FAST).write_text(json.dumps({"truncation": truncation} | content))
        (tmp_path / "tokenizer_config.json").write_text("{}")
        if is_refused:
            with pytest.raises(CheckpointError, match="direction of truncation, found 'left'"):
                load_tokenizer(tmp_path, "xlm-roberta")
        else:
            load_tokenizer(tmp_path, "xlm-roberta")
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"truncation_side": "right"}))
        load_tokenizer(tmp_path, "xlm-roberta")


@pytest.mark.parametrize(
    "scheme", [{"prepend_scheme": "never"}, {"prepend_scheme": "always"}, {"prepend_scheme": "first"}, {}]
)
@pytest.mark.parametrize("nested", [False, True])
def test_a_prefix_space_that_versions_of_the_reference_read_otherwise(tmp_path, contents, scheme, nested):
    """Since version 5 the class takes it from tokenizer_config.json; before, XLM-R's took it from tokenizer.json."""
    step = {"type": "Metaspace", "replacement": "\u2581", **scheme}
    whole = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, step]} if nested else step
    (tmp_path / FAST).write_text(json.dumps(json.loads(contents[FAST]) | {"pre_tokenizer": whole}))
    has_space = scheme != {"prepend_scheme": "never"}
    for said in (True, False, None):
        options = {"tokenizer_class": "XLMRobertaTokenizer"} | ({} if said is None else {"add_prefix_space": said})
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(options))
        if (said is not False) == has_space:
            load_tokenizer(tmp_path, "xlm-roberta")
        else:
            with pytest.raises(CheckpointError, match=f"set it to {str(has_space).lower()}"):
                load_tokenizer(tmp_path, "xlm-roberta")
        options["tokenizer_class"] = "PreTrainedTokenizerFast"  # does what the file says
        (tmp_path / "tokenizer_config.json").write_text(json.dumps(options))
        load_tokenizer(tmp_path, "xlm-roberta")


def test_a_sentencepiece_model_always_puts_a_space_before_a_text(tmp_path, contents):
    (tmp_path / SPM).write_bytes(contents[SPM])
    (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": false}')
    with pytest.raises(CheckpointError, match="set it to true"):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"add_prefix_space": true}')
    load_tokenizer(tmp_path)


@pytest.mark.parametrize("file", [SPM, FAST])
@pytest.mark.parametrize(("role", "other"), [("bos_token", "cls_token"), ("eos_token", "sep_token")])
def test_ends_of_a_row_that_versions_of_the_reference_name_otherwise(tmp_path, contents, file, role, other):
    """Since version 5 XLM-R's class puts bos_token and eos_token around a text; before, cls_token and sep_token."""
    (tmp_path / file).write_bytes(contents[file])
    config, options = tmp_path / "tokenizer_config.json", {"tokenizer_class": "XLMRobertaTokenizer"}
    config.write_text(json.dumps(options | {role: "<mask>"}))
    with pytest.raises(CheckpointError, match=f"{other} is '<.*>', but {role} is '<mask>'"):
        load_tokenizer(tmp_path, "xlm-roberta")
    if file == SPM:
        options |= {other: "<mask>"}
    else:  # a general class does what the file says
        options |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    config.write_text(json.dumps(options | {role: "<mask>"}))
    load_tokenizer(tmp_path, "xlm-roberta")


def test_the_prefix_space_of_roberta_is_that_of_both_files(tmp_path, contents):
    step = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    (tmp_path / FAST).write_text(json.dumps(json.loads(contents[FAST]) | {"pre_tokenizer": step}))
    config = tmp_path / "tokenizer_config.json"
    config.write_text("{}")
    load_tokenizer(tmp_path, "roberta")
    config.write_text('{"add_prefix_space": true}')
    with pytest.raises(CheckpointError, match=r"add_prefix_space is true, but tokenizer\.json puts no space"):
        load_tokenizer(tmp_path, "roberta")


@pytest.mark.parametrize(
    "name", [SPM, FAST, "config.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"]
)
def test_a_link_to_nowhere_is_named_and_not_taken_for_a_file_that_is_not_there(tmp_path, contents, name):
    """As in a copy of a snapshot of the hub's cache without what its links lead to."""
    (tmp_path / SPM).write_bytes(contents[SPM])
    (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / name).symlink_to("nowhere")
    with pytest.raises(CheckpointError, match=f"{name}: cannot be read"):
        load_tokenizer(tmp_path)
