"""Layers beside a model that make further outputs of its tokens' vectors: what their files must hold."""

import pytest
import torch

from skxlmr import CheckpointError
from skxlmr.checkpoints import output_layer_files, read_model, resolve_checkpoint
from tests import hub as stand_in
from tests.sentence_encoders import WIDTH, add_outputs, write

GOOD = {"weight": torch.ones(1, WIDTH), "bias": torch.zeros(1)}
BROKEN = {
    "another width": (
        {**GOOD, "weight": torch.ones(1, 8)},
        r"expected weight \(1, 32\) and bias \(1,\), found .*\(1, 8\)",
    ),
    "two outputs": ({"weight": torch.ones(2, WIDTH), "bias": torch.zeros(2)}, r"expected weight \(1, 32\)"),
    "no bias": ({"weight": GOOD["weight"]}, "expected weight"),
    "one more": ({**GOOD, "scale": torch.ones(1)}, "expected weight"),
    "a number": ({**GOOD, "bias": torch.tensor(1.0)}, "expected weight"),
    "whole numbers": ({**GOOD, "bias": torch.zeros(1, dtype=torch.int64)}, "expected floating numbers as bias"),
    "infinite": ({**GOOD, "bias": torch.tensor([torch.inf])}, "NaN or infinite, in bias"),
    "a module": (torch.nn.Linear(WIDTH, 1), "asks for 'torch.nn.modules.linear.Linear', and skxlmr executes no code"),
}


@pytest.fixture
def folder(tiny_checkpoint, tmp_path):
    return write(tmp_path / "published", tiny_checkpoint)


@pytest.mark.parametrize(("state", "said"), BROKEN.values(), ids=BROKEN)
def test_broken(folder, state, said):
    add_outputs(folder, sparse_linear=state)
    with pytest.raises(CheckpointError, match=said) as caught:
        read_model(folder).output_layer("sparse_linear")
    assert caught.value.file == str(folder / "sparse_linear.pt")


def test_a_layer_of_no_vectors(folder):
    add_outputs(folder, colbert_linear={"weight": torch.ones(0, WIDTH), "bias": torch.zeros(0)})
    with pytest.raises(CheckpointError, match=r"expected weight \(n, 32\) and bias \(n,\)"):
        read_model(folder).output_layer("colbert_linear")


def test_a_link_to_nothing_and_a_pointer(folder):
    (folder / "sparse_linear.pt").symlink_to("absent")
    (folder / "colbert_linear.pt").write_text("version https://git-lfs.github.com/spec/v1\n")
    model = read_model(folder)
    assert model.output_layers() == ["sparse_linear", "colbert_linear"]
    for name, said in (("sparse_linear", "cannot be read"), ("colbert_linear", "is a Git LFS pointer")):
        with pytest.raises(CheckpointError, match=said):
            model.output_layer(name)


def test_they_come_back_as_they_were_written(folder):
    layers = {"sparse_linear": GOOD, "colbert_linear": {"weight": torch.randn(3, WIDTH), "bias": torch.randn(3)}}
    for name, content in output_layer_files(layers).items():
        (folder / name).write_bytes(content)
    for name, tensors in layers.items():
        found = read_model(folder).output_layer(name)
        assert found.keys() == tensors.keys() and all(torch.equal(found[key], tensors[key]) for key in found)
    half = output_layer_files(layers, "float16")["sparse_linear.pt"]
    (folder / "sparse_linear.pt").write_bytes(half)
    assert read_model(folder).output_layer("sparse_linear")["bias"].dtype == torch.float16


def test_the_older_format_of_torch_too(folder):
    torch.save(GOOD, folder / "sparse_linear.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(read_model(folder).output_layer("sparse_linear")["weight"], GOOD["weight"])


def test_they_are_downloaded_with_the_model(monkeypatch, tmp_path):
    files = dict.fromkeys(
        ("config.json", "model.safetensors", "sparse_linear.pt", "colbert_linear.pt", "long.pt"), b"x"
    )
    with stand_in.running(monkeypatch, tmp_path / "cache") as hub:
        hub.repositories["BAAI/bge-m3"] = {"main": files}
        assert {path.name for path in resolve_checkpoint("BAAI/bge-m3").iterdir()} == files.keys() - {"long.pt"}
