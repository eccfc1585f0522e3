"""What a checkpoint folder is: read its config and weights, write it as a whole or not at all."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Protocol

import torch

from skxlmr.checkpoints._formats import FORMATS, Format, write_weights, written_dtype
from skxlmr.checkpoints._replace import flush, fresh_folder, recover, swap
from skxlmr.checkpoints._safetensors import Tensors
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_json

CONFIG = "config.json"
READERS = {form.file: form.read for form in FORMATS.values()}  # in the order in which weights are looked for
LONGEST_NAME = 255  # bytes, as file systems have it
LFS_POINTER = b"version https://git-lfs"
# What a checkpoint folder is made of. A folder that holds anything else is never replaced.
SENTENCE_POOLING = "1_Pooling/config.json"  # where sentence-transformers look for it
OWN_FILES = (
    *("*.json", "*.model", "vocab.txt", "merges.txt", SENTENCE_POOLING),
    *("*.safetensors", "pytorch_model*.bin", "tf_model*.h5", "flax_model*.msgpack"),
)


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
    """Map the weights of a checkpoint folder: safetensors, ``.bin``, TensorFlow's or Flax's, a single file before shards.

    Parameters
    ----------
    folder : str or path
        A checkpoint folder.

    Returns
    -------
    dict of str to Tensor
        On the CPU, by Hugging Face's names and with the dtypes of the files. Memory-mapped: pages are read when first
        used, and writing to a tensor never reaches the file.

    Raises
    ------
    CheckpointError
        If there are no weights, or a file of theirs is missing or broken.
    ImportError
        If they are TensorFlow's, and h5py is not installed.
    """
    folder = Path(folder)
    for form in FORMATS.values():
        index = folder / f"{form.file}.index.json"
        if (folder / form.file).is_file():
            return _read_weights(folder / form.file, form.read)
        if index.is_file():
            return _read_shards(index, form)
    if not folder.is_dir():
        raise CheckpointError(folder, "no such folder")
    found = sorted(entry.name for entry in folder.iterdir())
    reason = f"holds no weights: expected {' or '.join(READERS)} or an index of shards, found "
    raise CheckpointError(folder, reason + (", ".join(found) or "nothing"))


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
) -> None:
    """Write a checkpoint folder that ``transformers`` loads, as a whole or not at all.

    Everything is written and flushed to disk beside the target, then renamed. A checkpoint that was there before is
    replaced; what an interrupted write left behind is put back or cleaned by the next one. Of several processes that write
    to the same folder at a time the last one wins.

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
    extra_files : dict of str to str, bytes or function, optional
        Content of further files by plain file name, written in this order after all others. A function gets the folder as
        written so far and returns the content.
    format : {"safetensors", "bin", "h5", "msgpack"}
        Of the weights: safetensors, PyTorch's, TensorFlow's or Flax's.
    dtype : torch.dtype or {"float32", "bfloat16", "float16"}, optional
        What floating tensors are cast to. TensorFlow's format has no bfloat16: tensors of that become float32.
    max_shard_size : int or str, optional
        Most bytes of a file of weights, such as ``"2GB"``; by default they are one file.

    Raises
    ------
    CheckpointError
        If the target is a file, or a folder that holds anything but a checkpoint, or the weights do not fit the format.
    ValueError
        If there is no such format or dtype, or no such dtype in the format.
    ImportError
        If the package that writes the format is not installed.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {', '.join(FORMATS)}, got {format!r}")
    form = FORMATS[format]
    dtype = written_dtype(form, tensors, dtype)
    extra_files = dict(extra_files or {})
    for name in extra_files:
        if not (_is_plain(name) or name == SENTENCE_POOLING) or name in (CONFIG, *READERS):
            raise CheckpointError(folder, f"{name!r} cannot be the name of an extra file")
    target = Path(os.path.realpath(os.path.expanduser(folder)))
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    _check_replaceable(target, extra_files)

    text = json.dumps(_with_dtype(config, tensors, dtype), indent=2, ensure_ascii=False) + "\n"
    with fresh_folder(target) as fresh:
        (fresh / CONFIG).write_text(text, encoding="utf-8")
        write_weights(fresh, form, tensors, config=config, dtype=dtype, max_shard_size=max_shard_size)
        for path in fresh.iterdir():
            shutil.copymode(fresh / CONFIG, path)  # safetensors makes its file private to the user
        if tokenizer is not None:
            tokenizer.save(fresh)
        for name, content in extra_files.items():
            text_or_bytes = content(fresh) if callable(content) else content
            (fresh / name).parent.mkdir(exist_ok=True)
            (fresh / name).write_bytes(text_or_bytes.encode() if isinstance(text_or_bytes, str) else text_or_bytes)
        for path in [*fresh.rglob("*"), fresh]:
            flush(path)
        swap(fresh, target)


def _read_json(file: Path) -> dict[str, Any]:
    if not os.path.lexists(file):
        raise CheckpointError(file, "no such file" if file.parent.is_dir() else "no such folder")
    return read_json(file)


def _read_weights(file: Path, read: Callable[[Path], Tensors]) -> Tensors:
    try:
        with file.open("rb") as opened:
            is_pointer = opened.read(len(LFS_POINTER)) == LFS_POINTER
    except OSError as error:
        raise CheckpointError(file, f"cannot be read ({error})") from error
    if is_pointer:
        raise CheckpointError(file, "is a Git LFS pointer, not the weights: run `git lfs pull` in its repository")
    return read(file)


def _read_shards(index: Path, form: Format) -> Tensors:
    places = read_json(index, unique_names=True).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise CheckpointError(index, 'expected an object "weight_map" that names the shard of each tensor')
    names_of: dict[str, list[str]] = {}
    for name, shard in places.items():
        if not isinstance(shard, str) or not _is_plain(shard):
            raise CheckpointError(
                index, f"the shard of tensor {name!r:.80} must be a file of the same folder, found {shard!r:.80}"
            )
        names_of.setdefault(shard, []).append(form.index_to_hf(name))
    absent = [shard for shard in names_of if not (index.parent / shard).is_file()]
    if absent:
        raise CheckpointError(
            index, f"{len(absent)} of {len(names_of)} shards missing from the folder: {', '.join(absent[:3])}"
        )
    # The hub's cache keeps the files of a snapshot in another folder, and links to them: this file's and the shards' alike.
    homes = {os.path.dirname(os.path.realpath(index)), os.path.realpath(index.parent)}
    for shard in names_of:
        if os.path.dirname(os.path.realpath(index.parent / shard)) not in homes:
            raise CheckpointError(
                index.parent / shard, f"links to a file outside the folder, where {index.name} itself does not lie"
            )
    tensors: Tensors = {}
    for shard, names in names_of.items():
        held = _read_weights(index.parent / shard, form.read)
        for name in names:
            if name not in held:
                raise CheckpointError(
                    index.parent / shard, f"tensor {name} is not in this shard, where {index.name} places it"
                )
            tensors[name] = held[name]
        if unplaced := sorted(held.keys() - names):
            raise CheckpointError(
                index.parent / shard, f"holds tensor {unplaced[0]}, which {index.name} does not place in this shard"
            )
    return tensors


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0") and len(name.encode()) <= LONGEST_NAME


def _with_dtype(config: Mapping[str, Any], tensors: Tensors, dtype: torch.dtype | None) -> dict[str, Any]:
    # transformers 5 loads in the dtype that the config names, whatever the file holds; version 4 knows no other key.
    dtypes = {dtype or tensor.dtype for tensor in tensors.values() if tensor.is_floating_point()}
    content = {key: value for key, value in config.items() if key not in ("dtype", "torch_dtype")}
    if len(dtypes) == 1:
        content["torch_dtype"] = str(dtypes.pop()).removeprefix("torch.")
    return content


def _check_replaceable(target: Path, extra_files: Iterable[str]) -> None:
    if target.exists() and not target.is_dir():
        raise CheckpointError(target, "is a file, expected a folder to write the checkpoint to")
    if os.path.ismount(target):
        raise CheckpointError(
            target, "is where a file system is mounted, and cannot be replaced: save to a folder in it"
        )
    if target.is_dir() and os.path.samefile(target, os.curdir):  # which would be that of a folder that is no more
        raise CheckpointError(target, "is the working directory, and cannot be replaced: save to a folder in it")
    entries = list(target.iterdir()) if target.is_dir() else []
    if not entries:
        return
    if not (target / CONFIG).is_file():
        raise CheckpointError(target, f"is not empty and not a checkpoint folder (no {CONFIG}), so it is not replaced")
    own = (*OWN_FILES, *extra_files)
    found = {entry.name + "/" * entry.is_dir(): entry for entry in entries}
    if (pooling := found.pop(os.path.dirname(SENTENCE_POOLING) + "/", None)) is not None:
        found |= {f"{pooling.name}/{entry.name}": entry for entry in pooling.iterdir()}
    foreign = sorted(name.rstrip("/") for name in found if not any(_matches(name, pattern) for pattern in own))
    if foreign:
        listed = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
        raise CheckpointError(target, f"also holds what replacing it would delete ({listed}): save to another folder")


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or ("/" not in name and fnmatch(name, pattern))
