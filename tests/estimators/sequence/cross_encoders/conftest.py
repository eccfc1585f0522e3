"""Fixtures of the tests of cross-encoders."""

import pytest


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("skxlmr.checkpoints._folder.flush", lambda path: None)


@pytest.fixture(scope="module")
def theirs():
    """The reference: sentence-transformers opens a folder as a cross-encoder."""
    package = pytest.importorskip("sentence_transformers")

    def open_it(folder):
        return package.CrossEncoder(str(folder), device="cpu", local_files_only=True)

    return open_it
