"""Stand-ins of published checkpoints: their files, keys and values apart from the sizes, with random weights."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file

from tests.published.vocabularies import N_TOKENS, sentencepiece
from tests.sentence_encoders import weights_of

WIDTH = 32
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DUPLICATES = ("lm_head.decoder.weight", "lm_head.decoder.bias")  # which safetensors leave out


@dataclass(kw_only=True)
class StandIn:
    """One published folder.

    Attributes
    ----------
    config : dict
        Its ``config.json`` without the sizes.
    files : dict
        Its other JSON files.
    tokenizer : function of a folder
        Writes the vocabulary.
    weights : str
        Name of the file of the weights.
    dtype : torch.dtype
        Of the weights.
    vocab_size : int
        Rows of the embeddings.
    sizes : dict
        What takes the place of the published sizes.
    layers : dict of str to dict
        Configs of the layers after the pooling, by folder.
    layer_weights : str
        Name of the file of their weights.
    beside : dict of str to int
        Linear layers in files of their own, and how many features they make.
    more : function of the tensors
        Adds the tensors that the model of today does not have.
    """

    config: dict[str, Any]
    files: dict[str, Any] = field(default_factory=dict)
    tokenizer: Callable[[Path], None] = sentencepiece
    weights: str = "model.safetensors"
    dtype: torch.dtype = torch.float32
    vocab_size: int = N_TOKENS
    sizes: dict[str, Any] = field(default_factory=lambda: dict(SIZES))
    layers: dict[str, dict[str, Any]] = field(default_factory=dict)
    layer_weights: str = "pytorch_model.bin"
    beside: dict[str, int] = field(default_factory=dict)
    more: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]] = dict

    def write(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        config = self.config | self.sizes | {"vocab_size": self.vocab_size}
        files = {"config.json": config, **self.files}
        for place, content in self.layers.items():
            files[f"{place}/config.json"] = content
            if tensors := weights_of(place.partition("_")[2], content):
                (folder / place).mkdir()
                store(folder / place / self.layer_weights, tensors)
        self.tokenizer(folder)
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_text(json.dumps(content, indent=2, ensure_ascii=False), encoding="utf-8")
        for name, n_out in self.beside.items():
            store(folder / name, linear(n_out))
        store(folder / self.weights, {name: t.to(self.dtype) for name, t in self.tensors(config).items()})
        return folder

    def tensors(self, config: dict[str, Any]) -> dict[str, torch.Tensor]:
        """Random weights under the names of the class that the config names, none at its neutral value."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            (architecture,) = config["architectures"]
            of = transformers.CONFIG_MAPPING[config["model_type"]]
            module = getattr(transformers, architecture)(of(**config))
            for parameter in module.parameters():
                torch.nn.init.normal_(parameter, 0.0, 0.15)
            tensors = dict(module.state_dict())
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
        for name in tensors:
            if name.endswith(("LayerNorm.weight", "layer_norm.weight")):
                tensors[name] += 1
        if self.weights.endswith(".safetensors"):
            tensors = {name: tensor for name, tensor in tensors.items() if name not in DUPLICATES}
        return self.more(tensors)


def store(file: Path, tensors: dict[str, torch.Tensor]) -> None:
    if file.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, {"format": "pt"})
    else:
        torch.save(tensors, file)


def linear(n_out: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(n_out)
    return {"weight": torch.randn(n_out, WIDTH, generator=generator), "bias": torch.randn(n_out, generator=generator)}


def with_position_ids(prefix: str) -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """The buffer that versions before 4.31 of transformers saved."""

    def more(tensors):
        n_positions = len(tensors[f"{prefix}embeddings.position_embeddings.weight"])
        return {f"{prefix}embeddings.position_ids": torch.arange(n_positions)[None], **tensors}

    return more


def with_pooler(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Position ids and a pooler beside a language modelling head."""
    generator = torch.Generator().manual_seed(1)
    shapes = {"dense.weight": (WIDTH, WIDTH), "dense.bias": (WIDTH,)}
    pooler = {f"roberta.pooler.{name}": torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return with_position_ids("roberta.")(tensors) | pooler
