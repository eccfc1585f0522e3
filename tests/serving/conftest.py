"""Servers that several tests ask."""

from functools import partial

import pytest

import skxlmr
from tests.contract import FAST, TEXTS
from tests.serving.servers import LABELS, Server, load_script, serve_folder


@pytest.fixture(scope="module")
def script():
    return load_script()


@pytest.fixture
def start(tmp_path):
    return partial(Server, tmp_path / "log")


@pytest.fixture(scope="module")
def classifier(tiny_checkpoint):
    return skxlmr.XLMRobertaClassifier(tiny_checkpoint, **FAST).fit(TEXTS, LABELS)


@pytest.fixture(scope="module")
def server(classifier, tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving") / "sentiment"
    skxlmr.save(classifier, folder)
    arguments = ["--model", folder, "--max-texts", 8, "--max-characters", 100, "--max-wait-ms", 50]
    with Server(folder.parent / "log", *arguments, target=serve_folder) as server:
        yield server


@pytest.fixture(scope="module")
def planted_server(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("planted") / "log", "--max-queue", 20, "--max-connections", 15) as server:
        yield server


@pytest.fixture
def planted(planted_server):
    """A server whose thread stops at the gate, with the texts that came until then; for tests of what waits."""
    planted_server.gate.unlink(missing_ok=True)
    yield planted_server
    planted_server.gate.touch()


@pytest.fixture(scope="module")
def strict(tmp_path_factory):
    with Server(tmp_path_factory.mktemp("strict") / "log", "--read-timeout", 1, "--max-connections", 15) as server:
        yield server
