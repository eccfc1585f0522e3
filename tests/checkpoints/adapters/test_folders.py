"""Where an adapter's base model, tokenizer, labels and pooling come from; which files are read, fetched and watched."""

import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

import skxlmr
from skxlmr import CheckpointError, XLMRobertaVectorizer, convert
from skxlmr.checkpoints import Origin, content_hash, identity, read_model, resolve_checkpoint
from skxlmr.checkpoints._adapters.base import base_folder
from skxlmr.text import load_tokenizer
from tests import adapters, sentence_encoders
from tests import hub as stand_in
from tests.adapters import PREFIX, QUERY


@pytest.fixture
def base(tmp_path, tiny_checkpoint):
    """A copy to move and to change."""
    return shutil.copytree(tiny_checkpoint, tmp_path / "base")


# The base model -----------------------------------------------------------------------------------------------------------


def test_a_relative_base_is_one_of_the_working_directory_else_of_the_folder(base, tmp_path, monkeypatch):
    folder = adapters.write(tmp_path / "a", "base")
    monkeypatch.chdir(tmp_path)
    assert os.path.samefile(base_folder(folder), base)
    inside = shutil.copytree(base, folder / "base")
    assert os.path.samefile(base_folder(folder), base)
    monkeypatch.chdir(tmp_path.parent)
    assert os.path.samefile(base_folder(folder), inside)
    adapters.change_config(folder, base_model_name_or_path="../base", revision="v1")  # a folder has no revisions
    assert os.path.samefile(base_folder(folder), base)


def test_the_built_in_checkpoint_is_a_base(tmp_path):
    stored = read_model(adapters.write(tmp_path / "a", "skxlmr-mini", adapters.matrices(n_layers=6, width=192)))
    assert stored.base.folder == resolve_checkpoint("skxlmr-mini")
    assert not torch.equal(
        stored.tensors()[f"{QUERY.format(3)}.weight"], stored.base.tensors()[f"{QUERY.format(3)}.weight"]
    )


def test_a_plain_folder_has_no_base(base):
    assert base_folder(base) is None


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_an_adapter_on_the_hub_is_a_few_files_and_its_base(ending, base, tmp_path, monkeypatch):
    folder = adapters.write(tmp_path / "a", "org/base", revision="v1")
    if ending == "bin":
        torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
        (folder / "adapter_model.safetensors").unlink()
    others = {
        "README.md": b"words",
        "optimizer.pt": b"x",
        "training_args.bin": b"x",
        "checkpoint-1/adapter_model.bin": b"x",
    }
    with stand_in.running(monkeypatch, tmp_path / "cache") as hub:
        hub.repositories["org/adapter"] = {"main": files_of(folder) | others}
        hub.repositories["org/base"] = {"main": {"config.json": b"{}"}, "v1": files_of(base)}
        stored = read_model(resolve_checkpoint("org/adapter"))
        assert {path.name for path in stored.folder.rglob("*")} == {"adapter_config.json", f"adapter_model.{ending}"}
        assert stored.base.folder.name == hub.commit("org/base", "v1")
        n_requests = len(hub.requests)
        stored.tensors()
        read_model(stored.folder)
        assert len(hub.requests) == n_requests
        adapters.change_config(folder, base_model_name_or_path="org/absent")
        with pytest.raises(
            CheckpointError, match=r"adapter_config.json: names the base model 'org/absent', which cannot be ope"
        ):
            read_model(folder)
    reference = read_model(adapters.write(tmp_path / "b", base)).tensors()
    for name, tensor in stored.tensors().items():
        assert torch.equal(tensor, reference[name])


def test_offline_the_message_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = adapters.write(tmp_path / "a", "org/base-that-is-nowhere", revision="v7")
    with pytest.raises(CheckpointError) as raised:
        read_model(folder)
    for part in (
        "'org/base-that-is-nowhere'",
        "revision v7",
        "HF_HUB_OFFLINE",
        "hf download",
        "and pass that folder): download it, and set base_model_name_or_path in",  # and not "or use another model"
    ):
        assert part in str(raised.value)


# Tokenizer, labels, pooling -----------------------------------------------------------------------------------------------


def test_the_tokenizer_is_the_adapters_if_it_has_one(base, tmp_path):
    folder = adapters.write(tmp_path / "a", base)
    assert read_model(folder).model_folder == base
    shutil.copy(base / "sentencepiece.bpe.model", folder)
    stored = read_model(folder)
    assert stored.model_folder == folder
    assert load_tokenizer(folder, stored.config.model_type).vocab_size == load_tokenizer(base).vocab_size


def test_the_limit_of_a_saved_base(tmp_path, tiny_checkpoint):
    skxlmr.save(XLMRobertaVectorizer(tiny_checkpoint, max_length=20).fit(["das Haus"]), tmp_path / "base")
    stored = read_model(adapters.write(tmp_path / "a", tmp_path / "base"))
    assert stored.tokenizer().model_max_length == stored.base.tokenizer().model_max_length == 64


def head(n_labels, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {
        "dense.weight": (32, 32),
        "dense.bias": (32,),
        "out_proj.weight": (n_labels, 32),
        "out_proj.bias": (n_labels,),
    }
    return {f"{PREFIX}classifier.{name}": torch.randn(*shape, generator=generator) for name, shape in shapes.items()}


def test_labels(base, tmp_path):
    folder = adapters.write(tmp_path / "a", base, adapters.matrices() | head(3), task_type="SEQ_CLS")
    raw = read_model(folder).raw
    assert raw["num_labels"] == 3 and "id2label" not in raw
    assert raw["architectures"] == ["XLMRobertaForSequenceClassification"]
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "id2label": {"0": "a", "1": "b", "2": "c"}}))
    assert read_model(folder).raw["id2label"] == {"0": "a", "1": "b", "2": "c"}
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {"0": "x", "1": "y", "2": "z"}}))
    assert read_model(folder).raw["id2label"] == {"0": "x", "1": "y", "2": "z"}
    (folder / "config.json").write_text(json.dumps({**config, "id2label": {"0": "x", "1": "y"}}))
    with pytest.raises(CheckpointError, match="id2label has 2 labels, but the head of the adapter has 3 outputs"):
        read_model(folder)
    (folder / "config.json").write_text(json.dumps({**config, "num_attention_heads": 4}))
    with pytest.raises(CheckpointError, match="num_attention_heads is 4, but 2 in the base model"):
        read_model(folder)


def test_heads_of_the_base_give_way(base, tmp_path):
    """The base was fine-tuned for two classes, with a head that has further tensors."""
    weights = load_file(base / "model.safetensors") | {
        name.removeprefix(PREFIX): tensor for name, tensor in head(2, seed=3).items()
    }
    save_file(weights, base / "model.safetensors")
    tagger = {f"{PREFIX}classifier.weight": torch.ones(5, 32), f"{PREFIX}classifier.bias": torch.ones(5)}
    folder = adapters.write(tmp_path / "a", base, adapters.matrices() | tagger, task_type="TOKEN_CLS")
    found = {name: tensor.shape for name, tensor in read_model(folder).tensors().items() if "classifier" in name}
    assert found == {"classifier.weight": (5, 32), "classifier.bias": (5,)}


@pytest.mark.parametrize("of_adapter", [False, True])
def test_pooling_and_prompts_are_the_adapters_else_the_bases(of_adapter, tmp_path, tiny_checkpoint):
    prompts = {"prompts": {"query": "river: "}, "default_prompt_name": "query"}
    base = tmp_path / "base"
    sentence_encoders.write(base, tiny_checkpoint, sentence_encoders.flags("cls"), [("Normalize", {})], prompts=prompts)
    folder = adapters.write(tmp_path / "a", base)
    if of_adapter:
        sentence_encoders.write(tmp_path / "other", tiny_checkpoint, sentence_encoders.flags("max"))
        for name in ("modules.json", "1_Pooling"):
            (tmp_path / "other" / name).rename(folder / name)
    encoder = read_model(folder).sentence_encoder()
    assert (encoder.pooling, encoder.normalize) == ((("max",), False) if of_adapter else (("cls",), True))
    assert bool(encoder.default_prompt) != of_adapter


def test_layers_after_the_pooling_of_an_early_sentence_encoder(tmp_path, tiny_checkpoint):
    base = tmp_path / "base"
    sentence_encoders.write(
        base, tiny_checkpoint, place="0_Transformer", layers=[("Dense", sentence_encoders.dense(n_out=8))], form="bin"
    )
    folder = adapters.write(tmp_path / "a", base)
    stored = read_model(folder)
    assert stored.model_folder == base / "0_Transformer"
    encoder = stored.sentence_encoder()
    assert {tuple(tensor.shape) for tensor in stored.sentence_tensors(encoder).values()} == {(8, 32), (8,)}
    convert(folder, tmp_path / "merged")
    again = read_model(tmp_path / "merged")
    assert again.sentence_encoder() == encoder and again.place == ""
    assert all(
        torch.equal(tensor, again.tensors()[name]) for name, tensor in stored.tensors().items() if "roberta" in name
    )


# Files --------------------------------------------------------------------------------------------------------------------


def test_a_change_of_the_base_changes_identity_hash_and_origin(base, tmp_path):
    folder = adapters.write(tmp_path / "a", base)
    origin, before, digest = Origin.of(folder, None, folder, None), identity(folder), content_hash(folder)
    assert origin.is_unchanged() and origin.content_hash() == digest
    copy = adapters.write(tmp_path / "b", shutil.copytree(base, tmp_path / "elsewhere"))
    shutil.copy(folder / "adapter_config.json", copy)  # names the same base
    assert content_hash(copy) == digest
    weights = load_file(base / "model.safetensors")
    weights[f"{QUERY.format(0)}.bias"] += 1
    save_file(weights, base / "model.safetensors")
    assert not origin.is_unchanged()
    assert identity(folder) != before and content_hash(folder) != digest


def test_a_change_of_the_adapter_too(base, tmp_path):
    folder = adapters.write(tmp_path / "a", base)
    origin, before, digest = Origin.of(folder, None, folder, None), identity(folder), content_hash(folder)
    adapters.write(folder, base, adapters.matrices(seed=1))
    assert not origin.is_unchanged()
    assert identity(folder) != before and content_hash(folder) != digest


def test_a_base_that_is_replaced_while_it_is_read(base, tmp_path):
    stored = read_model(adapters.write(tmp_path / "a", base))
    with pytest.raises(CheckpointError, match="was replaced or changed while it was being read"), stored.unchanged():
        os.utime(base / "config.json", ns=(1, 1))


def test_both_files_of_weights_are_watched(base, tmp_path):
    folder = adapters.write(tmp_path / "a", base)
    files = read_model(folder).mapped_tensors()[1]
    assert {os.path.basename(file) for file in files.stamps} == {"adapter_model.safetensors", "model.safetensors"}


def test_a_merged_copy_opens_without_the_base(base, tmp_path):
    folder = adapters.write(tmp_path / "a", base, adapters.matrices() | head(3), task_type="SEQ_CLS")
    expected = {name: tensor.clone() for name, tensor in read_model(folder).tensors().items()}
    convert(folder, tmp_path / "merged")
    shutil.rmtree(base)
    stored = read_model(tmp_path / "merged")
    assert stored.lora is None and not (tmp_path / "merged" / "adapter_config.json").exists()
    assert stored.raw["architectures"] == ["XLMRobertaForSequenceClassification"] and stored.raw["num_labels"] == 3
    found = stored.tensors()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_an_adapter_is_never_replaced(base, tmp_path):
    folder = adapters.write(tmp_path / "a", base)
    shutil.copy(base / "config.json", folder)
    with pytest.raises(CheckpointError, match="holds an adapter that save did not write, which is never replaced"):
        convert(base, folder)
