"""Where weights came from: what a pickle names instead of holding them, and how it finds them again."""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._builtin import BUILTIN
from skxlmr.checkpoints._hashes import content_files, content_hash
from skxlmr.checkpoints._hub import resolve_checkpoint
from skxlmr.utils._errors import CheckpointError

Stamp = tuple[tuple[str, int, int], ...]  # name, size and time of change of each file


@dataclass(frozen=True)
class Origin:
    """A checkpoint that was opened.

    Attributes
    ----------
    name : what opens it from any working directory: an absolute path, a built-in name, or a name on the hub
    revision : the commit on the hub
    folder : where it was found
    tokenizer : what was made of its tokenizer's files
    stamp : tells whether its files are still the same
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
        """Origin of what ``resolve_checkpoint(checkpoint, revision)`` has just found in the folder."""
        place = Path(os.path.abspath(folder))
        stamp = _stamp(str(place))
        if checkpoint == BUILTIN:
            return cls(BUILTIN, None, str(place), tokenizer, stamp)
        if os.path.isdir(os.path.expanduser(checkpoint)):
            return cls(str(place), None, str(place), tokenizer, stamp)
        name, _, pinned = str(checkpoint).partition("@")
        is_snapshot = place.parent.name == "snapshots"  # a branch may move, a commit does not
        return cls(name, place.name if is_snapshot else pinned or revision, str(place), tokenizer, stamp)

    def is_unchanged(self) -> bool:
        """Whether the files are those that were opened."""
        try:
            return _stamp(self.folder) == self.stamp
        except CheckpointError:
            return False

    def content_hash(self) -> str:
        """Content hash of the checkpoint, computed once a process."""
        return _content_hash(self.folder, self.stamp)


def open_again(name: str, revision: str | None, digest: str, what: str) -> str:
    """Folder of the checkpoint with this content hash that ``what`` needs.

    Raises
    ------
    CheckpointError
        If there is no checkpoint of this name, or it is another one.
    """
    try:
        folder = str(resolve_checkpoint(name, revision))
        found = _content_hash(folder, _stamp(folder))
    except CheckpointError as error:
        raise CheckpointError(
            name, f"{what} holds only what was learnt and needs this checkpoint, which cannot be opened ({error})"
        ) from error
    if found != digest:
        raise CheckpointError(
            name,
            f"{what} holds only what was learnt and needs the checkpoint with the content hash {digest}, but this one has "
            f"{found}: put the right one in its place",
        )
    return folder


def _stamp(folder: str) -> Stamp:
    try:
        stats = [(name, os.stat(os.path.join(folder, name))) for name in content_files(folder)]
    except OSError as error:
        raise CheckpointError(folder, f"cannot be read ({error})") from error
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


@lru_cache(maxsize=64)
def _content_hash(folder: str, stamp: Stamp) -> str:
    return content_hash(folder)
