import errno
import json
import stat
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, XLMRobertaConfig, XLMRobertaForMaskedLM

from skxlmr import XLMRobertaClassifier, XLMRobertaVectorizer, convert, export_onnx, save, trim_vocabulary
from skxlmr.checkpoints import _atomic_replace, _folder, normalize_names, read_config, read_tensors, write_folder
from skxlmr.utils._errors import CheckpointError
from tests.checkpoints.conftest import assert_same

CONFIG = {"model_type": "xlm-roberta", "id2label": {"0": "Müll", "1": "紙"}}


class Tokenizer:
    def save(self, folder):
        (folder / "sentencepiece.bpe.model").write_bytes(b"pieces")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_round_trip(tmp_path, tensors):
    folder = tmp_path / "a" / "b"
    extra = {"skxlmr.json": "{}", "card.md": "é", "raw.bin": b"\xff"}
    write_folder(folder, config=CONFIG, tensors=tensors, tokenizer=Tokenizer(), extra_files=extra)
    assert read_config(folder) == {**CONFIG, "torch_dtype": "float32"}
    assert "紙" in (folder / "config.json").read_text(encoding="utf-8")
    assert_same(read_tensors(folder), tensors)
    assert names_in(folder) == sorted(["config.json", "model.safetensors", "sentencepiece.bpe.model", *extra])
    assert (folder / "card.md").read_text(encoding="utf-8") == "é"
    assert (folder / "raw.bin").read_bytes() == b"\xff"
    assert names_in(folder.parent) == ["b"]


def test_permissions_are_those_of_new_files(tmp_path, tensors):
    (tmp_path / "plain").touch()
    write_folder(tmp_path / "x", config=CONFIG, tensors=tensors)
    expected = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "x").iterdir()} == {expected}


@pytest.mark.parametrize("old", [{}, {"dtype": "float16"}, {"torch_dtype": "float16"}])
def test_config_names_the_written_dtype(tmp_path, tensors, old):
    write_folder(tmp_path / "x", config={**CONFIG, **old}, tensors=tensors, dtype=torch.bfloat16)
    assert read_config(tmp_path / "x") == {**CONFIG, "torch_dtype": "bfloat16"}
    assert {tensor.dtype for tensor in read_tensors(tmp_path / "x").values()} == {torch.bfloat16}


def test_replaces_the_folder_that_its_tensors_are_mapped_from(folder, tensors):
    (folder / "pytorch_model.bin").touch()
    (folder / "tokenizer.json").touch()
    mapped = read_tensors(folder)
    mapped["classifier.bias"].add_(1)
    write_folder(folder, config=CONFIG, tensors=mapped)
    expected = {**tensors, "classifier.bias": tensors["classifier.bias"] + 1}
    assert_same(read_tensors(folder), expected)
    assert_same(mapped, expected)
    assert names_in(folder) == ["config.json", "model.safetensors"]
    assert names_in(folder.parent) == ["checkpoint"]


def test_an_empty_folder_is_used(tmp_path, tensors):
    (tmp_path / "x").mkdir()
    write_folder(tmp_path / "x", config=CONFIG, tensors=tensors)
    assert_same(read_tensors(tmp_path / "x"), tensors)


def test_a_link_to_a_folder_stays_a_link(folder, tmp_path, tensors):
    (tmp_path / "link").symlink_to(folder)
    write_folder(tmp_path / "link", config=CONFIG, tensors=tensors)
    assert (tmp_path / "link").is_symlink()
    assert read_config(folder) == {**CONFIG, "torch_dtype": "float32"}


def test_home_is_expanded(monkeypatch, tmp_path, tensors):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    write_folder("~/x", config=CONFIG, tensors=tensors)
    assert (tmp_path / "x" / "model.safetensors").is_file()


def test_target_is_a_file(tmp_path, tensors):
    (tmp_path / "x").write_text("mine")
    with pytest.raises(CheckpointError, match="is a file, expected a folder"):
        write_folder(tmp_path / "x", config=CONFIG, tensors=tensors)
    assert (tmp_path / "x").read_text() == "mine"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["notes.txt"], r"not a checkpoint folder \(no config\.json\)"),
        (["model.safetensors"], r"not a checkpoint folder \(no config\.json\)"),
        (["config.json", "model.safetensors", "thesis.tex"], r"would delete \(thesis\.tex\)"),
        (["config.json", "src/main.py"], r"would delete \(src\)"),
        (["config.json", "a.py", "b.py", "c.py", "d.py"], r"would delete \(a\.py, b\.py, c\.py, \.\.\.\)"),
    ],
)
def test_foreign_data_is_never_deleted(files, message, tmp_path, tensors):
    for name in files:
        (tmp_path / "x" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "x" / name).write_text("mine")
    with pytest.raises(CheckpointError, match=message):
        write_folder(tmp_path / "x", config=CONFIG, tensors=tensors)
    assert all((tmp_path / "x" / name).read_text() == "mine" for name in files)
    assert names_in(tmp_path) == ["x"]


def test_the_working_directory_is_not_replaced(folder, tensors, monkeypatch):
    monkeypatch.chdir(folder)
    for target in (".", folder, Path("..", folder.name)):
        with pytest.raises(
            CheckpointError, match="is the working directory and cannot be replaced: save to a folder in it"
        ):
            write_folder(target, config=CONFIG, tensors=tensors)
    write_folder("inside", config=CONFIG, tensors=tensors)
    assert Path.cwd() == folder and (folder / "inside" / "config.json").is_file()


def test_mount_points_are_not_replaced(folder, tensors, monkeypatch):
    monkeypatch.setattr("os.path.ismount", lambda path: path == folder)
    with pytest.raises(CheckpointError, match="is the mount point of a file system and cannot be replaced: save to"):
        write_folder(folder, config=CONFIG, tensors=tensors)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "config.json", "model.safetensors"])
def test_names_of_extra_files(name, tmp_path, tensors):
    with pytest.raises(CheckpointError, match="cannot be the name of an extra file"):
        write_folder(tmp_path / "x", config=CONFIG, tensors=tensors, extra_files={name: "x"})
    assert names_in(tmp_path) == []


def test_extra_files_of_the_last_write_may_be_replaced(tmp_path, tensors):
    for text in ("first", "second"):
        write_folder(tmp_path / "x", config=CONFIG, tensors=tensors, extra_files={"README.md": text})
    assert (tmp_path / "x" / "README.md").read_text() == "second"


class Killed(BaseException):
    """In place of a signal."""


def kill(*args, **kwargs):
    raise Killed


class KilledTokenizer:
    save = kill


@pytest.mark.parametrize("stage", ["weights", "tokenizer", "flush", "first rename", "second rename"])
def test_an_interrupted_write_leaves_the_old_checkpoint(stage, folder, tensors, monkeypatch):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    rename = Path.rename
    with monkeypatch.context() as patch:
        if stage == "weights":
            patch.setattr(_folder, "write_weights", kill)
        elif stage == "flush":
            patch.setattr(_folder.os, "fsync", kill)
        elif stage == "first rename":
            patch.setattr(Path, "rename", lambda path, to: kill() if path == folder else rename(path, to))
        elif stage == "second rename":
            patch.setattr(Path, "rename", lambda path, to: kill() if ".skxlmr-new" in path.name else rename(path, to))
        tokenizer = KilledTokenizer() if stage == "tokenizer" else None
        with pytest.raises(Killed):
            write_folder(folder, config={"new": 1}, tensors=tensors, tokenizer=tokenizer)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert names_in(folder.parent) == ["checkpoint"]


def test_a_failed_write_leaves_the_old_checkpoint(folder, tensors):
    before = (folder / "config.json").read_bytes()
    with pytest.raises(TypeError):
        write_folder(folder, config={"x": object()}, tensors=tensors)
    with pytest.raises(CheckpointError, match="has no data to write"):
        write_folder(folder, config=CONFIG, tensors={"x": torch.ones(2, device="meta")})
    assert (folder / "config.json").read_bytes() == before
    assert names_in(folder.parent) == ["checkpoint"]


def test_leftovers_of_a_killed_write_are_removed(folder, tensors):
    parent = folder.parent
    (parent / ".checkpoint.skxlmr-new-1").mkdir()
    (parent / ".checkpoint.skxlmr-new-1" / "model.safetensors").touch()
    (parent / ".checkpoint.skxlmr-old-1").mkdir()
    (parent / ".checkpoint2.skxlmr-new-1").mkdir()  # of another folder
    write_folder(folder, config=CONFIG, tensors=tensors)
    assert names_in(parent) == [".checkpoint2.skxlmr-new-1", "checkpoint"]
    assert_same(read_tensors(folder), tensors)


@pytest.mark.skipif(sys.platform == "win32", reason="needs locks on folders, which Windows does not have")
def test_a_folder_that_another_process_is_writing_is_kept(folder, tensors):
    with _atomic_replace.fresh_folder(folder) as other:
        (other / "model.safetensors").write_bytes(b"half of it")
        write_folder(folder, config=CONFIG, tensors=tensors)
        assert (other / "model.safetensors").read_bytes() == b"half of it"
    assert names_in(folder.parent) == ["checkpoint"]


def test_another_process_writes_at_the_same_time(folder, tensors, monkeypatch):
    """It puts its folder in place each time that we have moved the old one away."""
    rename, n_times = Path.rename, iter(range(3))

    def contended(path, to):
        moved = rename(path, to)
        if path == folder and next(n_times, None) is not None:
            path.mkdir()
            (path / "config.json").write_text("{}")
        return moved

    monkeypatch.setattr(Path, "rename", contended)
    write_folder(folder, config={"mine": 1}, tensors=tensors)
    assert next(n_times, None) is None and read_config(folder)["mine"] == 1
    assert names_in(folder.parent) == ["checkpoint"]


def test_other_processes_replace_it_every_time(folder, tensors, monkeypatch):
    def contended(path, to):
        if path != folder:
            raise OSError(errno.ENOTEMPTY, "Directory not empty")

    monkeypatch.setattr(Path, "rename", contended)
    with pytest.raises(CheckpointError, match="is being replaced by other processes again and again"):
        write_folder(folder, config={"mine": 1}, tensors=tensors)
    assert names_in(folder.parent) == ["checkpoint"]


def test_killed_between_the_two_renames(folder, tensors):
    aside = folder.with_name(".checkpoint.skxlmr-old-1")
    folder.rename(aside)
    with pytest.raises(TypeError):
        write_folder(folder, config={"x": object()}, tensors=tensors)
    assert_same(read_tensors(folder), tensors)
    assert names_in(folder.parent) == ["checkpoint"]


@pytest.mark.parametrize("folder", [3, ["a text"], b"bytes"])
def test_what_is_no_path(folder):
    """The texts in the place of the folder, say."""
    vectorizer = XLMRobertaVectorizer("skxlmr-mini").fit(["a text"])
    for write in (
        lambda: save(vectorizer, folder),
        lambda: export_onnx(vectorizer, folder),
        lambda: trim_vocabulary("skxlmr-mini", ["a text"], folder),
        lambda: convert("skxlmr-mini", folder),
    ):
        with pytest.raises(TypeError, match=r"(folder|target) must be the path of a folder to write, got .* of type"):
            write()


@pytest.mark.parametrize("name", ["a\0b", "\ud800"], ids=["NUL", "half a pair"])
@pytest.mark.parametrize("parameter", ["folder", "target", "out", "memory", "resume_dir"])
def test_what_no_path_may_have(name, parameter):
    """The path is named, where Python would say "embedded null byte"."""
    vectorizer = XLMRobertaVectorizer("skxlmr-mini", memory=name if parameter == "memory" else None)
    write = {
        "folder": lambda: save(vectorizer.fit(["a"]), name),
        "target": lambda: convert("skxlmr-mini", name),
        "out": lambda: vectorizer.fit(["a"]).transform(["a"], out=f"{name}.npy"),
        "memory": lambda: vectorizer.fit_transform(["a"]),
        "resume_dir": lambda: XLMRobertaClassifier("skxlmr-mini", resume_dir=name).fit(["a", "b"], [0, 1]),
    }
    with pytest.raises(ValueError, match=f"{parameter} has a character that no path may have: '"):
        write[parameter]()


@pytest.mark.parametrize("tied", [True, False])
def test_transformers_load_what_was_written(tied, tmp_path):
    config = XLMRobertaConfig(
        vocab_size=11,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=12,
        tie_word_embeddings=tied,
    )
    torch.manual_seed(0)
    model = XLMRobertaForMaskedLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    tensors = normalize_names(model.state_dict(), tied=tied)
    assert ("lm_head.decoder.weight" in tensors) is not tied
    assert "lm_head.decoder.bias" not in tensors
    write_folder(tmp_path / "x", config=json.loads(config.to_json_string(use_diff=False)), tensors=tensors)
    loaded, report = XLMRobertaForMaskedLM.from_pretrained(tmp_path / "x", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    ids = torch.tensor([[0, 5, 6, 2]])
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids).logits, model(ids).logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_transformers_load_the_written_dtype(shared_data, tmp_path, dtype):
    source = shared_data / "checkpoints" / "base"
    tensors = normalize_names(read_tensors(source))
    write_folder(tmp_path / "x", config={**read_config(source), "dtype": "float16"}, tensors=tensors, dtype=dtype)
    model, report = AutoModel.from_pretrained(tmp_path / "x", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert model.dtype == dtype
    expected = AutoModel.from_pretrained(source, dtype=dtype).state_dict()
    assert_same(model.state_dict(), expected)
