"""Downloads over HTTP, from a stand-in for the hub on the loopback interface."""

import pytest
from huggingface_hub import constants

from skxlmr.checkpoints import resolve_checkpoint
from skxlmr.utils._errors import CheckpointError
from tests import hub as stand_in

FILES = {
    "config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 400,
    "pytorch_model.bin": b"the same in another format",
    "model.fp16.safetensors": b"a variant",
    "sentencepiece.bpe.model": b"pieces",
    "skxlmr.json": b"{}",
    "README.md": b"words",
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    with stand_in.running(monkeypatch, tmp_path / "cache") as hub:
        hub.repositories["org/name"] = {"main": dict(FILES), "v1": {**FILES, "config.json": b'{"old": 1}'}}
        yield hub


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def wanted(**others):
    names = ("config.json", "model.safetensors", "sentencepiece.bpe.model", "skxlmr.json")
    return {name: FILES[name] for name in names} | others


def test_one_format_is_downloaded_once(hub):
    folder = resolve_checkpoint("org/name")
    assert contents(folder) == wanted()
    n_requests = len(hub.requests)
    assert resolve_checkpoint("org/name") == folder
    assert len(hub.requests) == n_requests


@pytest.mark.parametrize(("name", "revision"), [("org/name@v1", None), ("org/name", "v1")])
def test_revision(hub, name, revision):
    assert contents(resolve_checkpoint(name, revision)) == wanted() | {"config.json": b'{"old": 1}'}
    assert contents(resolve_checkpoint("org/name")) == wanted()


def test_commit(hub):
    sha = hub.commit("org/name", "v1")
    assert contents(resolve_checkpoint(f"org/name@{sha}"))["config.json"] == b'{"old": 1}'


def test_another_format_if_there_are_no_safetensors(hub):
    files = hub.repositories["org/name"]["main"]
    del files["model.safetensors"]
    assert set(contents(resolve_checkpoint("org/name"))) == set(wanted()) - {"model.safetensors"} | {
        "pytorch_model.bin"
    }


def tree(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


SENTENCE_FILES = {
    *("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"),
    *("1_Pooling/config.json", "2_Dense/config.json", "2_Dense/model.safetensors", "2_Dense/pytorch_model.bin"),
}


def test_files_of_a_sentence_encoder(hub):
    files = hub.repositories["org/name"]["main"]
    files |= dict.fromkeys(SENTENCE_FILES | {"onnx/model.onnx", "2_Dense/model.onnx", "custom_st.py"}, b"{}")
    assert tree(resolve_checkpoint("org/name")) == {*wanted(), *SENTENCE_FILES}


@pytest.mark.parametrize("weights", ["model.safetensors", "pytorch_model.bin"])
def test_files_of_an_early_sentence_encoder(hub, weights):
    names = {"config.json", weights, "sentencepiece.bpe.model", "sentence_bert_config.json"}
    early = {"modules.json", "1_Pooling/config.json", *(f"0_Transformer/{name}" for name in names)}
    hub.repositories["org/early"] = {"main": dict.fromkeys(early, b"{}")}
    assert tree(resolve_checkpoint("org/early")) == early


def test_shards(hub):
    files = hub.repositories["org/name"]["main"]
    whole = files.pop("model.safetensors")
    shards = {f"model-0000{i}-of-00002.safetensors": whole[i:] for i in (1, 2)}
    files |= shards | {"model.safetensors.index.json": b"{}"}
    assert set(contents(resolve_checkpoint("org/name"))) >= {*shards, "model.safetensors.index.json"}


def test_a_broken_download_continues_where_it_stopped(hub):
    hub.break_after = [30_000, 20_000]
    assert contents(resolve_checkpoint("org/name")) == wanted()
    ranges = [headers.get("Range") for headers in hub.asked("GET", "model.safetensors")]
    assert ranges[0] is None and len(ranges) == 3
    starts = [int(text.removeprefix("bytes=").removesuffix("-")) for text in ranges[1:]]
    assert 0 < starts[0] <= 30_000 and starts[0] < starts[1] <= 50_000


def test_a_download_that_breaks_every_time_is_reported_and_can_be_repeated(hub):
    hub.break_after = [30_000] + [0] * 20
    with pytest.raises(CheckpointError, match=r"could be fetched neither from the Hugging Face hub nor from its cache"):
        resolve_checkpoint("org/name")
    hub.break_after, hub.requests = [], []
    assert contents(resolve_checkpoint("org/name")) == wanted()
    assert not hub.asked("GET", "sentencepiece.bpe.model")  # complete files are not fetched again


@pytest.mark.parametrize(
    ("status", "headers", "parts"),
    [
        (401, {}, ["refused access to org/name (401)", "hf auth login", "HF_TOKEN"]),
        (403, {}, ["refused access to org/name (403)", "hf auth login"]),
        (401, {"X-Error-Code": "RepoNotFound"}, ["nor a repository on the Hugging Face hub", "hf auth login"]),
        (404, {"X-Error-Code": "RepoNotFound"}, ["nor a repository on the Hugging Face hub", "skxlmr-mini"]),
        (404, {"X-Error-Code": "RevisionNotFound"}, ["the repository has no revision 'v9'"]),
        (403, {"X-Error-Code": "GatedRepo"}, ["access to org/name is gated", "accept its terms", "hf auth login"]),
        (418, {}, ["418", "hf download org/name"]),
    ],
)
def test_refusals_of_the_hub(hub, status, headers, parts):
    hub.refusal = status, headers
    with pytest.raises(CheckpointError) as caught:
        resolve_checkpoint("org/name", "v9")
    message = str(caught.value)
    assert message.startswith("org/name: ") and "\n" not in message
    for part in parts:
        assert part in message


def test_unknown_names_and_revisions(hub):
    with pytest.raises(CheckpointError, match="nor a repository on the Hugging Face hub"):
        resolve_checkpoint("org/absent")
    with pytest.raises(CheckpointError, match="no revision 'v9'"):
        resolve_checkpoint("org/name@v9")


def test_an_answer_that_is_not_from_the_hub(hub, monkeypatch):
    monkeypatch.setattr(stand_in._Handler, "_answer", _portal)
    with pytest.raises(CheckpointError, match=r"could be fetched neither.* check the network"):
        resolve_checkpoint("org/name")


def _portal(handler, *args):
    """The answer of a network that asks for a login first."""
    handler.send_response(200)
    handler.send_header("Content-Length", "6")
    handler.end_headers()
    handler.wfile.write(b"<html>")


def test_offline_and_unreachable(hub, monkeypatch):
    folder = resolve_checkpoint("org/name")
    monkeypatch.setattr("skxlmr.checkpoints._hub._downloaded", {})
    with monkeypatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        n_requests = len(hub.requests)
        assert resolve_checkpoint("org/name") == folder
        with pytest.raises(CheckpointError, match=r"is not in the cache .* HF_HUB_OFFLINE is set: unset it"):
            resolve_checkpoint("org/name@v1")
        assert len(hub.requests) == n_requests
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    monkeypatch.setattr("skxlmr.checkpoints._hub._downloaded", {})
    assert resolve_checkpoint("org/name") == folder
    with pytest.raises(CheckpointError, match=r"could be fetched neither .*check the network"):
        resolve_checkpoint("org/name@v1")
