"""The tensors of an adapter's file, by the module that each belongs to."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.read import read_weights
from skxlmr.checkpoints._formats.safetensors import read_safetensors
from skxlmr.checkpoints._formats.torch_bin import read_torch_bin
from skxlmr.checkpoints._layout import ADAPTER_WEIGHTS
from skxlmr.checkpoints._tensor_names import normal_name
from skxlmr.nn import ModelFamily
from skxlmr.utils._errors import CheckpointError

PREFIX, ADAPTER = "base_model.model.", ".default"  # before all names, and the name of the adapter inside some
A, B, B_BIAS, MAGNITUDE, TOKENS, WEIGHT, BIAS = "A", "B", "bias of B", "magnitude", "tokens", "weight", "bias"
EMBEDDING_A, EMBEDDING_B = "A of embeddings", "B of embeddings"
KINDS = {
    ".lora_A.weight": A,
    ".lora_B.weight": B,
    ".lora_B.bias": B_BIAS,
    ".lora_embedding_A": EMBEDDING_A,
    ".lora_embedding_B": EMBEDDING_B,
    ".lora_magnitude_vector": MAGNITUDE,
    ".lora_magnitude_vector.weight": MAGNITUDE,
    ".token_adapter.trainable_tokens_delta": TOKENS,
    ".token_adapter.base_layer.weight": WEIGHT,
    ".base_layer.weight": WEIGHT,
    ".base_layer.bias": BIAS,
}
ENDING = {kind: ending for ending, kind in reversed(KINDS.items())}


@dataclass(frozen=True)
class AdapterTensors:
    """What an adapter's file holds.

    Attributes
    ----------
    file : Path
        The file.
    adapted : dict of str to dict of str to Tensor
        By the name of an adapted module, and then by kind.
    whole : dict of str to Tensor
        Tensors that take the place of the base model's, by their names.
    is_bare : bool
        Whether an encoder without a head was adapted: its modules then have shorter names.
    """

    file: Path
    adapted: dict[str, Tensors] = field(default_factory=dict)
    whole: Tensors = field(default_factory=dict)
    is_bare: bool = False


def read_adapter(folder: Path, family: ModelFamily) -> AdapterTensors:
    """Map the tensors of an adapter folder, under the names of the modules.

    Raises
    ------
    CheckpointError
        If there are none, or they are broken, or one is there twice.
    """
    found = [name for name in ADAPTER_WEIGHTS if os.path.isfile(folder / name)]
    if not found:
        raise CheckpointError(
            folder, f"holds an adapter's config, but no weights: expected {' or '.join(ADAPTER_WEIGHTS)}"
        )
    file = folder / found[0]
    tensors = read_weights(file, read_safetensors if file.suffix == ".safetensors" else read_torch_bin)
    names = {name: name.removeprefix(PREFIX) for name in tensors}
    is_bare = any(name.partition(".")[0] in family.encoder.part_names for name in names.values())
    read = AdapterTensors(file, is_bare=is_bare)
    wrapped: Tensors = {}
    for name, short in names.items():
        module, kind = _kind(short)
        if kind:
            parts = read.adapted.setdefault(_module(module, family), {})
            if kind in parts:
                raise CheckpointError(file, f"holds tensor {name:.200} twice")
            parts[kind] = tensors[name]
        elif (
            ".original_module." not in short
        ):  # otherwise it was not trained: peft leaves it in the file, and never reads it
            before, wrapper, after = short.partition(".modules_to_save.")
            plain = normal_name(before + "." + after.removeprefix(ADAPTER[1:] + ".") if wrapper else short, family)
            if plain is not None and plain in (wrapped if wrapper else read.whole):
                raise CheckpointError(file, f"holds tensor {name:.200} twice")
            if plain is not None:
                (wrapped if wrapper else read.whole)[plain] = tensors[name]
    for name, tensor in wrapped.items():  # under both names if all biases were trained: peft reads the plain one
        read.whole.setdefault(name, tensor)
    return read


def _kind(name: str) -> tuple[str, str | None]:
    """The module and the kind of a tensor of an adapted module; no kind for any other."""
    name = name.removesuffix(ADAPTER).replace(ADAPTER + ".weight", ".weight").replace(ADAPTER + ".bias", ".bias")
    for ending, kind in KINDS.items():
        if name.endswith(ending):
            return name.removesuffix(ending), kind
    return name, None


def _module(name: str, family: ModelFamily) -> str:
    """A module's name in a model with a head."""
    return (normal_name(f"{name}.weight", family) or name).removesuffix(".weight")
