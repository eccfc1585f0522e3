"""Whether a checkpoint folder still holds the files that were there when it was opened."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._adapters.base import base_folder
from skxlmr.checkpoints._formats.table import WEIGHT_FILES
from skxlmr.checkpoints._layout import DESCRIPTION, text_files, weight_files, weight_patterns
from skxlmr.utils._errors import CheckpointError

_TRIES = 100
Identity = tuple[tuple[str | int, ...], ...]


def identity(folder: str | os.PathLike[str]) -> Identity:
    """What changes when the folder, or a file of it that a reader opens, is replaced, rewritten, added or removed.

    The base model of an adapter belongs to it.

    Compare it before and after several files are read: if it is the same, they belong together.

    Parameters
    ----------
    folder : str or path
        A checkpoint folder; it may be missing.

    Returns
    -------
    tuple
    """
    folder = Path(folder)
    paths = {folder / DESCRIPTION}
    with suppress(CheckpointError, OSError):  # there are no weights, or the folder vanishes meanwhile
        paths |= {folder / name for name in text_files(folder)}
        paths |= {folder / name for name in weight_files(folder)}
    with suppress(OSError):
        paths |= {path for name in WEIGHT_FILES for pattern in weight_patterns(name) for path in folder.glob(pattern)}
    found: list[tuple[str | int, ...]] = []
    with suppress(OSError):
        status = os.stat(folder)
        found.append((status.st_dev, status.st_ino))
    for path in sorted(paths):
        with suppress(OSError):
            status = os.stat(path)
            times = status.st_mtime_ns, status.st_ctime_ns
            found.append((str(path.relative_to(folder)), status.st_dev, status.st_ino, status.st_size, *times))
    with suppress(CheckpointError, OSError):  # whoever reads it will say what is wrong
        if (base := base_folder(folder)) is not None:
            found += identity(base)
    return tuple(found)


def newest_change(files: Identity) -> int:
    """When a file of a checkpoint changed last, in nanoseconds since 1970; 0 without files."""
    return max((time for _, *numbers in files for time in numbers[3:] if isinstance(time, int)), default=0)


def undisturbed(folder: str | os.PathLike[str], look: Callable[[], Any]) -> None:
    """Look at a folder; if that ends in an error, and another process has replaced the folder meanwhile, look again."""
    for _ in range(_TRIES):
        before = identity(folder)
        try:
            return look()
        except (CheckpointError, OSError):
            if identity(folder) == before:
                raise
    look()
