"""What a checkpoint folder is: read its config and weights, write it as a whole or not at all."""

import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

import torch

from skxlmr.checkpoints._names import published_names
from skxlmr.checkpoints._safetensors import Tensors, read_safetensors, write_safetensors
from skxlmr.checkpoints._torch_bin import read_torch_bin
from skxlmr.utils._errors import CheckpointError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
READERS: dict[str, Callable[[Path], Tensors]] = {WEIGHTS: read_safetensors, "pytorch_model.bin": read_torch_bin}
FOREIGN_FORMATS = {"tf_model.h5": "TensorFlow", "flax_model.msgpack": "Flax"}
LFS_POINTER = b"version https://git-lfs"
# What a checkpoint folder is made of. A folder that holds anything else is never replaced.
OWN_FILES = ("*.json", "*.safetensors", "pytorch_model*.bin", "*.model", "vocab.txt", "merges.txt")


class Saveable(Protocol):
    """A tokenizer, as far as a checkpoint folder is concerned."""

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
    return _read_json(Path(folder) / CONFIG)


def read_tensors(folder: str | os.PathLike[str]) -> Tensors:
    """Map the weights of a checkpoint folder: safetensors before ``.bin``, a single file before shards.

    Parameters
    ----------
    folder : str or path
        A checkpoint folder.

    Returns
    -------
    dict of str to Tensor
        On the CPU, by the names and with the dtypes of the files. Memory-mapped: pages are read when first used, and
        writing to a tensor never reaches the file.

    Raises
    ------
    CheckpointError
        If there are no weights, or a file of theirs is missing or broken.
    """
    folder = Path(folder)
    for name, read in READERS.items():
        index = folder / f"{name}.index.json"
        if (folder / name).is_file():
            return _read_weights(folder / name, read)
        if index.is_file():
            return _read_shards(index, read)
    if not folder.is_dir():
        raise CheckpointError(folder, "no such folder")
    found = sorted(entry.name for entry in folder.iterdir())
    for name, framework in FOREIGN_FORMATS.items():
        if name in found:
            reason = f"holds {framework} weights only ({name}), which must be converted to {WEIGHTS} first"
            raise CheckpointError(folder, reason)
    reason = f"holds no weights: expected {' or '.join(READERS)} or an index of shards, found "
    raise CheckpointError(folder, reason + (", ".join(found) or "nothing"))


def write_folder(
    folder: str | os.PathLike[str],
    *,
    config: Mapping[str, Any],
    tensors: Tensors,
    tokenizer: Saveable | None = None,
    extra_files: Mapping[str, str | bytes] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a checkpoint folder that ``transformers`` loads, as a whole or not at all.

    Everything is written and flushed to disk beside the target, then renamed. A checkpoint that was there before is
    replaced; what an interrupted write left behind is put back or cleaned by the next one. One writer at a time.

    Parameters
    ----------
    folder : str or path
        The folder to create or replace; missing parents are created.
    config : dict
        Content of ``config.json``; ``torch_dtype`` is set to what is written.
    tensors : dict of str to Tensor
        The weights. A tensor under two names is written once, under the first.
    tokenizer : object with ``save(folder)``, optional
        Writes its files beside the weights.
    extra_files : dict of str to str or bytes, optional
        Content of further files by plain file name.
    dtype : torch.dtype, optional
        What floating tensors are cast to.

    Raises
    ------
    CheckpointError
        If the target is a file, or a folder that holds anything but a checkpoint.
    """
    extra_files = dict(extra_files or {})
    for name in extra_files:
        if not _is_plain(name) or name in (CONFIG, WEIGHTS):
            raise CheckpointError(folder, f"{name!r} cannot be the name of an extra file")
    target = Path(os.path.realpath(os.path.expanduser(folder)))
    target.parent.mkdir(parents=True, exist_ok=True)
    _recover(target)
    _check_replaceable(target, extra_files)

    tensors = published_names(tensors)
    text = json.dumps(_with_dtype(config, tensors, dtype), indent=2, ensure_ascii=False) + "\n"
    token = secrets.token_hex(4)
    fresh, aside = (target.with_name(_temporary(target, kind) + token) for kind in ("new", "old"))
    try:
        fresh.mkdir()
        (fresh / CONFIG).write_text(text, encoding="utf-8")
        write_safetensors(fresh / WEIGHTS, tensors, dtype)
        shutil.copymode(fresh / CONFIG, fresh / WEIGHTS)  # safetensors makes its file private to the user
        if tokenizer is not None:
            tokenizer.save(fresh)
        for name, content in extra_files.items():
            (fresh / name).write_bytes(content.encode() if isinstance(content, str) else content)
        for path in [*fresh.rglob("*"), fresh]:
            _flush(path)
        _swap(fresh, target, aside)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    _flush(target.parent)
    shutil.rmtree(aside, ignore_errors=True)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(file, "no such file" if file.parent.is_dir() else "no such folder") from None
    except OSError as error:
        raise CheckpointError(file, f"cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(file, f"is not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(file, f"expected a JSON object, found {type(content).__name__}")
    return content


def _read_weights(file: Path, read: Callable[[Path], Tensors]) -> Tensors:
    try:
        with file.open("rb") as opened:
            is_pointer = opened.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError as error:
        raise CheckpointError(file, f"cannot be read ({error})") from error
    if is_pointer:
        raise CheckpointError(file, "is a Git LFS pointer, not the weights: run `git lfs pull` in its repository")
    return read(file)


def _read_shards(index: Path, read: Callable[[Path], Tensors]) -> Tensors:
    places = _read_json(index).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(index, 'expected an object "weight_map" that names the shard of each tensor')
    names_of: dict[str, list[str]] = {}
    for name, shard in places.items():
        if not isinstance(shard, str) or not _is_plain(shard):
            raise CheckpointError(
                index, f"the shard of tensor {name} must be a file of the same folder, found {shard!r}"
            )
        names_of.setdefault(shard, []).append(name)
    absent = [shard for shard in names_of if not (index.parent / shard).is_file()]
    if absent:
        raise CheckpointError(
            index, f"{len(absent)} of {len(names_of)} shards missing from the folder: {', '.join(absent[:3])}"
        )
    tensors: Tensors = {}
    for shard, names in names_of.items():
        held = _read_weights(index.parent / shard, read)
        for name in names:
            if name not in held:
                raise CheckpointError(
                    index.parent / shard, f"tensor {name} is not in this shard, where {index.name} places it"
                )
            tensors[name] = held[name]
    return tensors


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0")


def _with_dtype(config: Mapping[str, Any], tensors: Tensors, dtype: torch.dtype | None) -> dict[str, Any]:
    # transformers 5 loads in the dtype that the config names, whatever the file holds; version 4 knows no other key.
    dtypes = {dtype or tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    content = {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}
    if len(dtypes) == 1:
        content["torch_dtype"] = str(dtypes.pop()).removeprefix("torch.")
    return content


def _temporary(target: Path, kind: str) -> str:
    return f".{target.name}.skxlmr-{kind}-"


def _swap(fresh: Path, target: Path, aside: Path) -> None:
    try:
        if target.exists():
            target.rename(aside)
        fresh.rename(target)
    except BaseException:
        if aside.exists() and not target.exists():
            aside.rename(target)
        raise


def _recover(target: Path) -> None:
    """Undo what a write that was killed left beside the target."""
    new, old = _temporary(target, "new"), _temporary(target, "old")
    for path in sorted(target.parent.iterdir()):
        if path.name.startswith(old) and not target.exists():
            path.rename(target)  # killed between the two renames
        elif path.name.startswith((new, old)):
            shutil.rmtree(path, ignore_errors=True)


def _check_replaceable(target: Path, extra_files: Iterable[str]) -> None:
    if target.exists() and not target.is_dir():
        raise CheckpointError(target, "is a file, expected a folder to write the checkpoint to")
    entries = list(target.iterdir()) if target.is_dir() else []
    if not entries:
        return
    if not (target / CONFIG).is_file():
        raise CheckpointError(target, f"is not empty and not a checkpoint folder (no {CONFIG}), so it is not replaced")
    own = (*OWN_FILES, *extra_files)
    foreign = sorted(e.name for e in entries if e.is_dir() or not any(fnmatch(e.name, pattern) for pattern in own))
    if foreign:
        listed = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise CheckpointError(target, f"also holds what replacing it would delete ({listed}): save to another folder")


def _flush(path: Path) -> None:
    if os.name == "nt":  # Windows cannot flush what is open for reading
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
