"""Small state dicts and folders for the checkpoint tests."""

import json

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "roberta.embeddings.word_embeddings.weight": (7, 4),
        "roberta.encoder.layer.0.output.dense.weight": (4, 6),
        "classifier.bias": (3,),
    }
    return {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}


@pytest.fixture
def folder(tmp_path, tensors):
    """A checkpoint folder with a config and one safetensors file."""
    path = tmp_path / "checkpoint"
    path.mkdir()
    (path / "config.json").write_text(json.dumps({"model_type": "xlm-roberta"}))
    save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    return path


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor), name
