"""Fixtures of the tests of sentence encoders."""

import pytest

from tests.estimators.sequence.sentence_encoders.layouts import NORMALIZE, QUERY
from tests.sentence_encoders import flags, write


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("skxlmr.checkpoints._folder.flush", lambda path: None)


@pytest.fixture(scope="module")
def theirs():
    """The reference: sentence-transformers opens a folder and encodes."""
    package = pytest.importorskip("sentence_transformers")

    def encode(folder, texts, **options):
        model = package.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
        return model.encode(texts, **options)

    return encode


@pytest.fixture(scope="module")
def arctic(tiny_checkpoint, tmp_path_factory):
    """The first token's vector, scaled to unit length, of texts of at most 20 tokens; prompts but no default."""
    layout = {"pooling": flags("cls"), "layers": NORMALIZE, "prompts": QUERY, "settings": {"max_seq_length": 20}}
    return write(tmp_path_factory.mktemp("arctic") / "published", tiny_checkpoint, **layout)
