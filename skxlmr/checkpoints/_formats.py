"""The formats of weights, and how a large model is spread over several files of one."""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from skxlmr.checkpoints._flax_msgpack import flax_names, flax_to_hf, read_flax_msgpack, write_flax_msgpack
from skxlmr.checkpoints._foreign_safetensors import any_index_to_hf, read_any_safetensors
from skxlmr.checkpoints._keras_h5 import (
    keras_index_to_hf,
    keras_names,
    read_keras_h5,
    write_keras_h5,
    write_keras_h5_shard,
)
from skxlmr.checkpoints._names import published_names
from skxlmr.checkpoints._safetensors import Tensors, writable, write_safetensors
from skxlmr.checkpoints._torch_bin import read_torch_bin, write_torch_bin
from skxlmr.utils._errors import CheckpointError

Writer = Callable[[Path, Tensors, torch.dtype | None], None]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True)
class Format:
    """How weights of one format are read and written.

    Parameters
    ----------
    file : str
        Name of the file that holds a whole model.
    read : function of a path
        Gives tensors by Hugging Face's names.
    write : function of a path, tensors and a dtype or None
        Writes a whole model; the tensors come by the names of the format.
    write_shard : the same
        Writes one of several files; by default as ``write``.
    names : function of tensors, a config and a folder for errors
        Gives the names of the format by Hugging Face's; None if those are the same.
    index_to_hf : function of a name
        Hugging Face's name of a tensor in an index of shards.
    has_bfloat16 : bool
        Whether there is such a dtype in it; if not, float32 holds the same values.
    """

    file: str
    read: Callable[[Path], Tensors]
    write: Writer
    write_shard: Writer | None = None
    names: Callable[[Tensors, Mapping[str, Any], Path], dict[str, str]] | None = None
    index_to_hf: Callable[[str], str] = str
    has_bfloat16: bool = True


# By what ``convert`` calls them, in the order in which a folder's weights are looked for.
FORMATS = {
    "safetensors": Format("model.safetensors", read_any_safetensors, write_safetensors, index_to_hf=any_index_to_hf),
    "bin": Format("pytorch_model.bin", read_torch_bin, write_torch_bin),
    "h5": Format(
        "tf_model.h5",
        read_keras_h5,
        write_keras_h5,
        write_shard=write_keras_h5_shard,
        names=keras_names,
        index_to_hf=keras_index_to_hf,
        has_bfloat16=False,
    ),
    "msgpack": Format(
        "flax_model.msgpack", read_flax_msgpack, write_flax_msgpack, names=flax_names, index_to_hf=flax_to_hf
    ),
}


def written_dtype(form: Format, tensors: Tensors, dtype: torch.dtype | str | None) -> torch.dtype | None:
    """What floating tensors are cast to where ``dtype`` is asked for; None leaves each as it is.

    Raises
    ------
    ValueError
        If there is no such dtype, or not in this format.
    """
    wanted = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if wanted not in (None, *DTYPES.values()) or (wanted is None and dtype is not None):
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)} or None, got {dtype!r}")
    if form.has_bfloat16:
        return wanted
    if wanted is torch.bfloat16:
        raise ValueError(f"{form.file} cannot hold bfloat16: write float32 or float16, or another format")
    holds_bfloat16 = any(tensor.dtype is torch.bfloat16 for tensor in tensors.values())
    return torch.float32 if wanted is None and holds_bfloat16 else wanted


def write_weights(
    folder: Path,
    form: Format,
    tensors: Tensors,
    *,
    config: Mapping[str, Any],
    dtype: torch.dtype | None,
    max_shard_size: int | str | None,
) -> None:
    """Write the weights of a model into an existing folder: one file, or an index and files of at most so many bytes.

    Parameters
    ----------
    folder : Path
        Where to.
    form : Format
        How.
    tensors : dict of str to Tensor
        By Hugging Face's names. A tensor under two names is written once, under the first.
    config : dict
        Content of ``config.json``.
    dtype : torch.dtype, optional
        What floating tensors are cast to.
    max_shard_size : int or str, optional
        Most bytes of numbers in a file, such as 2_000_000_000 or ``"2GB"``; a larger tensor has a file of its own.

    Raises
    ------
    CheckpointError
        If a weight is beyond what ``dtype`` can hold, and would become infinite.
    """
    tensors = writable(folder / form.file, published_names(tensors) if form.names is None else tensors)
    for name, tensor in tensors.items():
        _check_range(folder / form.file, name, tensor, _written(tensor, dtype))
    names = {name: name for name in tensors} if form.names is None else form.names(tensors, config, folder)
    sizes = {name: tensor.numel() * _written(tensor, dtype).itemsize for name, tensor in tensors.items()}
    shards = _split(sizes, max_shard_size)
    stem, ending = os.path.splitext(form.file)
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards):
        whole = len(shards) == 1
        file = folder / (form.file if whole else f"{stem}-{i + 1:05d}-of-{len(shards):05d}{ending}")
        write = form.write if whole else form.write_shard or form.write
        write(file, {names[name]: tensors[name] for name in shard}, dtype)
        weight_map |= {names[name]: file.name for name in shard}
    if len(shards) > 1:
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        text = json.dumps(index, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        (folder / f"{form.file}.index.json").write_text(text, encoding="utf-8")


def bytes_of(size: int | str) -> int:
    """Read a size such as ``"5GB"``: KB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB of 1024.

    Raises
    ------
    ValueError
        If it is none, or less than one byte.
    """
    n = size
    if isinstance(size, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(i?))?B", size)):
        number, unit, binary = match.groups()
        n = int(float(number) * (1024 if binary else 1000) ** _UNITS.get(unit, 0))
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ValueError(f"max_shard_size must be a number of bytes or a text such as '5GB', got {size!r}")
    return n


def _split(sizes: Mapping[str, int], max_shard_size: int | str | None) -> list[list[str]]:
    """Names, in their order, of what goes into each file."""
    most = None if max_shard_size is None else bytes_of(max_shard_size)
    shards: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if most is not None and shards[-1] and used + size > most:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    return shards


def _check_range(file: Path, name: str, tensor: torch.Tensor, dtype: torch.dtype) -> None:
    if tensor.dtype == dtype or not tensor.numel():
        return
    ends = torch.stack(torch.aminmax(tensor.detach()))
    if not torch.isfinite(ends.to(dtype)).all() and torch.isfinite(ends).all():
        low, high = ends.tolist()
        reason = f"cannot hold tensor {name}, from {low:.6g} to {high:.6g}, in {dtype}: write bfloat16 or float32"
        raise CheckpointError(file, reason)


def _written(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
