import os
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
from huggingface_hub import errors

from skxlmr.checkpoints import BUILTIN, _hub, resolve_checkpoint
from skxlmr.utils._errors import CheckpointError
from tests import processes
from tests.checkpoints import alone


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A stand-in for the hub: the ``files`` of its repository, the ``calls`` made, the ``error`` that it raises."""

    class Hub:
        files = ("config.json", "model.safetensors", "pytorch_model.bin", "tf_model.h5", "sentencepiece.bpe.model")
        error: Exception | None = None

        def __init__(self):
            self.calls = []

        def snapshot_download(self, repo_id, **options):
            self.calls.append((repo_id, options))
            if self.error is not None:
                raise self.error
            folder = tmp_path / "snapshot"
            folder.mkdir(exist_ok=True)
            for name in huggingface_hub.utils.filter_repo_objects(self.files, allow_patterns=options["allow_patterns"]):
                (folder / name).touch()
            return str(folder)

    fake = Hub()
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    monkeypatch.setattr(_hub, "_downloaded", {})
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    return fake


def refuse(kind, message, status):
    return kind(message, response=SimpleNamespace(headers={}, request=None, status_code=status))


class ProxyError(errors.HTTPError):
    """One of the transport errors of the hub's HTTP library, which are not OSErrors."""


@pytest.mark.parametrize("kind", [str, Path])
def test_local_folder(folder, kind, hub):
    assert resolve_checkpoint(kind(folder)) == folder
    assert not hub.calls


def test_relative_folder_comes_before_the_hub(folder, monkeypatch, hub):
    monkeypatch.chdir(folder.parent)
    (folder.parent / "org" / "name").mkdir(parents=True)
    assert resolve_checkpoint("org/name") == Path("org/name")
    assert resolve_checkpoint("checkpoint") == Path("checkpoint")
    assert not hub.calls


def test_home_is_expanded(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    monkeypatch.setenv("USERPROFILE", str(folder.parent))
    assert resolve_checkpoint("~/checkpoint") == folder


@pytest.mark.parametrize("name", ["./absent", "../absent", "/absent", "~/absent", "a/b/c", "a\\b", Path("org/name")])
def test_absent_folder(name, monkeypatch, tmp_path, hub):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match="no such folder"):
        resolve_checkpoint(name)
    assert not hub.calls


def test_file_instead_of_folder(folder, monkeypatch):
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is a file, expected a checkpoint folder"):
        resolve_checkpoint(folder / "model.safetensors")
    monkeypatch.chdir(folder)
    with pytest.raises(CheckpointError, match="is a file"):
        resolve_checkpoint("config.json")
    (folder / "model.joblib").touch()
    with pytest.raises(CheckpointError, match=r"model\.joblib: is a file, .*: joblib\.load opens pickles"):
        resolve_checkpoint(folder / "model.joblib")


@pytest.mark.parametrize("name", [b"folder", 3, None, ["folder"]], ids=repr)
def test_neither_a_folder_nor_a_name(name):
    with pytest.raises(TypeError, match=r"the checkpoint must be a folder \(str or path\) or a name, got "):
        resolve_checkpoint(name)


def test_empty_name():
    with pytest.raises(CheckpointError, match="empty string"):
        resolve_checkpoint("")


def test_revision_of_a_folder(folder):
    with pytest.raises(CheckpointError, match="revision='main' applies to names on the hub"):
        resolve_checkpoint(folder, "main")


def test_builtin(monkeypatch, tmp_path, hub):
    monkeypatch.setattr(_hub.resources, "files", lambda package: tmp_path)
    with pytest.raises(CheckpointError, match="not part of this installation"):
        resolve_checkpoint(BUILTIN)
    (tmp_path / BUILTIN).mkdir()
    assert resolve_checkpoint("skxlmr-mini") == tmp_path / BUILTIN
    assert not hub.calls


def test_download_takes_one_format(hub):
    folder = resolve_checkpoint("org/name")
    assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors", "sentencepiece.bpe.model"}
    assert [(repo, options["revision"]) for repo, options in hub.calls] == [("org/name", None)]


def test_download_takes_bin_if_there_is_nothing_else(hub):
    hub.files = ("config.json", "pytorch_model-1-of-2.bin", "pytorch_model-2-of-2.bin", "pytorch_model.bin.index.json")
    assert {path.name for path in resolve_checkpoint("org/name").iterdir()} == set(hub.files)


@pytest.mark.parametrize("weights", ["tf_model.h5", "flax_model.msgpack", "flax_model-00001-of-00001.msgpack"])
def test_download_takes_what_there_is(weights, hub):
    hub.files = ("config.json", weights, "rust_model.ot", "sentencepiece.bpe.model")
    assert {path.name for path in resolve_checkpoint("org/name").iterdir()} == {*hub.files} - {"rust_model.ot"}


@pytest.mark.parametrize(("name", "revision"), [("org/name@v1", None), ("org/name", "v1"), ("org/name@v1", "v1")])
def test_revision(name, revision, hub):
    resolve_checkpoint(name, revision)
    assert [(repo, options["revision"]) for repo, options in hub.calls] == [("org/name", "v1")]


@pytest.mark.parametrize("revision", ["refs/pr/3", "feature/of/mine"])
def test_a_revision_with_slashes(revision, hub):
    resolve_checkpoint(f"org/name@{revision}")
    assert [(repo, options["revision"]) for repo, options in hub.calls] == [("org/name", revision)]


def test_two_revisions(hub):
    with pytest.raises(CheckpointError, match="asks for revision 'v1', but revision='v2'"):
        resolve_checkpoint("org/name@v1", "v2")


def test_the_hub_is_asked_once_per_revision(hub):
    resolve_checkpoint("org/name")
    folder = resolve_checkpoint("org/name")
    assert len(hub.calls) == 1
    resolve_checkpoint("org/name", "v1")
    assert len(hub.calls) == 2
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    assert resolve_checkpoint("org/name").is_dir()
    assert len(hub.calls) == 3


@pytest.mark.parametrize(
    ("error", "parts"),
    [
        (refuse(errors.GatedRepoError, "no", 403), ["gated", "https://huggingface.co/org/name", "hf auth login"]),
        (refuse(errors.RepositoryNotFoundError, "no", 404), ["neither an existing folder nor a repo", "skxlmr-mini"]),
        (refuse(errors.RevisionNotFoundError, "no", 404), ["no revision 'v9'"]),
        (refuse(errors.HfHubHTTPError, "Server down", 503), ["Server down", "hf download org/name", "skxlmr-mini"]),
        (errors.LocalEntryNotFoundError("not cached"), ["not cached", "check the network", "skxlmr-mini"]),
        (ProxyError("proxy refused"), ["ProxyError: proxy refused", "hf download org/name"]),
        (OSError(28, "No space left on device"), ["No space left on device"]),
    ],
)
def test_errors_of_the_hub(error, parts, hub):
    hub.error = error
    with pytest.raises(CheckpointError) as caught:
        resolve_checkpoint("org/name", "v9")
    message = str(caught.value)
    assert message.startswith("org/name: ")
    for part in parts:
        assert part in message
    assert "\n" not in message


def test_a_failure_is_not_remembered(hub):
    hub.error = OSError("down")
    with pytest.raises(CheckpointError):
        resolve_checkpoint("org/name")
    hub.error = None
    assert resolve_checkpoint("org/name").is_dir()


@pytest.mark.parametrize("name", ["bad name", "org/na me", "org/name--", "@v1"])
def test_invalid_name(name, monkeypatch):
    with pytest.raises(CheckpointError, match="neither an existing folder nor a name on the Hugging Face hub"):
        resolve_checkpoint(name)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        *(("skxlmr_mini", "skxlmr-mini"), ("SKXLMR-Mini", "skxlmr-mini"), ("xlmr-base", "FacebookAI/xlm-roberta-base")),
        ("xlm-roberta-bse", "FacebookAI/xlm-roberta-base"),
        ("FacebookAI/xlm-roberta-bas", "FacebookAI/xlm-roberta-base"),
        ("facebook/xlm-roberta-large@v1", "FacebookAI/xlm-roberta-large"),
        ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("LaBSE", "sentence-transformers/LaBSE"),
    ],
)
def test_names_that_are_nearly_right(name, meant, hub, monkeypatch):
    not_found = refuse(errors.RepositoryNotFoundError, "no", 404)
    for hub.error in (not_found, OSError("down"), errors.HFValidationError("no")):
        with pytest.raises(CheckpointError, match=rf"\(did you mean '{meant}'\?\)"):
            resolve_checkpoint(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.error = errors.LocalEntryNotFoundError("not cached")
    with pytest.raises(CheckpointError, match=rf"no such folder \(did you mean '{meant}'\?\)"):
        resolve_checkpoint(name)


@pytest.mark.parametrize(
    "name", ["org/name", "bert-base", "distilroberta-base", "FacebookAI/xlm-roberta-base", "x" * 9**5]
)
def test_names_of_others(name):
    assert _hub.did_you_mean(name) == ""


def test_a_path_instead_of_a_name():
    with pytest.raises(CheckpointError, match=r"^skxlmr-mini: no such folder \(only a str can name the built-in"):
        resolve_checkpoint(Path("skxlmr-mini"))


def test_offline_may_be_set_after_the_import(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    resolve_checkpoint("org/name")
    assert hub.calls[0][1]["local_files_only"] is True


def run_offline(cache, function, *arguments):
    """Run in a process with the real huggingface_hub, offline."""
    return processes.run(function, *arguments, HF_HUB_OFFLINE="1", HF_HOME=str(cache), HF_HUB_CACHE=None)


def test_offline_with_an_empty_and_a_filled_cache(tmp_path):
    repository = tmp_path / "hub" / "models--org--name"
    snapshot = repository / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").touch()
    (repository / "refs").mkdir()
    for revision in ("main", "v1"):
        (repository / "refs" / revision).write_text("a" * 40)
    done = run_offline(tmp_path, alone.resolve, ["org/absent", "org/name", "org/name@v1"])
    message, *folders = done.stdout.splitlines()
    assert folders == [str(snapshot)] * 2, done.stderr
    assert message.startswith("org/absent: no such folder, org/absent (revision main) is not in the cache")
    for part in (str(tmp_path), "HF_HUB_OFFLINE is set: unset it", "hf download org/absent", "'skxlmr-mini'"):
        assert part in message


def test_hub_is_imported_for_hub_names_only(folder):
    done = run_offline(folder, alone.resolve_a_folder, folder)
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "a long text instead of a name " * 200, Path("a\0b")])
def test_what_cannot_be_a_name(name):
    with pytest.raises(
        CheckpointError, match=r"cannot be opened as a folder or name a repository \(.+\)|is not UTF-8"
    ) as caught:
        resolve_checkpoint(name)
    assert len(str(caught.value)) < 400 and str(caught.value).encode()


def test_folders_that_may_not_be_entered(tmp_path, monkeypatch):
    (tmp_path / "secret").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    stat = os.stat

    def guarded(path, *args, **kwargs):
        if str(path).startswith(str(tmp_path / "secret") + os.sep):  # as for users other than root
            raise PermissionError(13, "Permission denied")
        return stat(path, *args, **kwargs)

    monkeypatch.setattr(os, "stat", guarded)
    for name, said in (
        ("secret", "Permission denied"),
        ("secret/inside", "Permission denied"),
        ("loop", "symbolic links"),
    ):
        with pytest.raises(CheckpointError, match=rf"cannot be opened as a folder .*{said}") as caught:
            resolve_checkpoint(tmp_path / name)
        assert len(str(tmp_path)) > 150 or caught.value.file == str(tmp_path / name)
