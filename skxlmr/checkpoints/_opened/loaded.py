"""Which weights of a module still are what was read from its checkpoint.

Outputs that are kept for later belong to weights. A checkpoint's are known by its files; here is what tells whether a module
still has them: each tensor lies where it lay when the module was opened, and was not changed in place since. What else the
layers compute with, such as the epsilon of a layer norm, is a part of what tells modules apart; those that run something of
the caller's, such as a hook, or that draw at random, are not known at all.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from skxlmr.checkpoints._origin import Origin
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn.kernels.packed import Mark

OURS = ("skxlmr.", "torch.nn.modules.")  # whose modules compute what their type and attributes say
PLAIN = (int, float, str, tuple)
# Attributes that change no output in eval mode, or that are looked at otherwise.
BESIDE = {
    "config",
    "origin",
    "mapped_files",
    "loaded",
    "new_parts",
    "lora",
    "gradient_checkpointing",
    "n_frozen_blocks",
}


class LoadedWeights:
    """The weights of a module as they were when it was opened; the attribute ``loaded`` of the module.

    Copies of the module share it: what they share with the module is known, what they copied is not.

    Parameters
    ----------
    origin : Origin or None
        The checkpoint; None for weights that a pickle held.
    tensors : dict of str to Tensor
        What was read from it, under the module's names.
    """

    def __init__(self, origin: Origin | None, tensors: dict[str, Tensor]):
        self.origin = origin
        self._token = uuid4().hex
        self._digest: str | None = None
        from skxlmr.nn.kernels.packed import mark_of

        # the tensors are kept, so that no other can take their place in memory
        self._tensors = {name: tensor.detach() for name, tensor in tensors.items()}
        self._names = {mark: name for name, tensor in tensors.items() if (mark := mark_of(tensor)) is not None}
        self._known: dict[tuple[Any, ...], str | None] = {}

    @classmethod
    def of(cls, module: nn.Module, without: Iterable[str] = ()) -> Self:
        """The weights of a module that was just opened, ``without`` those that did not come from its checkpoint."""
        without = set(without)
        origin: Any = module.origin
        return cls(origin, {name: tensor for name, tensor in module.named_parameters() if name not in without})

    def names_of(self, *parts: nn.Module) -> str | None:
        """What tells the modules, and the weights of the checkpoint that they have; None if any is not as it was read."""
        found = _facts_and_marks(parts)
        if found is None:
            return None
        facts, marks = found
        if found not in self._known:
            names = [None if mark is None else self._names.get(mark) for mark in marks]
            if len(self._known) > 16:
                self._known.clear()
            self._known[found] = None if None in names else hashlib.sha256(repr((names, facts)).encode()).hexdigest()
        return self._known[found]

    def as_read(self, module: nn.Module) -> set[str]:
        """Names of the module's parameters that are where they were, and as they were read."""
        from skxlmr.nn.kernels.packed import mark_of

        marks = {name: mark_of(tensor) for name, tensor in module.named_parameters()}
        return {name for name, mark in marks.items() if mark is not None and self._names.get(mark) == name}

    def of_copy(self, module: nn.Module, copied: nn.Module) -> Self:
        """Those of a copy of the module."""
        changed = {name for name, _ in module.named_parameters()} - self.as_read(module)
        return self.of(copied, without=changed)

    def source(self, content_hash: Callable[[Origin], str] | None) -> str | None:
        """Where they are from; see :func:`weights_identity`."""
        if content_hash is None:
            return self._token if self.origin is None else f"{self.origin.folder} {self.origin.stamp}"
        if self.origin is not None:
            with suppress(CheckpointError):  # gone or replaced: nobody can tell its hash any more
                return content_hash(self.origin)
            return None
        if self._digest is None:
            self._digest = _digest(self._tensors)
        return self._digest

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce__(self) -> tuple[type, tuple[None, dict[str, Tensor]]]:
        return type(self), (None, {})


def moved(module: Any, move: Callable[[], Any]) -> None:
    """Move a module to another device or type, or add a layer of its checkpoint; its weights go on being known.

    Those that were as they were read, that is. ``move`` may not change any in another way.
    """
    loaded: LoadedWeights | None = module.loaded
    if loaded is None:
        move()
        return
    as_read = loaded.as_read(module)
    others = {name for name, _ in module.named_parameters()} - as_read
    move()
    if as_read and loaded.as_read(module) != {name for name, _ in module.named_parameters()} - others:
        module.loaded = LoadedWeights.of(module, without=others)


def weights_identity(module: Any, *parts: nn.Module, content_hash: Callable[[Origin], str] | None = None) -> str | None:
    """What tells the weights of a module from others.

    Parameters
    ----------
    module : TaskModule
    *parts : Module
        The parts of it that matter, by default all.
    content_hash : callable, optional
        Returns the hash of a checkpoint, for an identity that is the same everywhere. Without it, nothing is read, and the
        identity holds for the files of this machine as they are.

    Returns
    -------
    str, or None if they are no longer what was read
    """
    loaded: LoadedWeights | None = module.loaded
    names = None if loaded is None else loaded.names_of(*(parts or (module,)))
    if loaded is None or names is None:
        return None
    source = loaded.source(content_hash)
    return source and f"{source} {names}"


def _digest(tensors: dict[str, Tensor]) -> str:
    sha = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}:".encode())
        sha.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def _facts_and_marks(parts: Iterable[nn.Module]) -> tuple[tuple[Any, ...], tuple[Mark | None, ...]] | None:
    """All that the outputs of modules depend on; None if nobody can tell."""
    from skxlmr.nn.kernels.packed import mark_of

    facts: list[Any] = []
    marks: list[Mark | None] = []
    left = list(reversed(list(parts)))
    while left:
        part = left.pop()
        state = part.__dict__
        kind: Any = type(part)
        children = state["_modules"]
        names = _known_names(kind, tuple(state))
        if names is None or state["_forward_hooks"] or state["_forward_pre_hooks"]:
            return None
        if state["training"] and kind is not nn.ModuleList:
            return None
        facts.append(kind)
        for name in names:
            value = state[name]
            if value is not None and not isinstance(value, PLAIN):
                return None
            facts.append(value)
        for tensor in state["_parameters"].values():
            if tensor is not None:
                marks.append(mark_of(tensor))
        if children:
            facts += children
            left += reversed([child for child in children.values() if child is not None])
    return tuple(facts), tuple(marks)


@cache
def _known_names(kind: Any, attributes: tuple[str, ...]) -> tuple[str, ...] | None:
    """Names of the attributes that outputs may depend on; None of a module that is neither ours nor torch's."""
    if not kind.__module__.startswith(OURS):
        return None
    beside = BESIDE | vars(nn.Module()).keys()
    return tuple(name for name in attributes if name not in beside)
