"""A tiny SentencePiece model, and real ones."""

import pytest

from skxlmr.text import SentencePieceTokenizer
from tests.tiny import train


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
