"""torch, imported when something of it is first needed.

``import skxlmr`` does without torch, and so does a prediction by ONNX Runtime. Modules that use torch only in their functions
take it from here, so that they can be imported where it is not installed. Those that derive from its classes, most of ``nn``,
import it as usual, and are imported by those who need them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch as torch
    from torch import distributed as distributed
    from torch import nn as nn
    from torch.nn import functional as F
else:

    class _Later(ModuleType):
        """A module that is imported when an attribute of it is first read."""

        def __getattr__(self, name: str) -> Any:
            return getattr(import_module(self.__name__), name)

    torch, nn, F = _Later("torch"), _Later("torch.nn"), _Later("torch.nn.functional")
    distributed = _Later("torch.distributed")

__all__ = ["F", "distributed", "is_tensor", "names_of", "nn", "torch"]


def is_tensor(value: object) -> bool:
    """Whether it is one of torch's; nobody has one before torch is imported."""
    return "torch" in sys.modules and isinstance(value, torch.Tensor)


def names_of(package: str, modules: dict[str, str]) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package whose modules are imported when a name of theirs is first asked for.

    Parameters
    ----------
    package : str
        Its name.
    modules : dict of str to str
        For each module, by its name inside the package, the names that the package has from it, separated by spaces.
    """
    place = {name: module for module, names in modules.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        if name not in place:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{place[name]}"), name)
        setattr(import_module(package), name, value)
        return value

    return __getattr__
