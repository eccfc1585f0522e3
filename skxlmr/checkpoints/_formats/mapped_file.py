"""A file as tensors over its own bytes: pages are read when first used, and nothing beyond its end.

Here are also the bounds that all formats share. No default device moves these tensors: they lie where the file is mapped.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from math import prod
from mmap import ACCESS_COPY, mmap
from typing import TypeAlias

from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import open_file
from skxlmr.utils._imports.later import torch

Tensors: TypeAlias = "dict[str, torch.Tensor]"
MOST_TENSORS = 50_000  # per file; the largest models of the family have 800
MOST_DIMENSIONS = 2  # of any weight of these models
LONGEST_DIMENSION = 2**40
TOO_LARGE = (
    "is too large to be mapped into the memory of this machine ({}): convert it where there is more memory, into shards "
    "(skxlmr.convert with max_shard_size)"
)


class MappedFile:
    """Map a file privately: writing to a tensor copies the touched pages, and the file stays unchanged.

    Parameters
    ----------
    file : str or path
        The file.

    Raises
    ------
    CheckpointError
        If the file cannot be read or is empty.
    """

    def __init__(self, file: str | os.PathLike[str]):
        self.file = file
        with open_file(file) as opened, blaming(file, "cannot be read ({})", OSError):
            try:
                self._bytes = mmap(opened.fileno(), 0, access=ACCESS_COPY)
            except ValueError:
                raise CheckpointError(file, "is empty") from None
            except OSError as error:
                if error.errno == errno.ENOMEM:
                    raise CheckpointError(file, TOO_LARGE.format(error.strerror)) from error
                raise
        self.size = len(self._bytes)

    def take(self, start: int, n: int) -> bytes:
        """Copy ``n`` bytes.

        Raises
        ------
        CheckpointError
            If the file has no such bytes.
        """
        self._check(start, n)
        return self._bytes[start : start + n]

    def tensor(self, start: int, shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
        """Make a tensor over the bytes from ``start``; a copy if they are not aligned for the dtype.

        Raises
        ------
        CheckpointError
            If no weight has such a shape, or the file has fewer bytes.
        """
        if len(shape) > MOST_DIMENSIONS or not all(0 <= n < LONGEST_DIMENSION for n in shape):
            reason = f"holds an array of shape {tuple(shape)}, expected at most {MOST_DIMENSIONS} dimensions"
            raise CheckpointError(self.file, reason)
        n_bytes = prod(shape) * dtype.itemsize
        self._check(start, n_bytes)
        if not n_bytes:
            return torch.empty(tuple(shape), dtype=dtype, device="cpu")
        if start % dtype.itemsize:
            return self._copy(start, n_bytes).view(dtype).view(tuple(shape))
        raw = torch.frombuffer(self._bytes, dtype=torch.uint8, count=n_bytes, offset=start)
        return raw.view(dtype).view(tuple(shape))

    def _copy(self, start: int, n_bytes: int) -> torch.Tensor:
        """Read bytes into memory; not through the mapping, since its pages would take the same memory again."""
        copied = torch.empty(n_bytes, dtype=torch.uint8, device="cpu")
        left = copied.numpy().data
        with open_file(self.file, buffering=0) as opened, blaming(self.file, "cannot be read ({})", OSError):
            opened.seek(start)
            while left and (n_read := opened.readinto(left)):  # type: ignore[attr-defined]  # it is unbuffered
                left = left[n_read:]
        if left:
            reason = f"was truncated while it was read: {len(left)} of {self.size} bytes are gone"
            raise CheckpointError(self.file, reason)
        return copied

    def _check(self, start: int, n: int) -> None:
        if not 0 <= start <= start + n <= self.size:
            raise CheckpointError(self.file, f"is truncated: it has {self.size} bytes, but needs {n} bytes at {start}")
