"""Steps of a ``tokenizer.json`` beside those that its class builds: other words, and one separator in CamemBERT's pairs."""

import json

import pytest

from skxlmr.text import FastTokenizer, SentencePieceTokenizer, load_tokenizer
from skxlmr.utils._errors import CheckpointError

transformers = pytest.importorskip("transformers", reason="the reference tokenizer is in transformers")

LOWERCASE, DIGITS = {"type": "Lowercase"}, {"type": "Digits", "individual_digits": True}
SPACES = [{"type": "Strip", "strip_left": False, "strip_right": True}]
SPACES += [{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}]
METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
TEXT = "The RED House 12 ﬁ"


@pytest.fixture
def folder(tiny_proto, tmp_path):
    """Both files of XLM-R's tokenizer over the tiny model."""
    ours = SentencePieceTokenizer(tiny_proto)
    ours.save(tmp_path)
    ours.save_conversion(tmp_path)
    return tmp_path


def rewrite(folder, model_type, class_name, before=(), after=(), pre_tokenizer=None, **parts):
    """Put steps around the normaliser of the file, or take another pre-tokeniser; the folder is of this type and class."""
    content = json.loads((folder / "tokenizer.json").read_text())
    content["normalizer"] = {"type": "Sequence", "normalizers": [*before, content["normalizer"], *after]}
    content["pre_tokenizer"] = pre_tokenizer or content["pre_tokenizer"]
    (folder / "tokenizer.json").write_text(json.dumps(content | parts))
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    file = folder / "tokenizer_config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"tokenizer_class": class_name}))


def check_ids(folder):
    """The ids of a text and of a pair are those of the reference."""
    ours, theirs = load_tokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)
    assert ours.encode_batch([TEXT]).row(0).tolist() == theirs(TEXT)["input_ids"]
    assert ours.encode_batch([TEXT], ["house"]).row(0).tolist() == theirs(TEXT, "house")["input_ids"]
    return ours


@pytest.mark.parametrize("class_name", ["XLMRobertaTokenizer", "CamembertTokenizerFast"])
@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ({"before": [LOWERCASE]}, "turn 'House' into .*▁house.*, and the class .* into .*▁House"),
        ({"pre_tokenizer": {"type": "Sequence", "pretokenizers": [DIGITS, METASPACE]}}, "turn '1234' into"),
    ],
)
def test_words_that_versions_of_the_reference_read_otherwise(folder, class_name, steps, words):
    """Version 5 of transformers builds the steps of these classes, earlier ones took the file's."""
    (folder / "sentencepiece.bpe.model").unlink()
    rewrite(folder, "xlm-roberta", class_name, **steps)
    with pytest.raises(CheckpointError, match=f"{words}.*name PreTrainedTokenizerFast") as caught:
        load_tokenizer(folder)
    assert caught.value.file == str(folder / "tokenizer.json")
    rewrite(folder, "xlm-roberta", "PreTrainedTokenizerFast")
    check_ids(folder)


def test_words_that_roberta_reads_otherwise(tmp_path):
    tokens = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *map(chr, range(33, 127)), "Ġ"]
    model = {"type": "BPE", "vocab": {token: i for i, token in enumerate(tokens)}, "merges": []}
    processor = {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0], "add_prefix_space": False}
    processor |= {"trim_offsets": True}
    content = {"normalizer": None, "pre_tokenizer": BYTE_LEVEL, "post_processor": processor, "model": model}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    (tmp_path / "tokenizer.json").write_text(json.dumps(content | {"decoder": BYTE_LEVEL}))
    load_tokenizer(tmp_path)
    content |= {"normalizer": LOWERCASE, "decoder": BYTE_LEVEL}
    made = FastTokenizer(content)
    made.save(tmp_path)
    assert check_ids(tmp_path).encode_batch([TEXT]).ids.tolist() == made.encode_batch([TEXT]).ids.tolist()
    (tmp_path / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"turn 'House' into .*'house'.*, and the class RobertaTokenizer into"):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize("class_name", ["XLMRobertaTokenizer", "PreTrainedTokenizerFast"])
def test_files_of_all_ages_are_read(folder, class_name):
    """Steps that treat white space in another way are those of other versions of transformers for the same model."""
    rewrite(folder, "xlm-roberta", class_name, after=SPACES, pre_tokenizer=METASPACE)
    assert isinstance(check_ids(folder), SentencePieceTokenizer)
    (folder / "sentencepiece.bpe.model").unlink()
    check_ids(folder)


@pytest.mark.parametrize("model_type", ["xlm-roberta", "bert"])
@pytest.mark.parametrize("class_name", ["PreTrainedTokenizerFast", "TokenizersBackend"])
def test_a_general_class_reads_words_as_the_file_says(folder, model_type, class_name):
    """A SentencePiece model beside it does not count."""
    rewrite(folder, model_type, class_name, before=[LOWERCASE])
    assert isinstance(check_ids(folder), FastTokenizer)


@pytest.mark.parametrize("class_name", ["CamembertTokenizer", None])
def test_pairs_of_camembert_have_two_separators(folder, class_name):
    (folder / "sentencepiece.bpe.model").unlink()
    start, end = ({"SpecialToken": {"id": token, "type_id": 0}} for token in ("<s>", "</s>"))
    first, second = ({"Sequence": {"id": text, "type_id": 0}} for text in "AB")
    processor = json.loads((folder / "tokenizer.json").read_text())["post_processor"]
    processor |= {"pair": [start, first, end, second, end]}
    rewrite(folder, "camembert", class_name, post_processor=processor)
    with pytest.warns(UserWarning, match="puts one </s> between the texts of a pair"):
        check_ids(folder)
