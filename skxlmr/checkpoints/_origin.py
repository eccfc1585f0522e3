"""Where weights came from: a pickle stores this instead of the weights, and opens them again."""

import os
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._adapters.base import base_folder
from skxlmr.checkpoints._hashes import content_files, content_hash
from skxlmr.checkpoints._hub import BUILTIN, resolve_checkpoint
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._tables import plain_str

Stamp = tuple[tuple[str, int, int, int, int], ...]  # name, inode, size, modification and change time of each file


@dataclass(frozen=True)
class Origin:
    """A checkpoint that was opened.

    Attributes
    ----------
    name : str
        Opens it from any working directory: an absolute path, a built-in name, or a name on the hub.
    revision : str or None
        The commit on the hub.
    folder : str
        Where it was found.
    tokenizer : object
        The tokenizer that was made from its files.
    stamp : tuple
        Changes with the files, and when they are written over with their size and modification time kept.
    """

    name: str
    revision: str | None
    folder: str
    tokenizer: Any
    stamp: Stamp

    @classmethod
    def of(
        cls, checkpoint: str | os.PathLike[str], revision: str | None, folder: str | os.PathLike[str], tokenizer: Any
    ) -> "Origin":
        """Origin of the checkpoint that ``resolve_checkpoint(checkpoint, revision)`` has just found in the folder."""
        checkpoint = plain_str(checkpoint) if isinstance(checkpoint, str) else checkpoint
        place = Path(os.path.abspath(folder))
        stamp = _stamp(str(place))
        if checkpoint == BUILTIN or os.path.isdir(os.path.expanduser(checkpoint)):
            return cls(BUILTIN if checkpoint == BUILTIN else str(place), None, str(place), tokenizer, stamp)
        name, _, pinned = str(checkpoint).partition("@")
        is_snapshot = place.parent.name == "snapshots"  # a branch may move, a commit does not
        return cls(name, place.name if is_snapshot else pinned or revision, str(place), tokenizer, stamp)

    def is_unchanged(self) -> bool:
        """Whether the files are still those that were opened."""
        with suppress(CheckpointError):
            return _without_change_time(_stamp(self.folder)) == _without_change_time(self.stamp)
        return False

    def is_untouched(self) -> bool:
        """Whether nothing was done to the files since, not even written over with the size and time of those before."""
        with suppress(CheckpointError):
            return _stamp(self.folder) == self.stamp
        return False

    def files(self) -> list[str]:
        """Paths of the files that its content hash is made of.

        Raises
        ------
        CheckpointError
            If the folder holds no weights any more, or cannot be read.
        """
        return _files(self.folder)

    def content_hash(self) -> str:
        """Content hash of the checkpoint, computed once per process."""
        return _content_hash(self.folder, self.stamp)


def open_again(name: str, revision: str | None, digest: str, what: str) -> str:
    """Find the checkpoint that ``what`` needs, by name and content hash.

    Returns
    -------
    str
        Its folder.

    Raises
    ------
    CheckpointError
        If there is no checkpoint of this name, or its content is another one.
    """
    needs = f"{what} holds only the learnt weights and needs"
    remedy = (
        "put it back, or pickle the fitted estimator again after set_params(store_weights_in_pickle=True), or use save, whose "
        "folder needs nothing else"
    )
    try:
        folder = str(resolve_checkpoint(name, revision))
        found = _content_hash(folder, _stamp(folder))
    except CheckpointError as error:
        raise CheckpointError(name, f"{needs} this checkpoint, which cannot be opened ({error}): {remedy}") from error
    if found != digest:
        needed = f"the checkpoint with the content hash {digest}, but this one has {found}"
        raise CheckpointError(name, f"{needs} {needed}: {remedy}")
    return folder


def _stamp(folder: str) -> Stamp:
    with blaming(folder, "cannot be read ({})", OSError):
        stats = [(name, os.stat(os.path.join(folder, name))) for name in content_files(folder)]
    base = base_folder(folder)
    own = ((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats)
    return (*own, *(() if base is None else _stamp(str(base))))


def _without_change_time(stamp: Stamp) -> tuple[tuple[str | int, ...], ...]:
    """A hard link or other permissions change that time, and leave the content as it is."""
    return tuple(file[:-1] for file in stamp)


def _files(folder: str) -> list[str]:
    base = base_folder(folder)
    own = [os.path.join(folder, name) for name in content_files(folder)]
    return [*own, *([] if base is None else _files(str(base)))]


@lru_cache(maxsize=64)
def _content_hash(folder: str, stamp: Stamp) -> str:
    digest = content_hash(folder)
    if _stamp(folder) != stamp:  # the hash may be that of another checkpoint, which the cache would keep
        raise CheckpointError(folder, "was replaced or changed while it was being read: try again")
    return digest
