"""Adapters in the place of linear layers while a module trains, merged into their weights afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skxlmr.training._state.fit import copies, to_the_end
from skxlmr.utils._imports.later import nn

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule
    from skxlmr.nn.lora import LoraLinear, LoraWeights


@dataclass(frozen=True)
class LoraSettings:
    """Which adapters a fit trains; the values are those of :class:`skxlmr.nn.lora.LoraWeights`."""

    rank: int
    alpha: float
    dropout: float
    targets: tuple[str, ...]


@contextmanager
def training_adapters(module: TaskModule, settings: LoraSettings | None, keeps_failed: bool = False) -> Iterator[bool]:
    """Inside the block nothing learns but adapters, the head and what the checkpoint lacked; at its end they are merged.

    The module's ``lora`` is then what was learnt. A module that has the same adapters already trains them further, from the
    weights below them: those that it was opened with, or, if these are unknown as after a pickle, the present ones without
    what the adapters added, which is the same but for rounding.

    Parameters
    ----------
    module : TaskModule
        Frozen layers have no adapters.
    settings : LoraSettings or None
        None trains the weights themselves: the module's ``lora`` no longer says what they are, and becomes None.
    keeps_failed : bool
        Whether what was learnt before an error is kept. Otherwise all weights are the same ones as before.

    Yields
    ------
    bool
        Whether earlier adapters train further.

    Raises
    ------
    ValueError
        If a target matches no layer, or only frozen ones.
    """
    if settings is None:
        before, module.lora = module.lora, None
        try:
            yield False
        except BaseException:
            if not keeps_failed:
                module.lora = before
            raise
        return
    from skxlmr.nn.kernels.packed import forget
    from skxlmr.nn.lora import LoraLinear, LoraWeights, target_layers

    whole = _trained_in_full(module)
    asked_for = target_layers(module, settings.targets)
    plain = {name: part for name, part in asked_for.items() if part.weight.requires_grad and not _is_in(name, whole)}
    if not plain:
        raise ValueError("every layer that lora_targets names is frozen: lower n_frozen_layers, or name others")
    learnt = module.lora if _is_same(module.lora, settings, plain.keys()) else None
    layers = {name: LoraLinear(layer, settings.rank, settings.alpha, settings.dropout) for name, layer in plain.items()}
    base = {f"{name}.weight": layer.weight.detach() for name, layer in plain.items()}
    if learnt is not None:
        for name, layer in layers.items():
            base[f"{name}.weight"] = layer.continue_from(learnt, name)

    def put_in() -> None:
        module.requires_grad_(False)
        for name in whole:
            module.get_submodule(name).requires_grad_(True)
        forget(module.backbone)
        for name, layer in layers.items():
            module.set_submodule(name, layer)

    def put_back() -> None:
        for name, layer in plain.items():
            module.set_submodule(name, layer.to(layers[name].weight.device))

    def merge() -> None:
        weights = {name: layer.merged() for name, layer in layers.items()}
        tensors = _tensors(layers)
        put_back()
        for name, layer in plain.items():
            layer.weight = nn.Parameter(weights[name])
        module.lora = LoraWeights(**vars(settings), tensors=tensors, whole=whole, base=base)

    try:
        put_in()
        yield learnt is not None
    except BaseException:
        to_the_end(merge if keeps_failed else put_back)
        raise
    to_the_end(merge)


def merge_copy(copied: TaskModule, settings: LoraSettings) -> None:
    """Merge the adapters of a copy of a module in training; base weights are shared."""
    from skxlmr.nn.lora import LoraWeights, lora_layers, plain_layer

    layers = lora_layers(copied)
    whole, base = _trained_in_full(copied), {f"{name}.weight": layer.weight.detach() for name, layer in layers.items()}
    for name, layer in layers.items():
        copied.set_submodule(name, plain_layer(layer))
    copied.lora = LoraWeights(**vars(settings), tensors=_tensors(layers), whole=whole, base=base)


def _tensors(layers: Mapping[str, LoraLinear]) -> dict[str, Tensor]:
    """The adapters, by their names, copied once."""
    adapters = {
        f"{name}.{each}.weight": getattr(layer, each).weight
        for name, layer in layers.items()
        for each in ("lora_A", "lora_B")
    }
    return dict(zip(adapters, copies(adapters.values()), strict=True))


def _trained_in_full(module: TaskModule) -> tuple[str, ...]:
    """Names of the modules that train beside the adapters: the head, and what the checkpoint lacked.

    The language modelling head of a checkpoint is a part of what was pretrained, and stays as it is.
    """
    from skxlmr.nn import LanguageModel

    inside = f"{module.backbone_name}."
    earlier = () if module.lora is None else module.lora.whole
    whole = [name for name in (*module.new_parts, *earlier) if name.startswith(inside)]
    if isinstance(module, LanguageModel):
        heads = [name for name in (*module.new_parts, *earlier) if not name.startswith(inside)]
    else:
        heads = [name for name, part in module.named_children() if name != module.backbone_name and _learns(part)]
    return tuple(dict.fromkeys([*whole, *heads]))


def _learns(part: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in part.parameters())


def _is_in(name: str, parts: Iterable[str]) -> bool:
    return any(name.startswith(f"{part}.") for part in parts)


def _is_same(learnt: LoraWeights | None, settings: LoraSettings, names: Iterable[str]) -> bool:
    """Whether these are adapters of the same layers, of the same form."""
    return learnt is not None and (learnt.rank, learnt.alpha, set(learnt.modules)) == (
        settings.rank,
        settings.alpha,
        set(names),
    )
