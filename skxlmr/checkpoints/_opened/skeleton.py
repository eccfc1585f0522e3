"""Modules without weights: torch takes 10 ms to build one of base size, and 1 ms to copy what it has built."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

from skxlmr.checkpoints._weights import on_meta
from skxlmr.utils._imports.later import nn

Module = TypeVar("Module", bound="nn.Module")
_CONTAINERS = (dict, list, set)


def skeleton(kind: Callable[..., Module], config: Any, *arguments: int) -> Module:
    """Build ``kind(config, *arguments)`` on the meta device, without memory.

    Parameters
    ----------
    kind : type of nn.Module
    config : ModelConfig or XLMConfig
    *arguments : int
        What the class takes as well.

    Returns
    -------
    nn.Module
        It shares nothing with others.
    """
    made: Module = _copied(_built(kind, _Config(config), *arguments), {})
    return made


class _Config:
    """A config as the key of a cache: one with the same content is the same."""

    def __init__(self, config: Any):
        self.config, self.content = config, repr(config)

    def __hash__(self) -> int:
        return hash(self.content)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Config) and self.content == other.content and type(self.config) is type(other.config)


@lru_cache(maxsize=8)
def _built(kind: Any, config: _Config, *arguments: int) -> Any:
    with on_meta():
        return kind(config.config, *arguments)


def _copied(module: Any, tensors: dict[int, Any]) -> Any:
    """Copy modules and parameters, and the containers of their attributes; a tensor with two names stays one."""
    own: dict[str, Any]
    own = {name: value.copy() if isinstance(value, _CONTAINERS) else value for name, value in vars(module).items()}
    for name, parameter in module._parameters.items():
        if parameter is not None:
            if id(parameter) not in tensors:
                tensors[id(parameter)] = nn.Parameter(parameter, parameter.requires_grad)
            own["_parameters"][name] = tensors[id(parameter)]
    for name, buffer in module._buffers.items():
        own["_buffers"][name] = None if buffer is None else buffer.clone()
    for name, part in module._modules.items():
        own["_modules"][name] = None if part is None else _copied(part, tensors)
    made = object.__new__(type(module))
    vars(made).update(own)
    return made
