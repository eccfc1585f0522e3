"""Saved estimators that this process has loaded: each folder once, until its files change."""

import hashlib
import os
import threading
from pathlib import Path
from typing import Any, NamedTuple

from skxlmr.utils._errors import CheckpointError

MOST = 4  # estimators at a time; the one that was used longest ago goes


class Wanted(NamedTuple):
    """Which folder, and how it is to be computed with; None leaves what was saved."""

    folder: str
    device: str | None
    dtype: str | None
    batch_size: int | None
    onnx: bool | str


_loaded: dict[Wanted, tuple[Any, Any]] = {}  # the stamp of the folder, and the estimator
_folders: dict[str, Path] = {}  # of names on the hub, which is asked once
_lock = threading.Lock()


def loaded(wanted: Wanted) -> Any:
    """The estimator, from memory if this process has loaded it from the same files.

    Raises
    ------
    CheckpointError
        If the folder can't be read.
    ValueError
        If it can't be computed with in this way.
    """
    with _lock:  # threads that need it at the same time wait for the first one
        folder = _place(wanted.folder)
        stamp = stamp_of(folder)
        found, estimator = _loaded.pop(wanted, (None, None))
        if found is None or found != stamp:
            estimator = None  # before another one is in memory
            estimator = _load(wanted, folder)
        _loaded[wanted] = stamp, estimator
        while len(_loaded) > MOST:
            del _loaded[next(iter(_loaded))]
        return estimator


def digest_of(folder: str) -> str:
    """What tells one saved estimator from another, wherever its folder is copied to.

    Without checksums beside the files, it is their names, sizes and times.
    """
    from skxlmr.checkpoints import sha256_of
    from skxlmr.persistence._description import FILE

    place = _place(folder)
    if (place / FILE).exists():
        return str(sha256_of(place / FILE))
    return hashlib.sha256(repr(stamp_of(place)).encode()).hexdigest()


def stamp_of(folder: Path) -> Any:
    """What changes when a file in the folder, or in one of its folders, is replaced or rewritten."""
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            status = path.stat()
        except OSError:  # it vanished meanwhile
            continue
        found.append(
            (path.relative_to(folder).as_posix(), status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
        )
    return tuple(found)


def _place(folder: str) -> Path:
    """The folder on this machine."""
    if os.path.isdir(folder):
        return Path(folder)
    if folder not in _folders:
        from skxlmr.checkpoints import resolve_checkpoint

        _folders[folder] = resolve_checkpoint(folder, None)
    return _folders[folder]


def _load(wanted: Wanted, folder: Path) -> Any:
    if wanted.onnx is True or (wanted.onnx == "auto" and not _has_weights(folder)):
        return _load_onnx(wanted, folder)
    from skxlmr.persistence import load
    from skxlmr.persistence._parts import parts_of
    from skxlmr.utils._devices.device import resolve_device, resolve_precision

    estimator = load(wanted.folder, device=wanted.device)
    for _, part in parts_of(estimator):
        _set(part, batch_size=wanted.batch_size, dtype=wanted.dtype)
        if wanted.dtype is not None:
            part._validate_params()
        resolve_precision(part.dtype, resolve_device(part.device), training=False)  # refused before rows are read
        if wanted.dtype is not None:
            part._settle_weights()
    return estimator


def _load_onnx(wanted: Wanted, folder: Path) -> Any:
    from skxlmr.export import load_onnx

    for_torch: dict[str, Any] = {"device": wanted.device, "dtype": wanted.dtype}  # refused there
    estimator = load_onnx(folder, **{name: value for name, value in for_torch.items() if value is not None})
    _set(estimator, batch_size=wanted.batch_size)
    return estimator


def _set(part: Any, **given: Any) -> None:
    """Set those of these parameters that the estimator has; nothing of the texts is kept, and nothing shown."""
    given = {name: value for name, value in given.items() if value is not None} | {"memory": None, "verbose": 0}
    known = part.get_params(deep=False).keys()
    part.set_params(**{name: value for name, value in given.items() if name in known})


def _has_weights(folder: Path) -> bool:
    """Whether ``load`` can read the folder; a pipeline of scikit-learn has its weights in further folders."""
    from skxlmr.checkpoints import SKOPS_FILE, weight_files

    if (folder / SKOPS_FILE).exists() or not ((folder / "onnx").is_dir() or any(folder.glob("*.onnx"))):
        return True
    try:
        return bool(weight_files(folder))
    except CheckpointError:
        return False
