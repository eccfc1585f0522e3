"""A tiny SentencePiece model, real ones, and one tokenizer of each kind."""

import json

import pytest
from tokenizers import ByteLevelBPETokenizer

from skxlmr.text import FastTokenizer, SentencePieceTokenizer, XLMTokenizer, load_tokenizer
from tests.tiny import sentences, train, xlm_tokenizer
from tests.tiny_wordpiece import write_files


@pytest.fixture(scope="session")
def tiny_proto():
    return train()


@pytest.fixture(scope="session")
def tiny(tiny_proto):
    return SentencePieceTokenizer(tiny_proto)


@pytest.fixture(scope="session")
def xlmr(shared_data):
    return SentencePieceTokenizer.from_file(shared_data / "tokenizer" / "xlmr.spm.model")


@pytest.fixture(scope="session")
def toy(shared_data):
    return SentencePieceTokenizer.from_file(shared_data / "tokenizer" / "toy1000.spm.model")


@pytest.fixture(
    scope="session",
    params=[SentencePieceTokenizer, FastTokenizer, XLMTokenizer, "WordPiece"],
    ids=lambda kind: getattr(kind, "__name__", kind),
)
def tokenizer(request, tmp_path_factory):
    """A tiny tokenizer of each kind."""
    if request.param is SentencePieceTokenizer:
        return request.getfixturevalue("tiny")
    if request.param is XLMTokenizer:
        pytest.importorskip("sacremoses", reason="the original XLM needs the extra xlm")
        return xlm_tokenizer()
    if request.param == "WordPiece":
        return load_tokenizer(write_files(tmp_path_factory.mktemp("wordpiece")))
    folder = tmp_path_factory.mktemp("byte_level")
    bpe = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    bpe.train_from_iterator(sentences(), vocab_size=400, special_tokens=special, show_progress=False)
    bpe.save_model(str(folder))
    (folder / "config.json").write_text(json.dumps({"model_type": "roberta"}))
    made = load_tokenizer(folder)
    assert type(made) is FastTokenizer
    return made
