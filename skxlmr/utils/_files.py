"""Untrusted files, read as bytes or JSON; their size is checked before anything large is allocated."""

import json
import os
import re
import stat
from typing import Any

from skxlmr.utils._errors import CheckpointError

MOST_BYTES = 512 * 2**20
# A JSON value takes up to about 70 bytes in Python; an empty list takes two bytes in the file.
MOST_VALUES = 1_000_000
MOST_BYTES_PER_VALUE = 64
MOST_DEPTH = 64
LONGEST_NAME = 255  # bytes, the limit of most file systems
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_bytes(file: str | os.PathLike[str], most: int = MOST_BYTES) -> bytes:
    """Read a whole file.

    Parameters
    ----------
    file : str or path
        The file. Pipes and devices are refused: they might never end.
    most : int
        Largest size in bytes.

    Returns
    -------
    bytes

    Raises
    ------
    CheckpointError
        If it is missing, unreadable, not a plain file, or too large.
    """
    try:
        status = os.stat(file)
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
            raise CheckpointError(file, "cannot be read (it is a pipe or a device, not a file)")
        if status.st_size > most:
            raise CheckpointError(file, f"has {status.st_size} bytes, expected at most {most}")
        with open(file, "rb") as opened:
            return opened.read(most)
    except OSError as error:
        raise CheckpointError(file, f"cannot be read ({error.strerror})") from error


def read_json(
    file: str | os.PathLike[str], most_values: int = MOST_VALUES, unique_names: bool = False
) -> dict[str, Any]:
    """Read a JSON object.

    Parameters
    ----------
    file : str or path
        The file, in UTF-8.
    most_values : int
        Most numbers, strings, lists and objects it may hold; at most a quarter of them may be lists and objects.
    unique_names : bool
        Refuse an object with two entries of the same name; otherwise the last one counts, as usual.

    Returns
    -------
    dict

    Raises
    ------
    CheckpointError
        If it is missing, unreadable, too large, nested too deeply, or not a JSON object.
    """
    content = read_bytes(file, most_values * MOST_BYTES_PER_VALUE)
    return parse_json(file, content, most_values, unique_names)


def parse_json(
    file: str | os.PathLike[str], content: bytes, most_values: int = MOST_VALUES, unique_names: bool = False
) -> dict[str, Any]:
    """Parse the content of a file; see :func:`read_json`."""
    n_containers = content.count(b"[") + content.count(b"{")
    if n_containers + content.count(b",") > most_values or n_containers > most_values // 4:
        raise CheckpointError(file, f"is not valid JSON for a checkpoint (more than {most_values} values)")
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_unique if unique_names else None)
        if _SURROGATE.search(content):  # half a surrogate pair is not a character, and cannot be encoded later
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(file, f"is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(file, f"expected a JSON object, found {type(value).__name__}")
    if _is_deep(value):
        raise CheckpointError(file, f"is not valid JSON for a checkpoint (nested more than {MOST_DEPTH} levels deep)")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has two entries of the same name")
    return found


def _is_deep(value: dict[str, Any]) -> bool:
    level: list[Any] = [value]
    for _ in range(MOST_DEPTH):
        level = [
            child
            for node in level
            for child in (node.values() if isinstance(node, dict) else node)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return True


def is_plain_name(name: str) -> bool:
    """Whether a name can only mean a file in the same folder, on every operating system."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0") and len(name.encode()) <= LONGEST_NAME
