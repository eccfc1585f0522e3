import hashlib
import os
import shutil

import pytest
import torch
from safetensors.torch import save_file

from skxlmr.checkpoints import content_hash, sha256_of
from skxlmr.utils._errors import CheckpointError


def test_sha256(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 3_000_000)
    assert sha256_of(tmp_path / "file") == hashlib.sha256(b"x" * 3_000_000).hexdigest()


def test_what_is_not_a_file(tmp_path):
    with pytest.raises(CheckpointError, match="is missing"):
        sha256_of(tmp_path / "absent")
    with pytest.raises(CheckpointError, match="it is a folder, not a file"):
        sha256_of(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="a pipe or a device"):
        sha256_of(tmp_path / "pipe")


def test_the_content_of_a_copy_is_the_same(folder, tmp_path):
    expected = content_hash(folder)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "README.md").write_text("a card")
    (copy / "skxlmr.json").write_text("{}")
    (copy / "pytorch_model.bin").write_bytes(b"the same in another format")
    (copy / "model-00001-of-00002.safetensors").write_bytes(b"a shard of something")
    assert content_hash(copy) == expected == content_hash(str(folder))


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "sentencepiece.bpe.model"])
def test_content_changes_with_what_is_read(folder, name):
    expected = content_hash(folder)
    with open(folder / name, "ab") as file:
        file.write(b" ")
    assert content_hash(folder) != expected


def test_file_names_are_part_of_the_content(folder):
    (folder / "vocab.json").write_text("{}")
    one = content_hash(folder)
    (folder / "vocab.json").rename(folder / "tokenizer.json")
    assert content_hash(folder) != one


def test_each_shard_counts(folder):
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("{}")
    hashes = set()
    for size in (1, 2):
        for i in (1, 2):
            save_file({"x": torch.ones(size)}, folder / f"model-0000{i}-of-00002.safetensors")
            hashes.add(content_hash(folder))
    assert len(hashes) == 4


def test_no_checkpoint(folder, tmp_path):
    (folder / "model.safetensors").unlink()
    for path in (folder, tmp_path / "absent"):
        with pytest.raises(CheckpointError, match="holds no weights"):
            content_hash(path)
