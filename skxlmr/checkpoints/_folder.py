"""What a checkpoint folder consists of: read its config, write it as a whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from skxlmr.checkpoints._atomic_replace import flush, fresh_folder, keep_modes, recover, swap
from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.table import FORMATS, WEIGHT_FILES
from skxlmr.checkpoints._formats.write import write_weights, written_dtype
from skxlmr.checkpoints._identity import undisturbed
from skxlmr.checkpoints._layout import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    CONFIG,
    CONTENT_FILES,
    DESCRIPTION,
    ONNX_FILES,
    ONNX_FOLDER,
    OUTPUT_LAYERS,
    PART,
    PART_WEIGHTS,
    SENTENCE_FILES,
    weight_patterns,
)
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import check_name, check_utf8, is_path, is_plain_name, read_json
from skxlmr.utils._tables import describe

if TYPE_CHECKING:
    import torch

SKOPS_FILE, PARTS = "pipeline.skops", "estimators"  # of a pipeline of scikit-learn: the rest of it, and its estimators
# What systems and tools put into any folder. The first kind is written again when it is missing; the second is kept.
LEFT_BEHIND = (
    *(".DS_Store", "._*", "__MACOSX", "desktop.ini", "Thumbs.db", "ehthumbs.db", ".directory", "@eaDir", ".nfs*"),
    *(".localized", "Icon\r"),
    ".cache",  # of downloads from the hub; what it says of the files is no longer true
)
KEPT = (".gitattributes", ".gitignore", ".gitkeep", ".ipynb_checkpoints")
# Files of a checkpoint folder. A folder that holds anything else is never replaced.
OWN_FILES = (
    *(SKOPS_FILE, DESCRIPTION, "generation_config.json", *CONTENT_FILES, *SENTENCE_FILES, *OUTPUT_LAYERS.values()),
    *(pattern for file in (*WEIGHT_FILES, *ADAPTER_WEIGHTS) for pattern in weight_patterns(file)),
)


class Saveable(Protocol):
    """What a checkpoint folder needs of a tokenizer."""

    def save(self, folder: Path) -> Any:
        """Write the tokenizer's files into an existing folder."""


def read_config(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Read ``config.json``.

    Parameters
    ----------
    folder : str or path
        A checkpoint folder.

    Returns
    -------
    dict
        The parsed file.

    Raises
    ------
    CheckpointError
        If it is missing, not JSON, or not an object.
    """
    file = Path(folder, CONFIG)
    if not os.path.lexists(file):
        raise CheckpointError(file, "no such file" if file.parent.is_dir() else "no such folder")
    return read_json(file)


def target_folder(folder: Any, name: str = "folder") -> Path:
    """The folder that somebody wants written.

    Raises
    ------
    TypeError, ValueError
        If it is no path, or none that a folder can have; names the parameter.
    """
    if not is_path(folder):
        raise TypeError(f"{name} must be the path of a folder to write, got {describe(folder)}")
    check_name(folder, name)
    return Path(folder).expanduser()


def check_source_stays(target: str | os.PathLike[str], sources: Iterable[str | os.PathLike[str]], do: str) -> None:
    """Refuse to write to a folder that is read from, or that one of those lies in: it would be replaced.

    Raises
    ------
    CheckpointError
    """
    place = _real(target_folder(target))
    for source in sources:
        if is_in(source, target):
            what = "is the source" if _real(source) == place else f"holds what is read, {_real(source)}"
            raise CheckpointError(place, f"{what}: {do} to another folder")


def is_in(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> bool:
    """Whether a folder is the target, or lies in it, whatever links lead there."""
    return _real(source).is_relative_to(_real(target))


def _real(folder: str | os.PathLike[str]) -> Path:
    return Path(os.path.realpath(os.path.expanduser(folder)))


def write_folder(
    folder: str | os.PathLike[str],
    *,
    config: Mapping[str, Any],
    tensors: Tensors,
    tokenizer: Saveable | None = None,
    extra_files: Mapping[str, str | bytes | Callable[[Path], str]] | None = None,
    format: str = "safetensors",
    dtype: torch.dtype | str | None = None,
    max_shard_size: int | str | None = None,
    with_weights: bool = True,
    add: Callable[[Path], None] | None = None,
) -> None:
    """Write a checkpoint folder that ``transformers`` loads, as a whole or not at all.

    Everything is written and flushed to disk next to the target, then renamed. A checkpoint that was there before is
    replaced. What an interrupted write left behind is put back or removed by the next one. If several processes write to
    the same folder, the last one wins.

    Parameters
    ----------
    folder : str or path
        The folder to create or replace; missing parents are created.
    config : dict
        Content of ``config.json``; ``torch_dtype`` is set to the dtype that is written.
    tensors : dict of str to Tensor
        The weights. A tensor with two names is written once, under the first.
    tokenizer : object with ``save(folder)``, optional
        Writes its files into the folder.
    extra_files : dict of str to str, bytes or function, optional
        Content of further files by plain file name, written in this order after all others. A function receives the
        folder as written so far and returns the content.
    format : {"safetensors", "bin", "h5", "msgpack"}
        Format of the weights: safetensors, PyTorch's, TensorFlow's or Flax's.
    dtype : torch.dtype or {"float32", "bfloat16", "float16"}, optional
        What floating tensors are cast to. TensorFlow's format has no bfloat16: such tensors become float32.
    max_shard_size : int or str, optional
        Most bytes of weights per file, such as ``"2GB"``; by default they are in one file.
    with_weights : bool, default=True
        Whether the weights are written.
    add : function of a path, optional
        Writes more into the folder, once config, weights and tokenizer are there.

    Raises
    ------
    CheckpointError
        If the target is a file, or a folder that holds anything but a checkpoint, or the weights do not fit the format.
    ValueError
        If there is no such format or dtype, or the format does not have the dtype.
    ImportError
        If the package that writes the format is not installed.
    """
    if not isinstance(format, str) or format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    form = FORMATS[format]
    dtype = written_dtype(form, tensors, dtype)
    extra_files = dict(extra_files or {})
    for name in extra_files:
        if not (is_plain_name(name) or _is_of_part(name)) or name in (CONFIG, *WEIGHT_FILES):
            raise CheckpointError(folder, f"{name!r} cannot be the name of an extra file")

    def fill(fresh: Path) -> None:
        text = json.dumps(_with_dtype(config, tensors, dtype), indent=2, ensure_ascii=False) + "\n"
        (fresh / CONFIG).write_text(text, encoding="utf-8")
        if with_weights:
            write_weights(fresh, form, tensors, config=config, dtype=dtype, max_shard_size=max_shard_size)
        for path in fresh.iterdir():
            shutil.copymode(fresh / CONFIG, path)  # safetensors makes its file private to the user
        write_beside(fresh, tokenizer, extra_files, add)

    replace_folder(folder, fill, extra_files)


def write_beside(
    fresh: Path,
    tokenizer: Saveable | None,
    extra_files: Mapping[str, str | bytes | Callable[[Path], str]],
    add: Callable[[Path], None] | None = None,
) -> None:
    """Write what lies beside the weights in a new folder; see :func:`write_folder`."""
    if tokenizer is not None:
        tokenizer.save(fresh)
    if add is not None:
        add(fresh)
    for name, content in extra_files.items():
        text_or_bytes = content(fresh) if callable(content) else content
        (fresh / name).parent.mkdir(exist_ok=True)
        (fresh / name).write_bytes(text_or_bytes.encode() if isinstance(text_or_bytes, str) else text_or_bytes)


def replace_folder(
    folder: str | os.PathLike[str], fill: Callable[[Path], None], replaceable: Iterable[str] = ()
) -> None:
    """Write a folder as a whole or not at all, in the place of a checkpoint or of nothing.

    Parameters
    ----------
    folder : str or path
        The folder to create or replace; missing parents are created.
    fill : function of a path
        Writes into an empty folder next to it.
    replaceable : iterable of str
        Names of further files that the old folder may hold.

    Raises
    ------
    CheckpointError
        If the target is a file, or a folder that holds anything but a checkpoint.
    """
    check_utf8(folder)
    target = _real(folder)
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    undisturbed(target, lambda: _check_replaceable(target, replaceable))
    with fresh_folder(target) as fresh:
        fill(fresh)
        _keep(target, fresh)
        keep_modes(fresh, target)
        for path in [*fresh.rglob("*"), fresh]:
            flush(path)
        swap(fresh, target)


def _keep(target: Path, fresh: Path) -> None:
    """Copy what tools keep in a folder and nobody would write again."""
    for name in KEPT:
        if (target / name).is_dir():
            shutil.copytree(target / name, fresh / name, symlinks=True)
        elif (target / name).is_file():
            shutil.copyfile(target / name, fresh / name)


def _with_dtype(config: Mapping[str, Any], tensors: Tensors, dtype: torch.dtype | None) -> dict[str, Any]:
    # transformers 5 loads in the dtype that the config names, whatever the file holds; version 4 knows only this key.
    dtypes = {dtype or tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    content = {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}
    if len(dtypes) == 1:
        content["torch_dtype"] = str(dtypes.pop()).removeprefix("torch.")
    return content


def _check_replaceable(target: Path, extra_files: Iterable[str]) -> None:
    if target.exists() and not target.is_dir():
        raise CheckpointError(target, "is a file, expected a folder to write the checkpoint to")
    if os.path.ismount(target):
        reason = "is the mount point of a file system and cannot be replaced: save to a folder in it"
        raise CheckpointError(target, reason)
    if target.is_dir() and os.path.samefile(target, os.curdir):  # replacing it would leave the process without one
        raise CheckpointError(target, "is the working directory and cannot be replaced: save to a folder in it")
    if (target / ADAPTER_CONFIG).is_file() and not (target / DESCRIPTION).is_file():
        raise CheckpointError(
            target, "holds an adapter that save did not write, which is never replaced: save to another folder"
        )
    entries = list(target.iterdir()) if target.is_dir() else []
    if not entries:
        return
    if not (target / CONFIG).is_file() and not (target / DESCRIPTION).is_file():
        raise CheckpointError(target, f"is not empty and not a checkpoint folder (no {CONFIG}), so it is not replaced")
    ours = [entry for entry in entries if not any(fnmatch(entry.name, pattern) for pattern in LEFT_BEHIND + KEPT)]
    found = {entry.name + "/" * entry.is_dir(): entry for entry in ours}
    for part in [entry for name, entry in found.items() if name.endswith("/") and PART.fullmatch(entry.name)]:
        del found[part.name + "/"]  # of a sentence encoder
        found |= {f"{part.name}/{entry.name}": entry for entry in part.iterdir()}
    if (onnx := found.pop(ONNX_FOLDER + "/", None)) is not None:
        found |= {f"{ONNX_FOLDER}/{entry.name}": entry for entry in onnx.iterdir()}
    if (parts := found.pop(PARTS + "/", None)) is not None:  # of a pipeline
        for part in parts.iterdir():
            _check_replaceable(part, extra_files)
    matched = {name for pattern in OWN_FILES for name in found if "/" not in name and fnmatch(name, pattern)}
    matched |= {name for name in found if _is_of_part(name) or _is_of_onnx(name)}
    foreign = sorted(name.rstrip("/") for name in found.keys() - matched - set(extra_files))
    if foreign:
        listed = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise CheckpointError(target, f"also holds what replacing it would delete ({listed}): save to another folder")


def _is_of_onnx(name: str) -> bool:
    """Whether this is the name of a file of a model for ONNX Runtime that this library writes."""
    place, _, file = name.partition("/")
    return place == ONNX_FOLDER and file in (*ONNX_FILES, *CONTENT_FILES)


def _is_of_part(name: str) -> bool:
    """Whether this is the name of a file of a sentence encoder's part, such as ``1_Pooling/config.json``."""
    part, _, file = name.partition("/")
    return bool(PART.fullmatch(part)) and file in (CONFIG, *PART_WEIGHTS)
