import json

import pytest
import torch

from skxlmr import convert
from skxlmr.checkpoints import StoredModel, assign_weights, on_meta, read_config, read_model, write_folder
from skxlmr.checkpoints._formats.mapped_file import MappedFile
from skxlmr.nn import ModelConfig, XLMConfig
from skxlmr.utils._errors import CheckpointError
from tests.checkpoints.conftest import assert_same
from tests.checkpoints.models import MODELS, UNTIED, XLMRobertaForMaskedLM, make_model

FORMATS = ["safetensors", "bin", "h5", "msgpack"]


@pytest.fixture
def stored(tmp_path):
    """A checkpoint folder that can be read as a model."""
    config, tensors = make_model("XLMRobertaForMaskedLM")
    write_folder(tmp_path / "stored", config=config, tensors=tensors)
    return tmp_path / "stored"


@pytest.mark.parametrize("kind", [str, lambda folder: folder])
@pytest.mark.parametrize(("architecture", "family"), [("XLMRobertaForMaskedLM", ModelConfig), ("XLMModel", XLMConfig)])
def test_config_and_tensors(architecture, family, kind, tmp_path):
    config, tensors = make_model(architecture)
    write_folder(tmp_path / "x", config=config, tensors=tensors)
    model = read_model(kind(tmp_path / "x"))
    assert model == StoredModel(tmp_path / "x", read_config(tmp_path / "x"), family.from_dict(config))
    assert_same(model.tensors(), tensors)


def test_names_become_those_of_the_modules(tmp_path):
    config, tensors = make_model("XLMRobertaModel")
    bare = {name.removeprefix("roberta."): tensor for name, tensor in tensors.items()}
    write_folder(tmp_path / "x", config=config, tensors=bare)
    assert_same(read_model(tmp_path / "x").tensors(), tensors)


@pytest.mark.parametrize("tied", [True, False])
def test_the_config_says_whether_the_head_is_tied(tied, tmp_path):
    config, tensors = make_model("XLMRobertaForMaskedLM", lambda: XLMRobertaForMaskedLM(UNTIED))
    tensors["lm_head.decoder.weight"] = tensors["roberta.embeddings.word_embeddings.weight"].clone()
    write_folder(tmp_path / "x", config=config | {"tie_word_embeddings": tied}, tensors=tensors)
    assert ("lm_head.decoder.weight" in read_model(tmp_path / "x").tensors()) is not tied


def test_weights_are_opened_when_asked_for(stored):
    (stored / "model.safetensors").unlink()
    model = read_model(stored)
    with pytest.raises(CheckpointError, match="holds no weights"):
        model.tensors()


def test_errors_of_names_are_about_the_folder(stored):
    tensors = {f"{prefix}encoder.layer.0.output.dense.bias": torch.ones(2) for prefix in ("", "roberta.")}
    write_folder(stored, config=read_config(stored), tensors=tensors)
    with pytest.raises(CheckpointError, match=r"holds tensor .* twice") as caught:
        read_model(stored).tensors()
    assert caught.value.file == str(stored)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": None}, "model_type must be one of"),
        ({"model_type": "gpt2"}, "gpt2"),
        ({"hidden_size": -1}, "hidden_size"),
        ({"model_type": "xlm", "asm": True}, "asm"),
    ],
)
def test_a_model_that_the_library_does_not_know(stored, config, message):
    (stored / "config.json").write_text(json.dumps(read_config(stored) | config))
    with pytest.raises(CheckpointError, match=message) as caught:
        read_model(stored)
    assert caught.value.file == str(stored / "config.json")


def test_a_missing_config(tmp_path):
    with pytest.raises(CheckpointError, match=r"config\.json: no such folder"):
        read_model(tmp_path / "absent")


# Another default device -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("dtype", [None, torch.float64])
def test_weights_under_another_default_device(form, dtype, tmp_path):
    config, tensors = make_model("XLMRobertaForMaskedLM")
    write_folder(tmp_path / "x", config=config, tensors=tensors, format=form, max_shard_size="4KB")
    with torch.device("meta"):
        model = read_model(tmp_path / "x")
        with on_meta():
            module = XLMRobertaForMaskedLM(model.config)
        assert assign_weights(module, model.tensors(), source=tmp_path, dtype=dtype) == []
    found = {name: tensor.detach() for name, tensor in module.state_dict().items()}
    assert_same(found, {name: tensor.to(dtype or torch.float32) for name, tensor in tensors.items()})


@pytest.mark.parametrize("start", [0, 1])  # aligned and not
@pytest.mark.parametrize("shape", [(2,), (0, 3)])
def test_mapped_tensors_under_another_default_device(start, shape, tmp_path):
    (tmp_path / "file").write_bytes(bytes(range(16)))
    with torch.device("meta"):
        assert MappedFile(tmp_path / "file").tensor(start, shape, torch.int32).device.type == "cpu"


def test_the_older_format_of_pytorch_under_another_default_device(stored):
    tensors = make_model("XLMRobertaForMaskedLM")[1]
    (stored / "model.safetensors").unlink()
    torch.save(tensors, stored / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    with torch.device("meta"):
        found = read_model(stored).tensors()
    assert_same(found, tensors)


@pytest.mark.parametrize("form", FORMATS)
def test_conversion_under_another_default_device(form, tmp_path):
    config, tensors = make_model("XLMRobertaForMaskedLM")
    write_folder(tmp_path / "source", config=config, tensors=tensors)
    with torch.device("meta"):
        convert(tmp_path / "source", tmp_path / form, form, dtype="float16")
    assert_same(read_model(tmp_path / form).tensors(), {name: t.to(torch.float16) for name, t in tensors.items()})


@pytest.mark.parametrize("architecture", MODELS)
def test_weights_of_every_head(architecture, tmp_path):
    config, tensors = make_model(architecture)
    write_folder(tmp_path / "x", config=config, tensors=tensors)
    model = read_model(tmp_path / "x")
    with on_meta():
        module = MODELS[architecture]()
    assert assign_weights(module, model.tensors(), source=tmp_path) == []
    assert_same({name: tensor.detach() for name, tensor in module.state_dict().items()}, tensors)
