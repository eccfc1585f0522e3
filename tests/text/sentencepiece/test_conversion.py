"""The tokenizer.json that stands for a SentencePiece model, against transformers' own conversion of it."""

import json

import pytest

from skxlmr.text import SentencePieceTokenizer, load_tokenizer
from tests.tiny import sentences, train

TOKENS = ("[SYS]", "[USR]")


def saved(tokenizer, folder, model_type="xlm-roberta-xl"):
    """A folder with both files."""
    tokenizer.save(folder)
    tokenizer.save_conversion(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    return folder


@pytest.mark.parametrize("name", ["tiny", "toy", pytest.param("xlmr", marks=pytest.mark.slow)])
def test_the_conversion_is_the_references(name, request, tmp_path):
    transformers = pytest.importorskip("transformers")
    folder = saved(request.getfixturevalue(name), tmp_path)
    found = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").unlink()
    expected = json.loads(transformers.XLMRobertaTokenizer.from_pretrained(folder).backend_tokenizer.to_str())
    assert found == expected


@pytest.mark.parametrize("tokens", [(), TOKENS])
def test_both_files_are_one_tokenizer(tiny, tmp_path, tokens):
    """For this library, which reads the model, and for transformers, which reads the conversion alone."""
    transformers = pytest.importorskip("transformers")
    tokenizer = tiny.with_tokens(tokens)
    folder = saved(tokenizer, tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert type(theirs).__name__ == "TokenizersBackend" and len(theirs) == tokenizer.vocab_size
    ours = load_tokenizer(folder)
    assert type(ours) is SentencePieceTokenizer and ours.vocab_size == tokenizer.vocab_size
    texts = [*sentences(40), "Ａ  ﬁve\u00a0①", "漢字 \U0001f469", "a <mask> [USR] b</s>", ""]
    for pairs in (None, texts[::-1]):
        found = ours.encode_batch(texts, pairs, parse_special=True)
        expected = theirs(texts, pairs)["input_ids"]
        assert [found.row(i).tolist() for i in range(len(texts))] == expected
    assert theirs.mask_token == "<mask>" and theirs.model_max_length == ours.model_max_length


def test_other_models_have_none(tmp_path):
    for folder in (tmp_path / "bpe", tmp_path / "unigram"):
        saved(SentencePieceTokenizer(train(model_type=folder.name, vocab_size=300)), folder)
        assert (folder / "tokenizer.json").exists() == (folder.name == "unigram")
