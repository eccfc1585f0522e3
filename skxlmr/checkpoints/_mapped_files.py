"""Files that weights are mapped from: whatever is written into them later, the weights show.

Renaming another file over them does no harm: the mapping keeps the old one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._layout import weight_files
from skxlmr.utils._errors import CheckpointError

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule

Stamp = tuple[int, int, int, int]  # which file it is (device and inode), its size and its modification time


@dataclass(frozen=True)
class MappedFiles:
    """Files and the tensors over them.

    Attributes
    ----------
    stamps : dict of str to tuple
        Each file, by its real path, as it was before it was mapped.
    addresses : frozenset of int
        Where the tensors over the files begin in memory.
    """

    stamps: dict[str, Stamp]
    addresses: frozenset[int] = frozenset()

    @classmethod
    def of(cls, files: Iterable[str | os.PathLike[str]]) -> MappedFiles:
        """Files that will be mapped. One that cannot be read is left out: reading it will say why."""
        paths = {os.path.realpath(file) for file in files}
        return cls({path: stamp for path in sorted(paths) if (stamp := _stamp(path)) is not None})

    @classmethod
    def of_folder(cls, folder: str | os.PathLike[str]) -> MappedFiles:
        """Files of the weights of a checkpoint folder."""
        with suppress(CheckpointError):
            return cls.of(os.path.join(folder, name) for name in weight_files(folder))
        return cls({})

    def with_tensors(self, tensors: Tensors) -> MappedFiles:
        """The same with the tensors that were mapped."""
        return replace(self, addresses=frozenset(tensor.data_ptr() for tensor in tensors.values()))

    def __or__(self, other: MappedFiles) -> MappedFiles:
        return MappedFiles(self.stamps | other.stamps, self.addresses | other.addresses)

    def check(self, module: TaskModule) -> None:
        """See :func:`check_mapped_files`."""
        for file, stamp in self.stamps.items():
            found = _stamp(file)
            if found in (None, stamp) or found[:2] != stamp[:2]:  # gone, the same, or another file in its place
                continue
            if self.addresses.isdisjoint(weight.data_ptr() for weight in module.state_dict().values()):
                return  # on a GPU or converted, the weights are in memory of their own
            raise CheckpointError(
                file,
                f"was overwritten after it was opened ({_change(stamp, found)}), and weights of the fitted estimator are "
                "still read from it: fit or load again. To replace a file in use, write a new one and rename it over the old",
            )


def check_mapped_files(module: TaskModule) -> None:
    """Check that no file was overwritten from which weights of the module are still read; costs one ``stat`` per file.

    Raises
    ------
    CheckpointError
        If one was.
    """
    if module.mapped_files is not None:
        module.mapped_files.check(module)


def _stamp(file: str) -> Stamp | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _change(before: Stamp, now: Stamp) -> str:
    return "its modification time differs" if before[2] == now[2] else f"it had {before[2]} bytes, and now has {now[2]}"
