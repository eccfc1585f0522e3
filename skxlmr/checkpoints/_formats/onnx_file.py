"""Which further files an ONNX file keeps its tensors in, read before anything else opens it.

ONNX Runtime maps every file that the graph names. A graph from elsewhere could name any file of the machine, so the names are
looked at first. Only these fields of the protocol buffers are read; the tensors are skipped, and nothing needs the package
onnx.
"""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import open_file

MOST_DEPTH = 64  # of messages in messages: three for each graph inside a graph, such as a branch of an If
# Which fields of a message hold which messages, as far as tensors lie in them.
MESSAGES: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}


def external_files(file: str | os.PathLike[str]) -> list[str]:
    """Names of the files beside an ONNX file that hold its tensors, sorted.

    Parameters
    ----------
    file : str or path

    Returns
    -------
    list of str
        Each a plain relative path inside the file's folder, of a file that is there.

    Raises
    ------
    CheckpointError
        If the file is missing or no ONNX file, names a file outside its folder, or one that is missing.
    """
    file = Path(file)
    with open_file(file) as opened, blaming(file, "cannot be read ({})", OSError):
        if not os.fstat(opened.fileno()).st_size:
            raise CheckpointError(file, "is empty")
        with (
            mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as content,
            blaming(file, "is not an ONNX file, or damaged ({})", ValueError),
        ):
            names = sorted(set(_locations(content, 0, len(content), "model", 0)))
    for name in names:
        if not name or set(name) & set("\\:\0") or os.path.isabs(name) or ".." in name.split("/"):
            raise CheckpointError(file, f"keeps its weights in {name!r:.200}, which is not a file of its own folder")
        if not (file.parent / name).is_file():
            raise CheckpointError(file.parent / name, f"is missing: {file.name} keeps its weights in it")
    return names


def _locations(content: mmap.mmap, start: int, end: int, kind: str, depth: int) -> Iterator[str]:
    """What the entries ``location`` say of all tensors in a message."""
    if depth > MOST_DEPTH:
        raise ValueError("graphs in graphs without end")
    inner = MESSAGES[kind]
    for number, first, last in _fields(content, start, end):
        message = inner.get(number)
        if message == "entry":
            entry = {n: content[a:b].decode() for n, a, b in _fields(content, first, last)}
            if entry.get(1) == "location":
                yield entry.get(2, "")
        elif message is not None:
            yield from _locations(content, first, last, message, depth + 1)


def _fields(content: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number and place of each field that has a length: texts, bytes and messages."""
    while start < end:
        tag, start = _varint(content, start, end)
        number, wire = tag >> 3, tag & 7
        if wire == 2:
            length, start = _varint(content, start, end)
            if length > end - start:
                raise ValueError("it ends too early")
            yield number, start, start + length
            start += length
        elif wire == 0:
            _, start = _varint(content, start, end)
        elif wire in (1, 5):
            start += 8 if wire == 1 else 4
        else:
            raise ValueError(f"an unknown kind of field, {wire}")
    if start != end:
        raise ValueError("it ends too early")


def _varint(content: mmap.mmap, start: int, end: int) -> tuple[int, int]:
    """A number in groups of 7 bits, and where it ends."""
    value = 0
    for shift in range(0, 70, 7):
        if start >= end:
            raise ValueError("it ends too early")
        byte = content[start]
        start += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, start
    raise ValueError("a number without end")
