"""Where the entries of an uncompressed zip archive are. PyTorch's files are such archives, so that they can be mapped."""

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from skxlmr.checkpoints._formats.mapped_file import MOST_TENSORS, MappedFile
from skxlmr.checkpoints._formats.torch_pickle import Unreadable

_END = struct.Struct("<4s4H2LH")  # end of the central directory
_END_64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR_64 = struct.Struct("<4sLQL")
_ENTRY = struct.Struct("<4s6H3L5H2L")
_LOCAL = struct.Struct("<4s5H3L2H")
_SHORT, _LONG = 0xFFFF, 0xFFFFFFFF  # "the real number is in the 64-bit record"
_ENCRYPTED = 0x1
_STORED = 0


@dataclass(frozen=True)
class Entry:
    """Bytes ``start`` to ``end`` of the archive, after a header that begins at ``header``."""

    header: int
    start: int
    end: int


def stored_entries(data: MappedFile) -> dict[str, Entry]:
    """Find the entries of an archive in which nothing is compressed.

    Parameters
    ----------
    data : MappedFile
        The archive.

    Returns
    -------
    dict of str to Entry
        By name. They are within the archive and do not overlap.

    Raises
    ------
    Unreadable
        If the archive is broken, compressed or encrypted, or contradicts itself.
    """
    start, size, n_entries = _directory(data)
    if n_entries > MOST_TENSORS + 100:
        raise Unreadable(f"has {n_entries} entries, expected one per tensor, at most {MOST_TENSORS}")
    entries: dict[str, Entry] = {}
    place = start
    for _ in range(n_entries):
        name, entry, place = _entry(data, place, start)
        if name in entries:
            raise Unreadable(f"has two entries called {name!r:.80}")
        entries[name] = entry
    if place != start + size:
        raise Unreadable("has a directory of another length than it says")
    for before, after in pairwise(sorted(entries.values(), key=lambda entry: entry.header)):
        if before.end > after.header:
            raise Unreadable(f"has entries that overlap, at byte {after.header}")
    return entries


def _directory(data: MappedFile) -> tuple[int, int, int]:
    """Start, size and number of entries of the central directory, from the end of the file."""
    place = data.size - _END.size
    signature, *_, n_entries, size, start, n_comment = _read(_END, data, place)
    if signature != b"PK\x05\x06" or n_comment:
        raise Unreadable("has no end record: the file is truncated, or something was added to it")
    end = place
    if n_entries == _SHORT or _LONG in (size, start):
        signature, _, end, _ = _read(_LOCATOR_64, data, place - _LOCATOR_64.size)
        if signature != b"PK\x06\x07" or end > place:
            raise Unreadable("has no 64-bit record of its directory")
        signature, *_, n_entries, size, start = _read(_END_64, data, end)
        if signature != b"PK\x06\x06":
            raise Unreadable("has no 64-bit record of its directory")
    if not 0 <= start <= start + size <= end <= place or n_entries * _ENTRY.size > size:
        raise Unreadable("has a directory outside the file")
    return start, size, n_entries


def _entry(data: MappedFile, place: int, most: int) -> tuple[str, Entry, int]:
    """Name and place of one entry, which must end before byte ``most``; and where the next one begins."""
    found = _read(_ENTRY, data, place)
    signature, _, _, flags, method, _, _, _, packed, size, n_name, n_extra, n_comment, _, _, _, header = found
    if signature != b"PK\x01\x02":
        raise Unreadable("has a broken directory")
    raw_name = data.take(place + _ENTRY.size, n_name)
    name = raw_name.decode("utf-8", "replace")
    extra = data.take(place + _ENTRY.size + n_name, n_extra)
    size, packed, header = _wide(extra, size, packed, header)
    if method != _STORED or flags & _ENCRYPTED or packed != size:
        raise Unreadable(f"holds {name!r:.80} compressed or encrypted, expected it uncompressed")
    if header + _LOCAL.size > most:
        raise Unreadable(f"places {name!r:.80} outside the file")
    signature, _, _, local_method, _, _, _, _, _, n_local_name, n_local_extra = _read(_LOCAL, data, header)
    start = header + _LOCAL.size + n_local_name + n_local_extra
    local_name = data.take(header + _LOCAL.size, n_local_name)
    if signature != b"PK\x03\x04" or local_method != _STORED or local_name != raw_name:
        raise Unreadable(f"contradicts itself about {name!r:.80}")
    if start + size > most:
        raise Unreadable(f"places {name!r:.80} outside the file")
    return name, Entry(header, start, start + size), place + _ENTRY.size + n_name + n_extra + n_comment


def _read(kind: struct.Struct, data: MappedFile, place: int) -> tuple[Any, ...]:
    return kind.unpack(data.take(place, kind.size))


def _wide(extra: bytes, *numbers: int) -> list[int]:
    """Size, packed size and place, each from the 64-bit field of the entry if the short field is full."""
    place = 0
    while place + 4 <= len(extra):
        kind, length = struct.unpack_from("<HH", extra, place)
        if kind == 1:
            n_wide = sum(number == _LONG for number in numbers)
            if length < 8 * n_wide or len(extra) < place + 4 + length:
                break
            wide = iter(struct.unpack_from(f"<{n_wide}Q", extra, place + 4))
            return [next(wide) if number == _LONG else number for number in numbers]
        place += 4 + length
    return list(numbers)
