"""Fixtures every test may use."""

from pathlib import Path

import pytest

from skxlmr.text import SentencePieceTokenizer
from tests.tiny import train, write_checkpoint

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data():
    """Folder of the real multilingual data and fixtures, which lies beside the repository, not in it."""
    if not SHARED.is_dir():
        pytest.skip("needs the real data in ../shared/data, which is not part of the repository")
    return SHARED


@pytest.fixture(scope="session")
def tiny_tokenizer():
    """A tokenizer of about 300 pieces in four languages, for rows of at most 64 tokens."""
    return SentencePieceTokenizer(train(vocab_size=300), model_max_length=64)


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory, tiny_tokenizer):
    """Folder of a checkpoint of two layers, 32 wide; never write to it."""
    return write_checkpoint(tmp_path_factory.mktemp("tiny") / "checkpoint", tiny_tokenizer)


@pytest.fixture(scope="session")
def still_checkpoint(tmp_path_factory, tiny_tokenizer):
    """The same without dropout, for fits that are compared number by number."""
    return write_checkpoint(
        tmp_path_factory.mktemp("still") / "checkpoint",
        tiny_tokenizer,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
