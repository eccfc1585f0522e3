"""What an adapter folder says that can't be merged is an error that names it."""

import json
import shutil

import pytest
import torch
from safetensors.torch import save_file

from skxlmr import CheckpointError
from skxlmr.checkpoints import read_model
from tests import adapters
from tests.adapters import PREFIX, QUERY

Q0 = PREFIX + QUERY.format(0)
DECODER, WORDS = f"{PREFIX}lm_head.decoder", f"{PREFIX}roberta.embeddings.word_embeddings"
EMBEDDING = {f"{WORDS}.lora_embedding_A": torch.ones(2, 300), f"{WORDS}.lora_embedding_B": torch.ones(32, 2)}


def without(*names, **changed):
    """The usual tensors without some, and with others."""
    return {name: tensor for name, tensor in (adapters.matrices() | changed).items() if name not in names}


MERGE = r"Merge it with peft .*, save the result, and open that"
# What the config says, and the error that names it
CONFIGS = {
    "IA3": ({"peft_type": "IA3"}, f"adapter of the type 'IA3', and only LORA is merged here. {MERGE}"),
    "LoHa": ({"peft_type": "LOHA"}, "adapter of the type 'LOHA'"),
    "LoKr": ({"peft_type": "LOKR"}, "adapter of the type 'LOKR'"),
    "AdaLoRA": ({"peft_type": "ADALORA"}, "adapter of the type 'ADALORA'"),
    "OFT": ({"peft_type": "OFT"}, "adapter of the type 'OFT'"),
    "VeRA": ({"peft_type": "VERA"}, "adapter of the type 'VERA'"),
    "prefixes": ({"peft_type": "PREFIX_TUNING"}, "type PREFIX_TUNING, which has no weights to merge: use it with peft"),
    "prompts": ({"peft_type": "PROMPT_TUNING"}, "type PROMPT_TUNING, which has no weights to merge"),
    "no type": ({"peft_type": None}, "names no peft_type"),
    "type of another kind": ({"peft_type": ["LORA"]}, "names no peft_type"),
    "PiSSA": ({"init_lora_weights": "pissa_niter_4"}, "'pissa_niter_4', which changed the weights of the base"),
    "OLoRA": ({"init_lora_weights": "olora"}, "path_initial_model_for_weight_conversion"),
    "LoftQ": ({"init_lora_weights": "loftq"}, "which changed the weights of the base before the training"),
    "CorDA": ({"init_lora_weights": "corda"}, "which changed the weights of the base before the training"),
    "LoRA-GA": ({"init_lora_weights": "lora_ga"}, "which changed the weights of the base before the training"),
    "unknown start": ({"init_lora_weights": "other"}, "init_lora_weights is 'other', which is not known here"),
    "number as start": ({"init_lora_weights": 1}, "init_lora_weights is 1, which is not known here"),
    "QALoRA": ({"use_qalora": True}, f"'use_qalora' is True, which is not supported here. {MERGE}"),
    "aLoRA": ({"alora_invocation_tokens": [1]}, "'alora_invocation_tokens' is"),
    "BD-LoRA": ({"use_bdlora": {"nblocks": 2}}, "'use_bdlora' is"),
    "KaSA": ({"kasa_config": {"beta": 1}}, "'kasa_config' is"),
    "VeLoRA": ({"velora_config": {"scale": 1}}, "'velora_config' is"),
    "MonteCLoRA": ({"monteclora_config": {"x": 1}}, "'monteclora_config' is"),
    "Arrow": ({"arrow_config": {"top_k": 1}}, "'arrow_config' is"),
    "Megatron": ({"megatron_config": {"x": 1}}, "'megatron_config' is"),
    "parameters": ({"target_parameters": ["x"]}, "'target_parameters' is"),
    "replicated layers": ({"layer_replication": [[0, 1]]}, "'layer_replication' is"),
    "tying": ({"ensure_weight_tying": True}, "'ensure_weight_tying' is True"),
    "unknown key": ({"use_more": 1}, "'use_more' is 1, which is not supported here"),
    "no targets": ({"target_modules": None}, "names no target_modules"),
    "targets of another kind": ({"target_modules": 3}, "expected a list of names as target_modules, found 3"),
    "a target that is no name": ({"target_modules": ["query)"]}, "expected names of modules, .* as target_modules"),
    "no expression": ({"target_modules": "(query"}, r"'\(query' is not a regular expression"),
    "a group that is repeated": (
        {"target_modules": "(a+)+query"},
        "repeats a group, which could take forever: list the names",
    ),
    "a group that is counted": ({"exclude_modules": "(a|a){9}"}, "repeats a group"),
    "many repeats": (
        {"target_modules": ".*.*.*.*.*query"},
        "could take too long: list the names of the modules instead",
    ),
    "many choices": ({"target_modules": "a?" * 30}, "could take too long"),
    "many ways": ({"target_modules": "(a|a)" * 20}, "could take too long"),
    "many patterns": ({"rank_pattern": {f".*{i}.*": 2 for i in range(100)}}, "could take too long"),
    "a long expression": ({"target_modules": "a" * 10_001}, "is too long"),
    "a look-ahead": ({"target_modules": "(?=query).*"}, "has a construct that is not read here"),
    "a reference back": ({"target_modules": r"(a)\1"}, "has a construct that is not read here"),
    "layers beside an expression": (
        {"target_modules": ".*query", "layers_to_transform": [1]},
        "beside a text as target_mod",
    ),
    "a pattern of layers alone": ({"layers_pattern": ["layer"]}, "has layers_pattern without layers_to_transform"),
    "layers of another kind": ({"layers_to_transform": ["1"]}, "expected numbers of layers as layers_to_transform"),
    "rank 0": ({"r": 0}, "expected a whole number from 1 to 65536 as r, found 0"),
    "rank true": ({"r": True}, "as r, found True"),
    "no rank in a pattern": ({"rank_pattern": {"query": 1.5}}, "as rank_pattern"),
    "alpha of another kind": ({"lora_alpha": "8"}, "expected a number as lora_alpha, found '8'"),
    "alpha that is none": ({"alpha_pattern": {"query": float("nan")}}, "expected a number as alpha_pattern"),
    "flag of another kind": ({"use_rslora": 1}, "expected true or false as use_rslora, found 1"),
    "unknown biases": ({"bias": "some"}, "expected one of none, all, lora_only as bias"),
    "DoRA and bias of B": ({"use_dora": True, "lora_bias": True}, "has both use_dora and lora_bias"),
    "modules of another kind": ({"modules_to_save": [["x"]]}, "as modules_to_save"),
    "tokens of another kind": ({"trainable_token_indices": [1.5]}, "expected ids of tokens as trainable_token_indices"),
    "a token twice": ({"trainable_token_indices": [1, 1]}, "expected distinct ids of tokens"),
    "tokens of nothing": (
        {"trainable_token_indices": {"embed": [1]}},
        "names 'embed', but no embeddings are called so",
    ),
    "another rank": ({"r": 3}, r"lora_A.weight has the shape \(2, 32\), expected \(3, 32\)"),
    "another target": ({"target_modules": ["value"]}, r"2 tensors missing|4 tensors missing .*value.lora_A.weight"),
    "one layer less": (
        {"layers_to_transform": [0]},
        "does not fit adapter_config.json .* 2 tensors unexpected .*layer.1",
    ),
    "no layer": ({"layers_to_transform": [7]}, "4 tensors unexpected"),
    "norms": (
        {"target_modules": ["query", "LayerNorm"]},
        "matches .*LayerNorm, which is not linear and holds no embeddings",
    ),
    "magnitudes missing": ({"use_dora": True}, "2 tensors missing .*lora_magnitude_vector"),
    "bias of B missing": ({"lora_bias": True}, "2 tensors missing .*lora_B.bias"),
    "biases lost": (
        {"bias": "lora_only"},
        "base_layer.bias.* Some versions of peft lost trained biases: with 'none' as bias",
    ),
    "all biases missing": ({"bias": "all"}, "tensors missing .*bias"),
    "whole module missing": ({"modules_to_save": ["pooler"]}, "2 tensors missing .*pooler.dense"),
    "whole module of the encoder missing": ({"modules_to_save": ["LayerNorm"]}, "tensors missing .*LayerNorm"),
    "tokens missing": ({"trainable_token_indices": [1]}, "1 tensor missing .*trainable_tokens_delta"),
    "no base": (
        {"base_model_name_or_path": None},
        "names no base model: set base_model_name_or_path in adapter_config.json",
    ),
    "base of another kind": ({"base_model_name_or_path": 3}, "names no base model"),
    "base nowhere": (
        {"base_model_name_or_path": "/nowhere/base"},
        "'/nowhere/base', which cannot be opened .* download it, and",
    ),
    "an adapter as base": ({"base_model_name_or_path": "."}, "which is an adapter itself"),
}
# What the file holds
TENSORS = {
    "A missing": (without(f"{Q0}.lora_A.weight"), {}, "1 tensor missing .*layer.0.attention.self.query.lora_A.weight"),
    "B of another shape": (
        without(**{f"{Q0}.lora_B.weight": torch.ones(31, 2)}),
        {},
        r"has the shape \(31, 2\), expected \(32, 2\)",
    ),
    "one dimension": (
        without(**{f"{Q0}.lora_B.weight": torch.ones(64)}),
        {},
        r"has the shape \(64,\), expected \(32, 2\)",
    ),
    "whole numbers": (without(**{f"{Q0}.lora_B.weight": torch.ones(32, 2).int()}), {}, "has the dtype torch.int32"),
    "not finite": (
        without(**{f"{Q0}.lora_B.weight": torch.full((32, 2), torch.inf)}),
        {},
        "NaN or infinite, in .*lora_B",
    ),
    "another tensor": (without(**{f"{PREFIX}roberta.x": torch.ones(2)}), {}, "1 tensor unexpected .*roberta.x"),
    "a weight of the base": (
        without(**{f"{PREFIX}{QUERY.format(0)}.weight": torch.ones(32, 32)}),
        {},
        "1 tensor unexpected .*query.weight",
    ),
    "a head that is not named": (
        without(**{f"{PREFIX}classifier.weight": torch.ones(3, 32)}),
        {},
        "1 tensor unexpected",
    ),
    "an old name of a bias": (
        without(**{f"{PREFIX}{QUERY.format(i)}.bias": torch.ones(32) for i in range(2)}),
        {"bias": "lora_only"},
        "base_layer.bias",
    ),
    "another module": (
        without(**adapters.matrices(module=QUERY.replace("query", "other"))),
        {"target_modules": ["query", "other"]},
        "adapts .*self.other, which the base model lacks: its weights were drawn at random",
    ),
    "the tied projection": (
        {f"{DECODER}.lora_A.weight": torch.ones(2, 32), f"{DECODER}.lora_B.weight": torch.ones(300, 2)},
        {"target_modules": ["decoder"]},
        "adapts lm_head.decoder, which shares its weights with the word embeddings",
    ),
    "a name twice": (without(**{f"{Q0}.lora_A.default.weight": torch.ones(2, 32)}), {}, "twice"),
    "magnitudes without DoRA": (without(**{f"{Q0}.lora_magnitude_vector": torch.ones(32)}), {}, "1 tensor unexpected"),
    "tokens without a word of them": (
        without(**{f"{WORDS}.token_adapter.trainable_tokens_delta": torch.ones(1, 32)}),
        {},
        "1 tensor unexpected .*trainable_tokens_delta",
    ),
    "a token of a larger vocabulary": (
        without(**{f"{WORDS}.token_adapter.trainable_tokens_delta": torch.ones(1, 32)}),
        {"trainable_token_indices": [5000]},
        "trains the embedding of the id 5000, but roberta.embeddings.word_embeddings has",
    ),
    "bias of B of embeddings": (EMBEDDING, {"target_modules": ["word_embeddings"], "lora_bias": True}, "has no bias"),
    "a shard of another width": (
        without(**{f"{WORDS}.weight": torch.ones(320, 16)}),
        {},
        r"of another shape \(roberta.embeddings.word_embeddings.weight expected \(302, 32\), found \(320, 16\)",
    ),
    "nothing": ({}, {}, "4 tensors missing"),
}


@pytest.mark.parametrize("case", CONFIGS)
def test_config(case, tmp_path, tiny_checkpoint):
    changes, message = CONFIGS[case]
    folder = adapters.write(tmp_path / "a", tiny_checkpoint)
    adapters.change_config(folder, **changes)
    if case == "an adapter as base":
        adapters.change_config(folder, base_model_name_or_path=str(folder))
    with pytest.raises(CheckpointError, match=message):
        read_model(folder).tensors()


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(case, tmp_path, tiny_checkpoint):
    tensors, changes, message = TENSORS[case]
    folder = adapters.write(tmp_path / "a", tiny_checkpoint, tensors, **changes)
    with pytest.raises(CheckpointError, match=message):
        read_model(folder).tensors()


def test_files(tmp_path, tiny_checkpoint):
    folder = adapters.write(tmp_path / "a", tiny_checkpoint)
    shutil.copy(tiny_checkpoint / "model.safetensors", folder)
    with pytest.raises(
        CheckpointError, match=r"does not say whether the adapter is merged .*: remove adapter_config.json to"
    ):
        read_model(folder)
    (folder / "model.safetensors").unlink()
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"but no weights: expected adapter_model.safetensors or adapter_model.bin"
    ):
        read_model(folder)
    (folder / "adapter_model.safetensors").write_bytes(
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"
    )
    with pytest.raises(CheckpointError, match="is a Git LFS pointer"):
        read_model(folder)
    (folder / "adapter_config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="expected a JSON object"):
        read_model(folder)


def test_a_base_with_endless_names(tmp_path, tiny_checkpoint):
    base = shutil.copytree(tiny_checkpoint, tmp_path / "base")
    weights = {name: tensor.clone() for name, tensor in read_model(base).tensors().items()}
    save_file(weights | {"roberta." + "a" * 100: torch.ones(1)}, base / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"adapter_config.json: names a base model with a tensor .*is too long"):
        read_model(adapters.write(tmp_path / "a", base)).tensors()


def test_names_that_files_use(tmp_path, tiny_checkpoint):
    """Without a prefix, with the adapter's name, and with what peft leaves in the file and never reads."""
    plain = adapters.matrices()
    expected = read_model(adapters.write(tmp_path / "a", tiny_checkpoint)).tensors()
    renamed = {
        "no prefix": {name.removeprefix(PREFIX): tensor for name, tensor in plain.items()},
        "adapter": {name.replace(".weight", ".default.weight"): tensor for name, tensor in plain.items()},
        "bare": {name.replace("roberta.", ""): tensor for name, tensor in plain.items()},
    }
    for case, tensors in renamed.items():
        found = read_model(adapters.write(tmp_path / case, tiny_checkpoint, tensors)).tensors()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items()), case


def test_wrapped_names_of_whole_modules(tmp_path, tiny_checkpoint):
    wrapped = {
        f"{PREFIX}pooler.{kind}dense.{part}": torch.full((32, 32)[: 2 - (part == "bias")], value)
        for part in ("weight", "bias")
        for kind, value in (("modules_to_save.default.", 2.0), ("original_module.", 3.0))
    }
    bare = {name.replace("roberta.", ""): tensor for name, tensor in adapters.matrices().items()}
    folder = adapters.write(tmp_path / "a", tiny_checkpoint, bare | wrapped, modules_to_save=["pooler"])
    found = read_model(folder).tensors()
    assert found["roberta.pooler.dense.weight"].unique().tolist() == [2.0]


def test_a_pooler_that_the_base_lacks_is_left_out(tmp_path, tiny_checkpoint):
    base = shutil.copytree(tiny_checkpoint, tmp_path / "base")
    weights = read_model(base).tensors()
    save_file({name: t.clone() for name, t in weights.items() if "pooler" not in name}, base / "model.safetensors")
    bare = {name.replace("roberta.", ""): tensor for name, tensor in adapters.matrices().items()}
    pooler = {
        f"{PREFIX}pooler.dense.lora_A.weight": torch.ones(2, 32),
        f"{PREFIX}pooler.dense.lora_B.weight": torch.ones(32, 2),
    }
    targets = {"target_modules": ["query", "pooler.dense"]}
    found = read_model(adapters.write(tmp_path / "a", base, bare | pooler, **targets)).tensors()
    assert not any("pooler" in name for name in found)
    assert (
        json.loads((tmp_path / "a" / "adapter_config.json").read_text())["target_modules"] == targets["target_modules"]
    )
