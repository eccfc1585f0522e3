"""What an adapter folder holds of a fitted estimator, and how the estimator comes back from it."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from skxlmr.checkpoints import (
    ADAPTER_CONFIG,
    BUILTIN,
    OF_OUTPUTS,
    SAVED,
    LoadedWeights,
    NewAdapter,
    Origin,
    StoredModel,
    Tensors,
    digest_with_base,
    is_adapter,
    is_in,
    read_model,
    saved_by_peft,
)
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_json
from skxlmr.utils._imports.later import torch
from skxlmr.utils._warnings import outside_stacklevel

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule
    from skxlmr.nn.lora import LoraWeights

INSTEAD = "leave adapter=True out, and save writes the merged weights"
TOLERANCE = 1e-5  # of merged weights, by the largest one: rounding is a hundredth of it
N_NAMED = 3


def adapter_of(estimator: Estimator, weights: Tensors, with_paths: bool) -> NewAdapter:
    """What is written of an estimator whose model has these weights.

    Raises
    ------
    ValueError
        If there is no adapter, or its base is no whole model on the disk or on the hub.
    CheckpointError
        If the base is no longer what it was.
    """
    kind, module = type(estimator).__name__, estimator.module_
    lora, origin = module.lora, module.origin
    if lora is None:
        raise ValueError(
            f"adapter=True writes what LoRA learnt, and this {kind} has no adapter: fit it with lora_rank, or {INSTEAD}"
        )
    base = _base_of(estimator, origin, with_paths)
    tied = getattr(module, "tied_names", ())
    weights = {name: tensor for name, tensor in weights.items() if name not in tied}
    parts = _whole_parts(estimator, lora, weights)
    whole = {name: tensor for name, tensor in weights.items() if _in(name, parts)}
    _check_weights(estimator, {name: tensor for name, tensor in weights.items() if name not in whole}, lora, base)
    prefix = estimator.config_.base_prefix
    linear = {
        name.removesuffix(".weight") for name, tensor in weights.items() if tensor.ndim == 2 and name not in whole
    }
    pooler = f"{prefix}.pooler.dense"  # of an encoder alone, which transformers gives one
    return NewAdapter(
        base_name=origin.name,
        revision=origin.revision,
        task=estimator._head.task,
        architecture=estimator._head.module(estimator.config_).architecture(),
        rank=lora.rank,
        alpha=lora.alpha,
        dropout=lora.dropout,
        matrices=lora.tensors,
        others={*linear, *([] if _in(pooler, parts) else [pooler])} - set(lora.modules),
        whole=whole,
        parts=parts,
        prefix=prefix if estimator._head.task == "Model" else "",
    )


def check_base_stays(estimator: Estimator, place: str | os.PathLike[str], on_hub: bool = False) -> None:
    """Refuse a folder, or a repository on the hub, with the checkpoint that the adapter needs: it would be replaced."""
    origin = estimator.module_.origin
    if origin is None:
        return
    if on_hub:
        is_there, another = origin.name == place, "name another repository, or a branch of its own (revision)"
    else:
        is_there, another = is_in(origin.folder, place), "save to another folder"
    if is_there:
        raise CheckpointError(
            place, f"holds the checkpoint that the adapter needs, and would lose it: {another}, or {INSTEAD}"
        )


def _base_of(estimator: Estimator, origin: Origin | None, with_paths: bool) -> Tensors:
    """Weights of the checkpoint that the adapter belongs to."""
    kind = type(estimator).__name__
    if origin is None:
        raise ValueError(f"this {kind} does not know the checkpoint that its adapter belongs to: {INSTEAD}")
    if not origin.is_unchanged():
        raise CheckpointError(
            origin.folder, f"was changed or removed since the {kind} was fitted, and its adapter needs it: {INSTEAD}"
        )
    if is_adapter(origin.folder):
        raise CheckpointError(
            origin.folder, f"is an adapter itself, and an adapter needs a whole model as its base: {INSTEAD}"
        )
    if is_local(origin.name) and not with_paths:
        raise CheckpointError(
            origin.name,
            "is a folder on this machine, and nobody else could open the adapter: fit from a checkpoint on the hub, or leave "
            "adapter=True out to publish the merged weights",
        )
    return read_model(origin.folder).tensors()


def is_local(base_name: str) -> bool:
    """Whether the base is a folder on this machine, not the built-in checkpoint or one on the hub."""
    return base_name != BUILTIN and os.path.isdir(base_name)


def warn_of_local_base(folder: str | os.PathLike[str], base_name: str) -> None:
    """Say that the adapter needs a folder which is on this machine only."""
    warnings.warn(
        f"{Path(folder, ADAPTER_CONFIG)} names its base model by a folder on this machine, {base_name}: where it lies "
        "elsewhere, write its place there (base_model_name_or_path), or its name on the hub",
        UserWarning,
        stacklevel=outside_stacklevel(),
    )


def _whole_parts(estimator: Estimator, lora: LoraWeights, weights: Tensors) -> tuple[str, ...]:
    """Names of the modules that are written as a whole: those that were trained so, and those that peft expects.

    Layers after the pooling, which have files of their own, are not among the weights.
    """
    ends = saved_by_peft(estimator._head.task)
    of_head = (part for part in estimator.module_.head_parts if ends and part.endswith(ends))
    parts = dict.fromkeys((*lora.whole, *of_head))
    return tuple(part for part in parts if any(_in(name, (part,)) for name in weights))


def _check_weights(estimator: Estimator, weights: Tensors, lora: LoraWeights, base: Tensors) -> None:
    """Compare the weights with what the base and the adapter make."""
    modules, kind = set(lora.modules), type(estimator).__name__
    if any(len(tensor) > len(base[name]) for name, tensor in weights.items() if name in base and tensor.ndim):
        raise ValueError(
            f"the vocabulary of the {kind} has tokens that its checkpoint lacks, and an adapter would have to hold all word "
            f"embeddings: {INSTEAD}"
        )
    others = [name for name, tensor in weights.items() if not _is_made(name, tensor, base.get(name), lora, modules)]
    if others:
        named = ", ".join(others[:N_NAMED]) + (", ..." if len(others) > N_NAMED else "")
        raise ValueError(
            f"the {kind} is not its checkpoint with this adapter: {named} changed otherwise too, in an earlier fit without "
            f"lora_rank or with another one (whose adapter was merged), or by hand: {INSTEAD}"
        )


def _is_made(name: str, own: Tensor, theirs: Tensor | None, lora: LoraWeights, modules: set[str]) -> bool:
    """Whether a weight is the base's, with the adapter if it has one."""
    if theirs is None or theirs.shape != own.shape:
        return False
    own, theirs = own.detach().cpu(), theirs.to(own.dtype)
    if (module := name.removesuffix(".weight")) not in modules or name == module:
        return torch.equal(own, theirs)
    difference = own - theirs - lora.update(module, like=theirs)
    return bool(difference.abs().max() <= TOLERANCE * own.abs().max())


def _in(name: str, parts: tuple[str, ...]) -> bool:
    return name.startswith(tuple(f"{part}." for part in parts))


def has_adapter(estimator: Estimator) -> bool:
    """Whether it was fitted with LoRA."""
    return getattr(getattr(estimator, "module_", None), "lora", None) is not None


def about_adapter(estimator: Estimator, adapter: NewAdapter, config: dict[str, Any]) -> dict[str, Any]:
    """What ``skxlmr.json`` says of an adapter: its base with the content hash, and what its outputs mean."""
    lora, origin = estimator.module_.lora, estimator.module_.origin
    return {
        SAVED: {
            "base": {"base_model_name_or_path": adapter.base_name, "revision": adapter.revision},
            "base_content_hash": origin.content_hash(),
            "dropout": lora.dropout,
            "targets": list(lora.targets),
            "whole": list(lora.whole),
            "config": {key: value for key, value in config.items() if key in OF_OUTPUTS},
        }
    }


# The way back ---------------------------------------------------------------------------------------------------------------


def described_adapter(about: dict[str, Any], file: Path) -> dict[str, Any] | None:
    """What ``skxlmr.json`` says of an adapter; None of a whole model.

    Raises
    ------
    CheckpointError
        If ``save`` cannot have written it.
    """
    said = about.get(SAVED)
    if said is None:
        return None
    names = {"base": dict, "base_content_hash": str, "dropout": int | float, "targets": list, "whole": list}
    wrong = [name for name, kind in names.items() if not isinstance(said, dict) or not isinstance(said.get(name), kind)]
    if wrong or not all(isinstance(name, str) for name in (*said["targets"], *said["whole"])):
        raise CheckpointError(file, f"does not describe an adapter ({(wrong or ['targets'])[0]})")
    found: dict[str, Any] = said
    return found


def names_another_base(folder: Path, said: dict[str, Any], digest: str) -> bool:
    """Whether the adapter's config is the one that was saved, but for the place of its base, which may have moved."""
    return digest_with_base(read_json(folder / ADAPTER_CONFIG), said["base"]) == digest


def base_of_saved(folder: Path, stored: StoredModel, said: dict[str, Any], verify: bool) -> Origin:
    """The base model of a saved adapter.

    Raises
    ------
    CheckpointError
        If it is not the one that the adapter was trained on, unless that is not to be verified.
    """
    lora, base = stored.lora, stored.base
    assert lora is not None and base is not None, "it is an adapter"
    origin = Origin.of(stored.base_name, lora.revision, base.folder, None)
    if verify and origin.content_hash() != said["base_content_hash"]:
        raise CheckpointError(
            folder / ADAPTER_CONFIG,
            f"names a base model, {base.folder}, that is not the one which the adapter was trained on: its content hash is "
            f"{origin.content_hash()}, expected {said['base_content_hash']}. Write the place of that one into the file "
            "(base_model_name_or_path), or open the adapter with this base: load(..., verify=False)",
        )
    return origin


def give_adapter(module: TaskModule, stored: StoredModel, said: dict[str, Any], origin: Origin) -> None:
    """Make a module that was opened from an adapter what it was after the fit: its base with an adapter merged into it."""
    from skxlmr.nn.lora import LoraWeights

    lora, base = stored.lora, stored.base
    assert lora is not None and base is not None, "it is an adapter"
    matrices, theirs, whole = stored.matrices(), base.tensors(), tuple(said["whole"])
    names = dict.fromkeys(name.rpartition(".lora_")[0] + ".weight" for name in matrices)
    module.origin = origin
    module.lora = LoraWeights(
        rank=lora.r,
        alpha=lora.alpha,
        dropout=said["dropout"],
        targets=tuple(said["targets"]),
        tensors=matrices,
        whole=whole,
        base={name: theirs[name] for name in names},
    )
    learnt = {name for name, _ in module.named_parameters() if name in names or _in(name, whole)}
    module.loaded = LoadedWeights.of(module, without=learnt)
