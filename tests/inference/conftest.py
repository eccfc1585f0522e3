"""A store on disk, for tests."""

import pytest

from skxlmr.inference._stores import database
from skxlmr.inference._stores.disk import DiskStore
from tests.inference.stores import MAX_BYTES


@pytest.fixture(autouse=True)
def nothing_said(monkeypatch):
    monkeypatch.setattr(database, "_said", {})


@pytest.fixture
def store(tmp_path):
    store = DiskStore(str(tmp_path / "cache"), MAX_BYTES)
    yield store
    store.close()


@pytest.fixture
def another(store):
    """The same file, as another process has it."""
    another = DiskStore(store.location, MAX_BYTES)
    yield another
    another.close()
