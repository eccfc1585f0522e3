"""PyTorch's ``.bin`` format, read without ever executing its pickle."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._formats.mapped_file import MOST_TENSORS, MappedFile, Tensors
from skxlmr.checkpoints._formats.torch_pickle import NeedsCode, NoStateDict, Slice, Storage, Unreadable, read_pickle
from skxlmr.checkpoints._formats.torch_zip import stored_entries
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._imports.later import torch

ZIP = b"PK\x03\x04"
LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled magic number of torch.save before version 1.6
LEGACY_VERSION = 1001
MOST_PICKLE = 32 * 2**20  # bytes; the largest models need 0.1 MB


def read_torch_bin(file: str | os.PathLike[str]) -> Tensors:
    """Map a state dict written by ``torch.save``: a zip archive (torch 1.6 and later), or the older format.

    Its pickle is read as a description of tensors, by an interpreter that knows nothing else: no code is executed, and
    nothing is allocated because the file says so. The mapping is private: writing to a tensor leaves the file unchanged.

    Parameters
    ----------
    file : str or path
        The file.

    Returns
    -------
    dict of str to Tensor
        With the names and dtypes of the file.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is broken or compressed, describes more tensors than it has bytes for, holds anything
        but named tensors, or would need code to be executed.
    """
    try:
        data = MappedFile(file)
        head = data.take(0, min(len(LEGACY), data.size))
        if not head.startswith((ZIP, LEGACY)):
            reason = "is not a PyTorch file: it starts neither as a zip archive nor as its older format"
            raise CheckpointError(file, reason)
        state, places = (_read_zip if head.startswith(ZIP) else _read_legacy)(data)
        return _tensors(data, _named_slices(state), places)
    except NeedsCode as error:
        reason = f"is broken, or holds more than tensors: it asks for {str(error)!r:.80}, and skxlmr executes no code"
        raise CheckpointError(file, f"{reason} (convert it to safetensors if you trust it)") from error
    except NoStateDict as error:
        raise CheckpointError(file, f"is not a state dict of PyTorch: it {error}") from error
    except Unreadable as error:
        raise CheckpointError(file, f"is not a whole PyTorch file: it {error}") from error


def write_torch_bin(file: Path, tensors: Tensors, dtype: torch.dtype | None = None) -> None:
    """Write a state dict with ``torch.save``.

    Parameters
    ----------
    file : Path
        The file to write.
    tensors : dict of str to Tensor
        On any device.
    dtype : torch.dtype, optional
        What floating tensors are cast to; by default they keep their dtype.

    Raises
    ------
    CheckpointError
        If the file cannot be written.
    """
    state: Tensors = {}
    for name, tensor in tensors.items():
        whole = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else None).contiguous()
        # torch.save would write all of the memory that a slice is part of.
        state[name] = whole if whole.untyped_storage().nbytes() == whole.nbytes else whole.clone()
    with blaming(file, "cannot be written ({})", OSError, RuntimeError):
        torch.save(state, file)


def _read_zip(data: MappedFile) -> tuple[Any, dict[str, tuple[int, int]]]:
    """The content of the pickle, and the place of each storage."""
    entries = stored_entries(data)
    pickles = [name for name in entries if name.endswith("/data.pkl")]
    if len(pickles) != 1:
        raise Unreadable(f"has {len(pickles)} pickles, expected one")
    root = pickles[0].removesuffix("data.pkl")
    order = entries.get(f"{root}byteorder")
    if order is not None and data.take(order.start, min(order.end - order.start, 8)) != b"little":
        raise Unreadable("was written by a big-endian machine: save it again on a little-endian one")
    pickle = entries[pickles[0]]
    if pickle.end - pickle.start > MOST_PICKLE:
        raise Unreadable(f"has a pickle of {pickle.end - pickle.start} bytes, expected at most {MOST_PICKLE}")
    state = read_pickle(io.BytesIO(data.take(pickle.start, pickle.end - pickle.start)))
    prefix = f"{root}data/"
    return state, {
        name.removeprefix(prefix): (at.start, at.end) for name, at in entries.items() if name.startswith(prefix)
    }


def _read_legacy(data: MappedFile) -> tuple[Any, dict[str, tuple[int, int]]]:
    """The same for the older format: five pickles, then the storages one after another, each after its length."""
    stream = io.BytesIO(data.take(0, min(data.size, MOST_PICKLE)))
    _, version, system, state, keys = (read_pickle(stream) for _ in range(5))
    if version != LEGACY_VERSION or not isinstance(system, dict) or not isinstance(keys, list):
        raise Unreadable("is of an unknown version")
    if system.get("little_endian") is not True:
        raise Unreadable("was written by a big-endian machine: save it again on a little-endian one")
    sizes = {s.storage.key: s.storage.dtype.itemsize for s in _named_slices(state).values()}
    places: dict[str, tuple[int, int]] = {}
    start = stream.tell()
    for key in keys:
        if not isinstance(key, str) or key not in sizes or key in places:
            raise Unreadable("is truncated, or lists its storages wrongly")
        (n_numbers,) = struct.unpack("<Q", data.take(start, 8))
        places[key] = (start + 8, start + 8 + n_numbers * sizes[key])
        start = places[key][1]
    if start != data.size:
        raise Unreadable("is truncated, or something was added to it")
    return state, places


def _named_slices(state: Any) -> dict[str, Slice]:
    """Check that the pickle describes named tensors."""
    if not isinstance(state, dict):
        raise NoStateDict(f"holds a {_kind(state)}, expected named tensors")
    for name, value in state.items():
        if isinstance(value, dict) and isinstance(next(iter(value.values()), None), Slice):
            save = f"torch.save(torch.load(file, map_location='cpu')[{name!r:.80}], file)"
            raise NoStateDict(
                f"holds named tensors under {name!r:.80}, as training programs write them: keep these alone ({save})"
            )
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Slice):
            raise NoStateDict(f"holds a {_kind(value)} under {name!r:.80}, expected named tensors")
    if len(state) > MOST_TENSORS:
        raise Unreadable(f"names {len(state)} tensors, expected at most {MOST_TENSORS}")
    return state


def _kind(value: Any) -> str:
    return "Tensor" if isinstance(value, Slice) else type(value).__name__


def _tensors(data: MappedFile, slices: dict[str, Slice], places: dict[str, tuple[int, int]]) -> Tensors:
    """Tensors over the bytes of the file."""
    storages: dict[str, tuple[Storage, torch.Tensor]] = {}
    tensors: Tensors = {}
    total = 0
    for name, piece in slices.items():
        storage, size = piece.storage, piece.storage.dtype.itemsize
        if storage.key not in storages:
            start, end = places.get(storage.key, (0, -1))
            n = storage.size * size
            if end - start < n:
                raise Unreadable(f"holds fewer bytes for tensor {name!r:.80} than the {n} it describes")
            storages[storage.key] = storage, data.tensor(start, (storage.size,), storage.dtype)
        known, numbers = storages[storage.key]
        if known != storage:
            raise Unreadable(f"contradicts itself about the storage of tensor {name!r:.80}")
        tensors[name] = numbers.as_strided(piece.shape, piece.strides, piece.offset)
        total += tensors[name].numel() * size
    if total > 2 * data.size:  # tied weights may be listed twice
        raise Unreadable(f"describes {total} bytes of tensors in {data.size} bytes")
    return tensors
