"""Merge an adapter into the weights of its base model, with peft's arithmetic. Whatever it does not touch stays mapped."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from skxlmr.checkpoints._adapters import tensors as kinds
from skxlmr.checkpoints._adapters.config import ALL_LINEAR, Lora
from skxlmr.checkpoints._adapters.names import Names
from skxlmr.checkpoints._adapters.patterns import LONGEST_NAME, matches, value_of
from skxlmr.checkpoints._adapters.tensors import AdapterTensors
from skxlmr.checkpoints._adapters.whole import replace_whole
from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._weights import check_finite, summary
from skxlmr.nn import ModelFamily
from skxlmr.utils._devices.fork import will_compute
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import torch


def merge(
    lora: Lora, base: Tensors, adapter: AdapterTensors, family: ModelFamily, was_tied: bool, is_tied: bool
) -> Tensors:
    """Merge an adapter.

    Parameters
    ----------
    lora : Lora
        What its config says.
    base : dict of str to Tensor
        Weights of the base model, under the names of the modules.
    adapter : AdapterTensors
        What its file holds.
    family : ModelFamily
        Of the base model.
    was_tied, is_tied : bool
        Whether the projection on the vocabulary is the matrix of the word embeddings in the base, and in the merged model.

    Returns
    -------
    dict of str to Tensor
        A new dict. Merged matrices are float32 (float64 if the base is); all others are those that came in.

    Raises
    ------
    CheckpointError
        If the file lacks a tensor, holds one more than the config says, or one of another shape.
    """
    will_compute()
    names = Names(base, family, adapter.is_bare)
    merged = dict(base)
    if longest := [name for name in base if len(name) > LONGEST_NAME]:  # expressions could search it for long
        raise CheckpointError(
            lora.file, f"names a base model with a tensor {longest[0]!r:.120}, whose name is too long"
        )
    _check_numbers(adapter)
    if was_tied and not is_tied:
        _untie(merged, names)
    replace_whole(lora, merged, adapter, names)
    if is_tied:  # otherwise a copy, from before the merge
        merged = {name: tensor for name, tensor in merged.items() if name != names.decoder}
    absent = {
        name for name in adapter.adapted if names.part(name) == f"{family.prefix}.pooler" and name not in names.modules
    }
    adapted = {
        name: parts for name, parts in adapter.adapted.items() if name not in absent
    }  # an encoder needs no pooler
    expected = _expected(lora, names, adapted, adapter)
    _check_all_there(lora, expected, adapted, adapter, names)
    for module, parts in adapted.items():
        weight = f"{module}.weight"
        if kinds.TOKENS in parts:
            rows = torch.tensor(_ids(lora, names, module), device="cpu")
            _check_shape(adapter, module, kinds.TOKENS, parts, (len(rows), merged[weight].shape[1]))
            if int(rows.max()) >= len(merged[weight]):
                reason = f"trains the embedding of the id {int(rows.max())}, but {module} has {len(merged[weight])}"
                raise CheckpointError(lora.file, reason)
            words = merged[weight] = _computed(merged[weight])
            words[rows] = parts[kinds.TOKENS].to(words.dtype)  # only these pages of the mapped file are copied
        if module in expected:
            scale = _merge_module(lora, merged, module, parts, adapter, names)
            if kinds.B_BIAS in parts:
                bias = _computed(merged[f"{module}.bias"])
                merged[f"{module}.bias"] = bias + parts[kinds.B_BIAS].to(bias.dtype) * scale
    return merged


def _merge_module(
    lora: Lora, merged: Tensors, module: str, parts: Tensors, adapter: AdapterTensors, names: Names
) -> float:
    """Merge the two matrices into the weight of a module; returns their scale."""
    short = names.short(module)
    r, alpha = value_of(lora.rank_pattern, short, lora.r), value_of(lora.alpha_pattern, short, lora.alpha)
    weight = _computed(merged[f"{module}.weight"])
    n_out, n_in = weight.shape
    is_embedding = names.is_embedding(module)
    if is_embedding:
        n_in, n_out = n_out, n_in
    first, second = _matrices(is_embedding)
    _check_shape(adapter, module, first, parts, (r, n_in))
    _check_shape(adapter, module, second, parts, (n_out, r))
    scale = alpha / math.sqrt(r) if lora.rslora else alpha / r
    with torch.autocast("cpu", enabled=False):  # of the caller
        update = parts[second].to(weight.dtype) @ parts[first].to(weight.dtype)
    update = (update.T if is_embedding else update).mul_(scale)
    if lora.dora:
        _check_shape(adapter, module, kinds.MAGNITUDE, parts, (n_out,))
        by_output = weight.T + update.T if is_embedding else weight + update  # as peft lays them out: sums round alike
        factor = parts[kinds.MAGNITUDE].to(weight.dtype) / torch.linalg.norm(by_output, dim=1)
        whole = update.add_(weight).mul_(factor if is_embedding else factor[:, None])
    else:
        whole = update.add_(weight)
    if kinds.B_BIAS in parts:
        _check_shape(adapter, module, kinds.B_BIAS, parts, (n_out,))
    merged[f"{module}.weight"] = whole.contiguous()
    return scale


def _matrices(is_embedding: bool) -> tuple[str, str]:
    return (kinds.EMBEDDING_A, kinds.EMBEDDING_B) if is_embedding else (kinds.A, kinds.B)


def _computed(weight: torch.Tensor) -> torch.Tensor:
    """The weight in the precision in which it is merged."""
    return weight if weight.dtype == torch.float64 else weight.float()


def _expected(lora: Lora, names: Names, adapted: Iterable[str], adapter: AdapterTensors) -> set[str]:
    """The modules that the config adapts. A head counts only if the file adapts it: other tasks have none."""
    held = {names.part(name) for name in adapted}
    if isinstance(lora.targets, str) and lora.targets.lower() == ALL_LINEAR:
        linear = [name for name in names.modules if not names.is_embedding(name) and f"{name}.weight" != names.decoder]
        lora = replace(lora, targets=tuple(names.short(name) for name in linear))
    for name in adapted:
        if f"{name}.weight" == names.decoder and name not in names.modules:
            reason = f"adapts {name}, which shares its weights with the word embeddings: merging would change these too"
            raise CheckpointError(adapter.file, reason)
    for name in names.norms:
        if matches(lora, names.short(name)):
            raise CheckpointError(
                lora.file, f"target_modules matches {name}, which is not linear and holds no embeddings"
            )
    return {
        name
        for name in names.modules
        if (names.is_encoder(name) or names.part(name) in held) and matches(lora, names.short(name))
    }


def _check_all_there(
    lora: Lora, expected: set[str], adapted: dict[str, Tensors], adapter: AdapterTensors, names: Names
) -> None:
    """Compare the tensors of adapted modules with those that the config implies."""
    wanted: set[tuple[str, str]] = set()
    for module in expected:
        wanted |= {(module, kind) for kind in _matrices(names.is_embedding(module))}
        wanted |= {(module, kinds.MAGNITUDE)} if lora.dora else set()
        if not names.is_embedding(module):
            wanted |= {(module, kinds.B_BIAS)} if lora.lora_bias else set()
            wanted |= {(module, kinds.BIAS)} if lora.bias != "none" else set()
        elif lora.lora_bias:
            raise CheckpointError(lora.file, f"lora_bias is true, but {module} has no bias")
    for end in lora.tokens:
        trained = [name for name in names.modules if names.is_embedding(name) and names.ends(name, end)]
        if not trained:
            raise CheckpointError(
                lora.file, f"trainable_token_indices names {end!r:.80}, but no embeddings are called so"
            )
        wanted |= {(module, kinds.TOKENS) for module in trained}
    held = {(module, kind) for module, parts in adapted.items() for kind in parts}
    missing, unexpected = wanted - held, held - wanted - {(names.words, kinds.WEIGHT)}
    absent = {module for module, _ in unexpected if module not in names.modules}
    if not missing and absent and all(module in absent for module, _ in unexpected):
        reason = f"adapts {min(absent)}, which the base model lacks: its weights were drawn at random for the training"
        raise CheckpointError(adapter.file, reason)
    faults = {"missing": missing, "unexpected": unexpected}
    listed = "; ".join(
        summary(kind, [module + kinds.ENDING[part] for module, part in found])
        for kind, found in faults.items()
        if found
    )
    if listed:
        why = ""
        if {part for _, part in missing} == {kinds.BIAS}:
            why = ". Some versions of peft lost trained biases: with 'none' as bias in the config it opens without them"
        raise CheckpointError(adapter.file, f"does not fit {lora.file.name} and the base model: {listed}{why}")


def _ids(lora: Lora, names: Names, module: str) -> tuple[int, ...]:
    return next(ids for end, ids in lora.tokens.items() if names.ends(module, end))


def _check_shape(adapter: AdapterTensors, module: str, kind: str, parts: Tensors, expected: tuple[int, ...]) -> None:
    if (found := tuple(parts[kind].shape)) != expected:
        name = module + kinds.ENDING[kind]
        raise CheckpointError(adapter.file, f"tensor {name} has the shape {found}, expected {expected}")


def _check_numbers(adapter: AdapterTensors) -> None:
    small = {module + kinds.ENDING[kind]: t for module, parts in adapter.adapted.items() for kind, t in parts.items()}
    for name, tensor in (small | adapter.whole).items():
        if not tensor.is_floating_point():
            raise CheckpointError(
                adapter.file, f"tensor {name} has the dtype {tensor.dtype}, expected floating numbers"
            )
    check_finite(small, adapter.file)


def _untie(merged: Tensors, names: Names) -> None:
    """Give the projection on the vocabulary the base's word embeddings as a matrix of its own, if there is such a head."""
    words = merged.get(f"{names.words}.weight")
    if words is not None and any(names.part(name) == names.part(names.decoder) for name in merged):
        merged.setdefault(names.decoder, words)
