"""Flax's format: a msgpack tree of names with arrays as leaves, as ``flax.serialization`` writes it.

The reader parses the mapped file itself, since the msgpack package would copy all of it. The vocabulary of the format is
small: maps with string keys, and arrays as extension type 1, which holds shape, name of the dtype and the numbers. Arrays
above 1 GiB are split into chunks, since msgpack allows at most 4 GiB in one piece.

Reference: https://github.com/msgpack/msgpack/blob/master/spec.md and ``flax/serialization.py``.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

from skxlmr.checkpoints._formats.mapped_file import MOST_DIMENSIONS, MappedFile, Tensors
from skxlmr.nn import FAMILIES
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import torch
from skxlmr.utils._imports.optional import import_extra

ARRAY = 1  # Flax's extension type of arrays; complex and single numbers have others
DTYPES = ("float16", "bfloat16", "float32", "float64")  # names of torch's too
CHUNKED = "__msgpack_chunked_array__"
CHUNK = 2**30  # bytes
ENCODERS = {family.prefix for family in FAMILIES.values()}  # names of encoders in models with a head
MOST_DEPTH = 32
MOST_VALUES = 200_000  # each takes a few hundred bytes in Python
LONGEST_NAME = 1000
# The kind of value that a byte introduces, and the number of bytes of the number or length that follows.
_LONG = {
    0xC4: ("bytes", 1), 0xC5: ("bytes", 2), 0xC6: ("bytes", 4),
    0xC7: ("extension", 1), 0xC8: ("extension", 2), 0xC9: ("extension", 4),
    0xCC: ("number", 1), 0xCD: ("number", 2), 0xCE: ("number", 4), 0xCF: ("number", 8),
    0xD9: ("string", 1), 0xDA: ("string", 2), 0xDB: ("string", 4),
    0xDC: ("array", 2), 0xDD: ("array", 4),
    0xDE: ("map", 2), 0xDF: ("map", 4),
}  # fmt: skip
# Kinds of value with the number or length in the byte itself: its offset from the first of the range.
_SHORT = (("number", 0x00, 0x7F), ("map", 0x80, 0x8F), ("array", 0x90, 0x9F), ("string", 0xA0, 0xBF))
_BOOLS = {0xC2: False, 0xC3: True}
_EXTENSIONS = range(0xD4, 0xD9)  # of 1, 2, 4, 8 and 16 bytes
_ENDINGS = {"kernel": "weight", "embedding": "weight", "scale": "weight"}


def read_flax_msgpack(file: str | os.PathLike[str]) -> Tensors:
    """Map a ``flax_model.msgpack``, or a shard of one.

    Parameters
    ----------
    file : str or path
        The file.

    Returns
    -------
    dict of str to Tensor
        With Hugging Face's names and the dtypes of the file; what Flax stores transposed is a transposed view. Tensors
        share the pages of the file, or are copies where they are not aligned, which the format does not care about.

    Raises
    ------
    CheckpointError
        If the file cannot be read, is broken, or holds anything but a tree of floating-point arrays.
    """
    reader = _Reader(MappedFile(file))
    tree = reader.value()
    if reader.position != reader.mapped.size:
        raise CheckpointError(file, f"has {reader.mapped.size - reader.position} bytes after its end")
    if not isinstance(tree, dict) or not tree:
        raise CheckpointError(file, "expected named arrays, found something else")
    return renamed(file, _leaves(tree, reader), flax_to_hf)


def renamed(
    file: str | os.PathLike[str], arrays: Iterable[tuple[str, torch.Tensor]], to_hf: Callable[[str], str]
) -> Tensors:
    """Return arrays by Hugging Face's names and in PyTorch's orientation; CheckpointError if two have the same name."""
    tensors: Tensors = {}
    for path, tensor in arrays:
        name = to_hf(path)
        if name in tensors:
            raise CheckpointError(file, f"holds tensor {name!r:.200} twice")
        is_kernel = path.removesuffix(":0").endswith("/kernel") and tensor.ndim == 2
        tensors[name] = tensor.t() if is_kernel else tensor
    return tensors


def flax_to_hf(path: str) -> str:
    """Hugging Face's name of, for example, ``encoder/layer/0/output/dense/kernel``."""
    *parts, last = path.split("/")
    return ".".join([*parts, _ENDINGS.get(last, last)])


def flax_names(tensors: Tensors, config: Mapping[str, Any], folder: str | os.PathLike[str]) -> dict[str, str]:
    """Map Hugging Face's names of a model's tensors to Flax's.

    Parameters
    ----------
    tensors : dict of str to Tensor
        The whole model.
    config, folder
        Not used: Flax's names do not depend on the class, and all heads can be written.

    Returns
    -------
    dict of str to str
        Values such as ``encoder/layer/0/output/dense/kernel``. A bare encoder has no prefix, as in Flax's classes.
    """
    prefixes = {name.partition(".")[0] for name in tensors}
    prefix = f"{min(prefixes)}." if len(prefixes) == 1 and prefixes <= ENCODERS else ""
    return {name: _flax_name(name.removeprefix(prefix), tensor.ndim) for name, tensor in tensors.items()}


def _flax_name(name: str, n_dimensions: int) -> str:
    *parts, last = name.split(".")
    if last == "weight" and n_dimensions == 1:
        last = "scale"
    elif last == "weight":
        last = "embedding" if name.endswith("embeddings.weight") else "kernel"
    return "/".join([*parts, last])


def write_flax_msgpack(file: Path, tensors: Tensors, dtype: torch.dtype | None = None) -> None:
    """Write a ``flax_model.msgpack``, or a shard of one, as ``flax.serialization.to_bytes`` would.

    Parameters
    ----------
    file : Path
        The file to write.
    tensors : dict of str to Tensor
        With the names of :func:`flax_names`, in PyTorch's orientation.
    dtype : torch.dtype, optional
        What they are cast to, one after another; by default they keep their dtype.

    Raises
    ------
    CheckpointError
        If the dtype of a tensor is not a floating-point dtype that Flax reads.
    ImportError
        If msgpack is not installed.
    """
    packer = import_extra("msgpack", "flax", f"writing {file.name}").Packer()
    tree: dict[str, Any] = {}
    for path in sorted(tensors, key=lambda path: path.split("/")):
        *parts, last = path.split("/")
        node = tree
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = tensors[path].t() if last == "kernel" else tensors[path]
        if str(dtype or node[last].dtype).removeprefix("torch.") not in DTYPES:
            raise CheckpointError(file, f"cannot hold {path}, which has dtype {node[last].dtype}")
    with open(file, "wb") as opened:
        _write(opened, packer, tree, dtype)


def _write(opened: BinaryIO, packer: Any, value: Any, dtype: torch.dtype | None) -> None:
    if isinstance(value, dict):
        opened.write(packer.pack_map_header(len(value)))
        for name, child in value.items():
            opened.write(packer.pack(name))
            _write(opened, packer, child, dtype)
    elif isinstance(value, torch.Tensor):
        whole = value.detach().to("cpu", dtype).contiguous()
        if whole.nbytes > CHUNK:
            _write(opened, packer, _chunked(whole), None)
        else:
            _write_array(opened, packer, whole)
    else:
        opened.write(packer.pack(value))


def _write_array(opened: BinaryIO, packer: Any, array: torch.Tensor) -> None:
    name = str(array.dtype).removeprefix("torch.")
    head = packer.pack_array_header(3) + packer.pack(list(array.shape)) + packer.pack(name)
    head += _length(b"\xc4\xc5\xc6", array.nbytes)
    n = len(head) + array.nbytes
    short = n.bit_length() - 1 if n in (1, 2, 4, 8, 16) else None
    opened.write(_length(b"\xc7\xc8\xc9", n) if short is None else bytes([_EXTENSIONS[short]]))
    opened.write(bytes([ARRAY]) + head)
    if array.nbytes:
        opened.write(array.reshape(-1).view(torch.uint8).numpy().data)  # no copy: it may be a gigabyte


def _length(codes: bytes, n: int) -> bytes:
    """The shortest header of ``n`` bytes; ``codes`` are those for lengths of 1, 2 and 4 bytes."""
    i = (n >= 2**8) + (n >= 2**16)
    return struct.pack(f">B{'BHI'[i]}", codes[i], n)


def _chunked(array: torch.Tensor) -> dict[str, Any]:
    chunks = array.reshape(-1).split(CHUNK // array.dtype.itemsize)
    return {
        CHUNKED: True,
        "shape": {str(i): n for i, n in enumerate(array.shape)},
        "chunks": {str(i): chunk for i, chunk in enumerate(chunks)},
    }


def _leaves(tree: dict[str, Any], reader: _Reader, path: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    for name, value in tree.items():
        here = f"{path}/{name}" if path else name
        if isinstance(value, torch.Tensor):
            yield here, value
        elif isinstance(value, dict) and CHUNKED in value:
            yield here, _joined(value, here, reader)
        elif isinstance(value, dict):
            yield from _leaves(value, reader, here)
        else:
            raise reader.error(f"holds a {type(value).__name__} at {here!r:.200}, expected an array")


def _joined(value: dict[str, Any], path: str, reader: _Reader) -> torch.Tensor:
    shape, chunks = (_in_order(value.get(part)) for part in ("shape", "chunks"))
    fits = (
        all(type(n) is int for n in shape)
        and all(isinstance(chunk, torch.Tensor) and chunk.ndim == 1 for chunk in chunks)
        and len({chunk.dtype for chunk in chunks}) == 1
        and 1 <= len(shape) <= MOST_DIMENSIONS
        and prod(shape) == sum(map(len, chunks)) > 0
    )
    if not fits:
        raise reader.error(f"holds chunks at {path!r:.200} that do not form an array")
    return torch.cat(chunks).view(*shape)


def _in_order(value: Any) -> list[Any]:
    """The sequence that Flax wrote as a dict ``{"0": ..., "1": ...}``; empty if it is not one."""
    if not isinstance(value, dict) or value.keys() != {str(i) for i in range(len(value))}:
        return []
    return [value[str(i)] for i in range(len(value))]


class _Reader:
    """Parses the file; ``position`` is where the next value begins."""

    def __init__(self, mapped: MappedFile):
        self.mapped = mapped
        self.position = 0
        self._n_values = 0

    def value(self, depth: int = 0) -> Any:
        """The next value: a dict, a tensor, an integer or a bool."""
        self._n_values += 1
        if depth > MOST_DEPTH or self._n_values > MOST_VALUES:
            raise self.error(f"nests deeper than {MOST_DEPTH} levels, or holds more than {MOST_VALUES} values")
        kind, n = self._head()
        if kind == "map":
            return self._map(n, depth)
        if kind == "extension":
            return self._array(n)
        if kind in ("number", "bool"):
            return n
        raise self.error(f"holds a msgpack {kind}, expected a map or an array")

    def error(self, reason: str) -> CheckpointError:
        """The exception to raise."""
        return CheckpointError(self.mapped.file, f"is not a Flax checkpoint: it {reason}")

    def _take(self, n: int) -> bytes:
        taken = self.mapped.take(self.position, n)
        self.position += n
        return taken

    def _head(self) -> tuple[str, int]:
        """Kind of the next value, and its number or length."""
        code = self._take(1)[0]
        for kind, first, last in _SHORT:
            if first <= code <= last:
                return kind, code - first
        if code in _LONG:
            kind, width = _LONG[code]
            return kind, int.from_bytes(self._take(width), "big")
        if code in _EXTENSIONS:
            return "extension", 1 << _EXTENSIONS.index(code)
        if code in _BOOLS:
            return "bool", _BOOLS[code]
        raise self.error(f"has byte 0x{code:02x} at {self.position - 1}, with which no value of Flax begins")

    def _sized(self, wanted: str) -> int:
        kind, n = self._head()
        if kind != wanted:
            raise self.error(f"holds a msgpack {kind} at {self.position}, expected a {wanted}")
        return n

    def _text(self) -> str:
        n = self._sized("string")
        if n > LONGEST_NAME:
            raise self.error(f"has a name of {n} bytes, expected at most {LONGEST_NAME}")
        try:
            return self._take(n).decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.error(f"has a name that is not UTF-8 ({error})") from None

    def _map(self, n: int, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for _ in range(n):  # each round takes at least two bytes of the file
            name = self._text()
            if name in values:
                raise self.error(f"holds {name!r:.200} twice in one map")
            values[name] = self.value(depth + 1)
        return values

    def _array(self, n: int) -> torch.Tensor:
        kind = self._take(1)[0]
        if kind != ARRAY:
            raise self.error(f"holds extension type {kind}, expected {ARRAY} (an array)")
        end = self.position + n
        if self._sized("array") != 3:
            raise self.error("describes an array by anything but shape, dtype and numbers")
        n_dimensions = self._sized("array")
        if n_dimensions > MOST_DIMENSIONS:
            raise self.error(f"holds an array of {n_dimensions} dimensions, expected at most {MOST_DIMENSIONS}")
        shape = [self._sized("number") for _ in range(n_dimensions)]
        name = self._text()
        if name not in DTYPES:
            raise self.error(f"holds an array of dtype {name!r:.40}, expected one of {', '.join(DTYPES)}")
        n_bytes = self._sized("bytes")
        if n_bytes != prod(shape) * getattr(torch, name).itemsize or self.position + n_bytes != end:
            raise self.error(f"says that {n_bytes} bytes are an array of shape {tuple(shape)} and dtype {name}")
        tensor = self.mapped.tensor(self.position, shape, getattr(torch, name))
        self.position = end
        return tensor
