"""Untrusted files, read as bytes or JSON; their size is checked before anything large is allocated."""

import json
import os
import re
import stat
from typing import Any, BinaryIO

from skxlmr.utils._errors import CheckpointError

MOST_BYTES = 512 * 2**20
# In Python, text takes up to four times its bytes in the file, once as the whole and once as values.
MOST_JSON_BYTES = 16 * 2**20
# A JSON value takes up to about 70 bytes in Python; an empty list takes two bytes in the file.
MOST_VALUES = 1_000_000
MOST_DEPTH = 64
LFS_POINTER = b"version https://git-lfs"
LONGEST_NAME = 255  # bytes, the limit of most file systems
_NOT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # opening a pipe would wait for a writer
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)  # possessive: one pass, whatever it holds
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def is_path(value: Any) -> bool:
    """Whether a value is a path as a str or an object of pathlib; bytes are none."""
    return isinstance(value, str | os.PathLike) and not isinstance(os.fspath(value), bytes)


def check_name(path: str | os.PathLike[str], parameter: str) -> None:
    """Refuse a path that no file can have.

    Raises
    ------
    ValueError
        If there is a NUL in it, or half of a surrogate pair that stands for no byte of a name; names the parameter.
    """
    try:
        is_name = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_name = False
    if not is_name:
        raise ValueError(f"{parameter} has a character that no path may have: {os.fspath(path)!r}")


def open_file(file: str | os.PathLike[str], most: int | None = None, buffering: int = -1) -> BinaryIO:
    """Open a plain file to read it. Its kind and size are those of the file that was opened, not of the name.

    Parameters
    ----------
    file : str or path
        The file. Pipes and devices are refused: they might never end.
    most : int, optional
        Largest size in bytes.
    buffering : int
        As for :func:`open`.

    Raises
    ------
    CheckpointError
        If it is missing, unreadable, not a plain file, or too large.
    """
    try:
        _check_plain(file, os.stat(file), most)  # some devices do something when they are opened
        opened = open(  # noqa: SIM115  # by the caller
            file, "rb", buffering, opener=lambda path, flags: os.open(path, flags | _NOT_WAITING)
        )
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise CheckpointError(file, f"cannot be read ({reason})") from error
    try:
        _check_plain(file, os.fstat(opened.fileno()), most)  # something else may have taken its place
    except CheckpointError:
        opened.close()
        raise
    return opened


def _check_plain(file: str | os.PathLike[str], status: os.stat_result, most: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        found = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise CheckpointError(file, f"cannot be read (it is {found}, not a file)")
    if most is not None and status.st_size > most:
        raise CheckpointError(file, f"has {status.st_size} bytes, expected at most {most}")


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
        If it is missing, unreadable, not a plain file, too large, or a Git LFS pointer.
    """
    with open_file(file, most) as opened:
        try:
            content = opened.read(most)
        except OSError as error:
            raise CheckpointError(file, f"cannot be read ({error.strerror})") from error
    check_no_pointer(file, content)
    return content


def check_no_pointer(file: str | os.PathLike[str], content: bytes) -> None:
    """Refuse what Git leaves in the place of a large file, by how it starts."""
    if content.startswith(LFS_POINTER):
        raise CheckpointError(file, "is a Git LFS pointer, not the file itself: run `git lfs pull` in its repository")


def read_json(
    file: str | os.PathLike[str],
    most_values: int = MOST_VALUES,
    unique_names: bool = False,
    most_bytes: int = MOST_JSON_BYTES,
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
    most_bytes : int
        Largest size of the file.

    Returns
    -------
    dict

    Raises
    ------
    CheckpointError
        If it is missing, unreadable, too large, nested too deeply, or not a JSON object.
    """
    content = read_bytes(file, most_bytes)
    return parse_json(file, content, most_values, unique_names)


def read_json_list(file: str | os.PathLike[str], most_bytes: int = MOST_JSON_BYTES) -> list[Any]:
    """Read a JSON list; see :func:`read_json`."""
    value = _parse(file, read_bytes(file, most_bytes))
    if not isinstance(value, list):
        raise CheckpointError(file, f"expected a JSON list, found {type(value).__name__}")
    return value


def parse_json(
    file: str | os.PathLike[str], content: bytes, most_values: int = MOST_VALUES, unique_names: bool = False
) -> dict[str, Any]:
    """Parse the content of a file; see :func:`read_json`."""
    value = _parse(file, content, most_values, unique_names)
    if not isinstance(value, dict):
        raise CheckpointError(file, f"expected a JSON object, found {type(value).__name__}")
    return value


def _parse(
    file: str | os.PathLike[str], content: bytes, most_values: int = MOST_VALUES, unique_names: bool = False
) -> Any:
    if _has_more(content, most_values) and _has_more(_STRING.sub(b"", content), most_values):
        raise CheckpointError(file, f"is not valid JSON for a checkpoint (more than {most_values} values)")
    try:
        value = json.loads(content.decode("utf-8"), object_pairs_hook=_unique if unique_names else None)
        if _SURROGATE.search(content):  # half a surrogate pair is not a character, and cannot be encoded later
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as error:
        raise CheckpointError(file, f"is not valid JSON ({error})") from error
    if isinstance(value, dict | list) and _is_deep(value):
        raise CheckpointError(file, f"is not valid JSON for a checkpoint (nested more than {MOST_DEPTH} levels deep)")
    return value


def _has_more(content: bytes, most_values: int) -> bool:
    """Whether there may be more values, or more than a quarter as many lists and objects."""
    n_containers = content.count(b"[") + content.count(b"{")
    return n_containers + content.count(b",") > most_values or n_containers > most_values // 4


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object has two entries of the same name")
    return found


def _is_deep(value: dict[str, Any] | list[Any]) -> bool:
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


def check_utf8(path: str | os.PathLike[str]) -> None:
    """Refuse a path that is not UTF-8: several of the libraries that read and write files can't open it.

    Raises
    ------
    CheckpointError
        If it is not.
    """
    try:
        os.fsdecode(path).encode("utf-8")
    except UnicodeEncodeError as error:
        shown = os.fsdecode(path).encode("utf-8", "backslashreplace").decode()
        raise CheckpointError(shown, "is not UTF-8, so the folder can't be used: rename it, or use another") from error


def is_plain_name(name: str) -> bool:
    """Whether a name can only mean a file in the same folder, on every operating system."""
    return name not in ("", ".", "..") and not set(name) & set("/\\:\0") and len(name.encode()) <= LONGEST_NAME
