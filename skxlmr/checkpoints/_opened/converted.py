"""Weights in another type or order than their file has: one copy in memory for all estimators of the process.

What a file holds as it is computed with is mapped, and every page exists once on the machine. Half precision, or matrices
that lie transposed, have to be converted. The copy is put into a file that exists in memory alone, and each module maps it
privately, as it would map a checkpoint: what one module writes into its weights no other sees, and costs the pages that are
written.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from mmap import MAP_PRIVATE, PROT_READ, PROT_WRITE, mmap
from weakref import WeakValueDictionary

from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.utils._imports.later import torch

LEAST = 2**20  # bytes; less is not worth a file
_ALIGNED = 64  # bytes, as torch aligns its tensors
_in_use: WeakValueDictionary[Hashable, _Copy] = WeakValueDictionary()


def converted(tensors: Tensors, dtype: torch.dtype, files: Hashable = None) -> Tensors:
    """Floating tensors in this type, all tensors contiguous; those that are so already are returned as they are.

    Parameters
    ----------
    tensors : dict of str to Tensor
    dtype : torch.dtype
    files : hashable, optional
        Tells the files that the tensors were read from. Who passes the same shares the copy, as long as somebody uses it; None
        shares nothing.

    Returns
    -------
    dict of str to Tensor
        In the order of ``tensors``. Writing to one never changes another's.
    """
    other = {name: tensor for name, tensor in tensors.items() if not _is_ready(tensor, dtype)}
    if files is None or not hasattr(os, "memfd_create") or _n_bytes(other, dtype) < LEAST:
        return tensors | {name: _convert(tensor, dtype) for name, tensor in other.items()}
    try:
        copy = _in_use.get((files, dtype)) or _Copy(other, dtype)
        _in_use[files, dtype] = copy
        shared = copy.tensors()
    except OSError:  # the system has no more files, or allows none in memory
        shared = {}
    return tensors | {name: shared[name] if name in shared else _convert(t, dtype) for name, t in other.items()}


def is_converted(names: set[str], dtype: torch.dtype, files: Hashable) -> set[str]:
    """Those of the names that are in a copy which somebody uses."""
    copy = _in_use.get((files, dtype))
    return set() if copy is None else names & copy.places.keys()


class _Copy:
    """Converted tensors in a file in memory, which goes with the last tensor that is mapped from it."""

    def __init__(self, tensors: Tensors, dtype: torch.dtype):
        self.places: dict[str, tuple[int, torch.dtype, torch.Size]] = {}
        self.size = 0
        for name, tensor in tensors.items():
            kind = dtype if tensor.is_floating_point() else tensor.dtype
            self.places[name] = (self.size, kind, tensor.shape)
            self.size += -(-tensor.numel() * kind.itemsize // _ALIGNED) * _ALIGNED
        self.file = os.memfd_create("skxlmr weights", os.MFD_CLOEXEC)
        os.ftruncate(self.file, self.size)
        for name, place in _over(mmap(self.file, self.size), self.places).items():
            place.copy_(tensors[name])  # float64 to half precision goes through float32 in torch

    def tensors(self) -> Tensors:
        """The tensors over a private mapping of their own, which keeps the file."""
        mapping = _Mapping(self.file, self.size, flags=MAP_PRIVATE, prot=PROT_READ | PROT_WRITE)
        mapping.copy = self
        return _over(mapping, self.places)

    def __del__(self) -> None:
        if hasattr(self, "file"):
            os.close(self.file)


class _Mapping(mmap):
    copy: _Copy


def _over(mapping: mmap, places: dict[str, tuple[int, torch.dtype, torch.Size]]) -> Tensors:
    return {
        name: torch.frombuffer(mapping, dtype=kind, count=shape.numel(), offset=start).view(shape)
        for name, (start, kind, shape) in places.items()
    }


def _is_ready(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    is_of_type = tensor.dtype == dtype or not tensor.is_floating_point()
    return (is_of_type and tensor.is_contiguous()) or not tensor.numel()


def _n_bytes(tensors: Tensors, dtype: torch.dtype) -> int:
    return sum(tensor.numel() * dtype.itemsize for tensor in tensors.values())


def _convert(tensor: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return (tensor.to(dtype) if tensor.is_floating_point() else tensor).contiguous()
