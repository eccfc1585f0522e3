"""Tensors of an adapter's file that take the place of the base model's: whole modules, biases, and resized embeddings."""

from skxlmr.checkpoints._adapters import tensors as kinds
from skxlmr.checkpoints._adapters.config import Lora
from skxlmr.checkpoints._adapters.names import Names
from skxlmr.checkpoints._adapters.tensors import AdapterTensors
from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._tensor_names import normalize_names
from skxlmr.checkpoints._weights import summary
from skxlmr.utils._errors import CheckpointError


def is_saved(lora: Lora, names: Names, tensor: str) -> bool:
    """Whether a tensor belongs to a module that was trained as a whole."""
    short = names.short(tensor)
    dots = [i for i, character in enumerate(short) if character == "."]
    return any(path.endswith(end) for path in (short[:dot] for dot in dots) for end in lora.saved)


def replace_whole(lora: Lora, merged: Tensors, adapter: AdapterTensors, names: Names) -> None:
    """Put the tensors of whole modules, trained biases and resized embeddings in the place of the base model's.

    Raises
    ------
    CheckpointError
        If one is missing, unexpected or has another shape.
    """
    given = normalize_names(adapter.whole, names.family, tied=False, source=str(adapter.file))
    if kinds.WEIGHT in (parts := adapter.adapted.get(names.words, {})):  # resized, and adapted too
        given[f"{names.words}.weight"] = parts[kinds.WEIGHT]
    for module, parts in adapter.adapted.items():
        if kinds.BIAS in parts and lora.bias != "none":
            given[f"{module}.bias"] = parts[kinds.BIAS]
    saved = {name for name in merged if is_saved(lora, names, name)}
    replaced = {names.part(name) for name in given}
    missing = [name for name in saved if names.is_encoder(name) and name not in given]
    missing += [name for name in saved if names.part(name) not in replaced and not names.is_encoder(name)]
    if lora.bias == "all":
        missing += [
            n for n in merged if n.endswith(".bias") and names.is_encoder(n) and n not in given and n not in saved
        ]
    unexpected, misshaped = [], []
    for name, tensor in given.items():
        known = is_saved(lora, names, name) or name in names.of_vocabulary
        known |= lora.bias == "all" and name.endswith(".bias")
        known |= lora.bias == "lora_only" and name.removesuffix(".bias") in adapter.adapted
        old = merged.get(name)
        if not known or (old is None and names.is_encoder(name)):
            unexpected.append(name)
        elif old is not None and old.shape != tensor.shape:
            same_width = old.shape[1:] == tensor.shape[1:] and old.ndim == tensor.ndim
            if not (name in names.of_vocabulary and same_width) and (names.is_encoder(name) or name not in saved):
                misshaped.append(f"{name} expected {tuple(old.shape)}, found {tuple(tensor.shape)}")
    faults = {"missing": missing, "unexpected": unexpected, "of another shape": misshaped}
    listed = "; ".join(summary(kind, found) for kind, found in faults.items() if found)
    if listed:
        raise CheckpointError(adapter.file, f"does not fit {lora.file.name} and the base model: {listed}")
    for name in saved:  # the head of another task may have had further tensors
        if not names.is_encoder(name) and name not in given:
            del merged[name]
    merged.update(given)
