"""Write the weights of a model in any format, as one file or as shards with an index."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from numbers import Integral
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.checkpoints._formats.safetensors import writable
from skxlmr.checkpoints._formats.table import Format
from skxlmr.checkpoints._tensor_names import published_names
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import torch

DTYPES = ("float32", "bfloat16", "float16")  # names of torch's
_NAME = re.compile(r"\w+(\.\w+)*", re.ASCII)
MOST_PARTS = 16
_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}


def written_dtype(form: Format, tensors: Tensors, dtype: torch.dtype | str | None) -> torch.dtype | None:
    """Return the dtype that floating tensors are cast to for a requested ``dtype``; None leaves each one unchanged.

    Raises
    ------
    ValueError
        If there is no such dtype, or the format does not have it.
    """
    known = {name: getattr(torch, name) for name in DTYPES}
    wanted = known.get(dtype) if isinstance(dtype, str) else dtype
    if wanted not in (None, *known.values()) or (wanted is None and dtype is not None):
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
    """Write the weights of a model into an existing folder: one file, or shards of a limited size and their index.

    Parameters
    ----------
    folder : Path
        The folder.
    form : Format
        The format.
    tensors : dict of str to Tensor
        With Hugging Face's names. A tensor with two names is written once, under the first.
    config : dict
        Content of ``config.json``.
    dtype : torch.dtype, optional
        What floating tensors are cast to.
    max_shard_size : int or str, optional
        Most bytes of weights per file, such as 2_000_000_000 or ``"2GB"``; a larger tensor gets a file of its own.

    Raises
    ------
    CheckpointError
        If a finite weight would become infinite in ``dtype``.
    """
    tensors = writable(folder / form.file, published_names(tensors) if form.names is None else tensors)
    for name, tensor in tensors.items():
        _check_range(folder / form.file, name, tensor, _dtype_in_file(tensor, dtype))
    names = {name: name for name in tensors}
    if form.names is not None:
        _check_names(folder / form.file, tensors)
        names = form.names(tensors, config, folder)
        for name, foreign in names.items():
            if not f".{name}".endswith(f".{form.index_to_hf(foreign)}"):  # a bare encoder may lose its prefix
                raise CheckpointError(
                    folder / form.file, f"cannot hold tensor {name!r:.80}: it would come back as another"
                )
    sizes = {name: tensor.numel() * _dtype_in_file(tensor, dtype).itemsize for name, tensor in tensors.items()}
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
    """Parse a size such as ``"5GB"``: KB, MB, GB and TB are powers of 1000, KiB, MiB, GiB and TiB of 1024.

    Raises
    ------
    ValueError
        If it is not a size, or less than one byte.
    """
    n = size
    if isinstance(size, str) and (match := re.fullmatch(r"(\d+(?:\.\d+)?) ?(?:([KMGT])(i?))?B", size)):
        number, unit, binary = match.groups()
        n = int(float(number) * (1024 if binary else 1000) ** _UNITS.get(unit, 0))
    if isinstance(n, bool) or not isinstance(n, Integral) or n < 1:
        raise ValueError(f"max_shard_size must be a number of bytes or a string such as '5GB', got {size!r}")
    return int(n)


def _split(sizes: Mapping[str, int], max_shard_size: int | str | None) -> list[list[str]]:
    """Names of the tensors of each file, in order."""
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


def _check_names(file: Path, tensors: Tensors) -> None:
    """Raise CheckpointError unless the tensors have names of modules' parameters, from which paths can be made."""
    parts = {name: name.split(".") for name in tensors}
    parents = {".".join(each[:n]) for each in parts.values() for n in range(1, len(each))}
    for name, each in parts.items():
        if not (_NAME.fullmatch(name) and 1 < len(each) <= MOST_PARTS) or name in parents:
            raise CheckpointError(file, f"cannot hold tensor {name!r:.80}: expected the name of a module's parameter")


def _check_range(file: Path, name: str, tensor: torch.Tensor, dtype: torch.dtype) -> None:
    if tensor.dtype == dtype or not tensor.numel():
        return
    ends = torch.stack(torch.aminmax(tensor.detach()))
    if not torch.isfinite(ends.to(dtype)).all() and torch.isfinite(ends).all():
        low, high = ends.tolist()
        reason = f"cannot hold tensor {name}, from {low:.6g} to {high:.6g}, in {dtype}: write bfloat16 or float32"
        raise CheckpointError(file, reason)


def _dtype_in_file(tensor: torch.Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype
