"""Tiny checkpoints of BERT and DistilBERT."""

import pytest

from skxlmr.text import load_tokenizer
from tests.tiny import write_checkpoint
from tests.tiny_wordpiece import write_files


@pytest.fixture(scope="session")
def bodies(tmp_path_factory, tiny_tokenizer):
    """Folders of checkpoints of two layers, 32 wide, by what they are like; never write to them."""
    root = tmp_path_factory.mktemp("bodies")

    def with_wordpiece(model_type):
        files = root / f"{model_type}_files"
        files.mkdir()
        tokenizer = load_tokenizer(write_files(files, model_type=model_type, model_max_length=64))
        sizes = {"vocab_size": tokenizer.vocab_size + 3, "max_position_embeddings": 64}
        return write_checkpoint(root / model_type, tokenizer, model_type=model_type, **sizes)

    multilingual = write_checkpoint(
        root / "minilm", tiny_tokenizer, model_type="bert", max_position_embeddings=64, pad_token_id=0
    )
    return {"bert": with_wordpiece("bert"), "distilbert": with_wordpiece("distilbert"), "minilm": multilingual}
