"""Rows of files, in chunks that begin at the same rows in each call.

A chunk is an Arrow table or, of JSON Lines, a list of dicts. Columns of CSV are texts, an empty field is null.
"""

import codecs
import gzip
import io
import json
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from skxlmr.cli._files import Format, UsageError, format_of

if TYPE_CHECKING:
    import pyarrow as pa

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, UnicodeDecodeError)  # what reading such a file may raise
BUFFER = 2**20  # bytes of a column that are read at a time
BLOCK = 2**23  # bytes of a CSV file; no row may be longer


@dataclass(frozen=True)
class Chunk:
    """Some rows of a file.

    Attributes
    ----------
    file : int
        Which of the files.
    start : int
        Number of the first row in the file, from 0.
    rows : pyarrow.Table or list of dict
    share : float
        Of the file, up to the end of the chunk.
    """

    file: int
    start: int
    rows: Any
    share: float


class Reader:
    """Reads the files of a call.

    Parameters
    ----------
    files : list of Path
        All of one format.
    size : int
        Rows of a chunk; the last one of a file may have fewer.
    needed : list of str, optional
        Columns to read; all if there are none.

    Raises
    ------
    UsageError
        If a file can't be read, or has other columns than the first one, or of types that do not fit into its own.
    """

    def __init__(self, files: list[Path], size: int, needed: list[str] | None):
        self.files, self.size, self.needed = files, size, needed
        self.format: Format = format_of(files[0])
        self.schema: pa.Schema | None = None  # of what is read; JSON Lines have none
        if self.format.kind != "jsonl":
            self.schema = self._selected(self._schema(files[0]))
            for file in files[1:]:
                if (found := self._selected(self._schema(file))).names != self.schema.names:
                    raise UsageError(
                        f"{file} has the columns {', '.join(found.names)}, and {files[0]} has {', '.join(self.schema.names)}"
                    )
                self.schema = _widened(self.schema, found)
                for known, field in zip(self.schema, found, strict=True):
                    if not _holds(known.type, field.type):
                        raise UsageError(
                            f"{file}: the column {field.name!r} is {field.type}, and in {files[0]} {known.type}, which can't "
                            "hold it: convert it, or choose other columns with --columns"
                        )

    def n_rows(self) -> int | None:
        """Rows of all files, where the files say it."""
        if self.format.kind != "parquet":
            return None
        return sum(_opened_parquet(file).metadata.num_rows for file in self.files)

    def chunks(self, file: int = 0, start: int = 0) -> Iterator[Chunk]:
        """Chunks from this row of this file on, which must be the first of a chunk; one without rows for an empty input."""
        read = {"parquet": self._parquet, "csv": self._csv, "jsonl": self._json}[self.format.kind]
        for k in range(file, len(self.files)):
            row = start if k == file else 0
            with _blaming(self.files[k]):
                for rows, share in read(self.files[k], row):
                    if len(rows) or row == 0:  # of an empty file too, so that the parts say that it was read
                        yield Chunk(k, row, rows, share)
                    row += len(rows)

    def _schema(self, file: Path) -> Any:
        with _blaming(file):
            if self.format.kind == "parquet":
                return _opened_parquet(file).schema_arrow
            import pyarrow as pa

            with _text_file(file) as (stream, _), _opened_csv(stream, {}) as csv:
                return pa.schema([(name, pa.string()) for name in csv.schema.names])

    def _selected(self, schema: Any) -> Any:
        import pyarrow as pa

        if len(set(schema.names)) < len(schema.names):
            twice = next(name for name in schema.names if schema.names.count(name) > 1)
            raise UsageError(f"{self.files[0]}: two columns have the name {twice!r}")
        if self.needed is None:
            return schema
        for name in self.needed:
            if name not in schema.names:
                raise no_column(name, schema.names, self.files[0])
        return pa.schema([schema.field(name) for name in schema.names if name in self.needed], schema.metadata)

    def _parquet(self, file: Path, start: int) -> Iterator[tuple[Any, float]]:
        import pyarrow as pa

        parquet = _opened_parquet(file)
        metadata, assert_schema = parquet.metadata, self.schema
        assert assert_schema is not None
        groups, skip = list(range(metadata.num_row_groups)), start
        while groups and metadata.row_group(groups[0]).num_rows <= skip:
            skip -= metadata.row_group(groups.pop(0)).num_rows
        names = None if self.needed is None else assert_schema.names
        batches = parquet.iter_batches(self.size, row_groups=groups, columns=names) if groups else ()
        tables = (pa.Table.from_batches([batch]).select(assert_schema.names).cast(assert_schema) for batch in batches)
        row = start
        for table in _of_size(tables, self.size, skip, assert_schema):
            row += len(table)
            yield table, row / max(metadata.num_rows, 1)

    def _csv(self, file: Path, start: int) -> Iterator[tuple[Any, float]]:
        import pyarrow as pa

        schema = self.schema
        assert schema is not None
        with _text_file(file) as (stream, share):
            types = dict.fromkeys(self._schema(file).names, pa.string())
            with _opened_csv(stream, types) as csv:
                tables = (pa.Table.from_batches([batch]).select(schema.names) for batch in csv)
                for table in _of_size(tables, self.size, start, schema):
                    yield table, share()

    def _json(self, file: Path, start: int) -> Iterator[tuple[Any, float]]:
        rows: list[dict[str, Any]] = []
        is_empty, n_skipped = True, 0
        with _text_file(file) as (stream, share):
            for number, line in enumerate(stream, 1):
                if not line.strip():
                    continue
                if n_skipped < start:
                    n_skipped += 1
                    continue
                rows.append(_parsed(line, file, number))
                if len(rows) == self.size:
                    yield rows, share()
                    rows, is_empty = [], False
        if rows or is_empty:
            yield rows, 1.0


def _widened(schema: Any, other: Any) -> Any:
    """A schema whose floats are as wide as in either, since Arrow rounds them where it casts, and whose nulls get a type."""
    import pyarrow as pa

    for i, name in enumerate(schema.names):
        own, theirs = schema.field(i).type, other.field(name).type
        are_floats = pa.types.is_floating(own) and pa.types.is_floating(theirs)
        if pa.types.is_null(own) or (are_floats and own.bit_width < theirs.bit_width):
            schema = schema.set(i, schema.field(i).with_type(theirs))
    return schema


def no_column(name: str, names: list[str], file: Path) -> UsageError:
    """What to say of a column that a file does not have."""
    return UsageError(f"{file} has no column {name!r}; it has {', '.join(map(repr, names)) or 'none'}")


def as_table(rows: list[dict[str, Any]], schema: Any, file: Path, start: int) -> Any:
    """Rows of JSON Lines as a table.

    Parameters
    ----------
    rows : list of dict
    schema : pyarrow.Schema, optional
        Of the rows before them; without one it is found in the rows.
    file : Path
        Where they are from, for messages.
    start : int
        Number of the first one.

    Raises
    ------
    UsageError
        If they do not fit into one table.
    """
    import pyarrow as pa

    names = list(dict.fromkeys(name for row in rows for name in row))
    new = [] if schema is None else [name for name in names if name not in schema.names]
    if new:
        row = next(row for row, values in enumerate(rows) if new[0] in values)
        raise UsageError(
            f"{file} row {start + row}: has {new[0]!r}, which no row of the first part has: write JSON Lines, or choose the "
            "columns to keep with --columns"
        )
    try:
        values = {name: [row.get(name) for row in rows] for name in (names if schema is None else schema.names)}
        found = pa.schema([(name, pa.array(column).type) for name, column in values.items()])
        for field in found:
            if schema is not None and not _holds(known := schema.field(field.name).type, field.type):
                raise pa.ArrowTypeError(f"{field.name!r} is {field.type} and was {known} in the first part")
            if _has_truth_among_floats(values[field.name], field.type):
                raise pa.ArrowTypeError(f"{field.name!r} has truth values among numbers")
        schema = found if schema is None else schema
        return pa.Table.from_arrays([pa.array(values[field.name], field.type) for field in schema], schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, UnicodeEncodeError) as error:
        raise UsageError(
            f"{file} rows {start} to {start + len(rows) - 1}: a column holds values of several types ({error}): write JSON "
            "Lines, or choose the columns to keep with --columns"
        ) from error


def _holds(known: Any, found: Any) -> bool:
    """Whether a column of one type loses nothing of values of the other, or Arrow raises an error where it does."""
    import pyarrow as pa

    if pa.types.is_struct(found) and pa.types.is_struct(known):
        names = [field.name for field in known]
        return all(field.name in names and _holds(known.field(field.name).type, field.type) for field in found)
    if _kind(found) == _kind(known) == "list":
        return _holds(known.value_type, found.value_type)
    if pa.types.is_floating(found) and _kind(known) == "number":
        return pa.types.is_floating(known) and bool(found.bit_width <= known.bit_width)
    return pa.types.is_null(found) or _kind(found) == _kind(known)


def _has_truth_among_floats(values: list[Any], arrow_type: Any) -> bool:
    """Whether Arrow would make 1.0 of true."""
    import pyarrow as pa

    if pa.types.is_list(arrow_type):
        return _has_truth_among_floats([each for value in values if value for each in value], arrow_type.value_type)
    if pa.types.is_struct(arrow_type):
        rows = [value for value in values if value]
        return any(_has_truth_among_floats([row.get(field.name) for row in rows], field.type) for field in arrow_type)
    return pa.types.is_floating(arrow_type) and any(isinstance(value, bool) for value in values)


def _kind(arrow_type: Any) -> str:
    """What a type has in common with those that Arrow casts it to without changing values."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(arrow_type):
        return _kind(arrow_type.value_type)
    if types.is_integer(arrow_type) or types.is_floating(arrow_type):
        return "number"
    if types.is_timestamp(arrow_type):
        return "timestamp" if arrow_type.tz is None else "timestamp of a zone"
    name = str(arrow_type).removeprefix("large_").removeprefix("fixed_size_")  # such as large_list<item: double>
    return re.split(r"[\[<(]|_view", name)[0]


def _parsed(line: bytes, file: Path, number: int) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{file} line {number}: is not JSON ({error})") from error
    if not isinstance(row, dict):
        raise UsageError(f"{file} line {number}: expected a JSON object, got a {type(row).__name__}")
    return row


def _of_size(tables: Iterator[Any], size: int, skip: int, schema: Any) -> Iterator[Any]:
    """The same rows without the first ones, in tables of one size; at least one table."""
    import pyarrow as pa

    held, n_held, n_made = [], 0, 0
    for table in tables:
        n_skipped = min(skip, len(table))
        skip -= n_skipped
        table = table.slice(n_skipped)
        while n_held + len(table) >= size:
            held.append(table.slice(0, size - n_held))
            table = table.slice(size - n_held)
            yield pa.concat_tables(held)
            held, n_held, n_made = [], 0, n_made + 1
        if len(table):
            held.append(table)
            n_held += len(table)
    if held or not n_made:
        yield pa.concat_tables(held) if held else schema.empty_table()


def _opened_parquet(file: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _blaming(file):
        return pq.ParquetFile(pa.OSFile(os.fsencode(file)), buffer_size=BUFFER, pre_buffer=False)


def _opened_csv(stream: BinaryIO, types: dict[str, Any]) -> Any:
    from pyarrow import csv

    return csv.open_csv(
        _FromHeader(stream),
        csv.ReadOptions(use_threads=False, block_size=BLOCK),  # so that errors name the row
        csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=len(types) != 1),
        # an empty field is null, and "" an empty text, as they are written again
        csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )


class _FromHeader(io.RawIOBase):
    """A CSV file without empty lines before its header, which ends in a newline: Arrow reads no other."""

    def __init__(self, stream: BinaryIO):
        self._stream, self._has_begun = stream, False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        while data and not self._has_begun:
            is_whole, data = len(data) < size, data.removeprefix(codecs.BOM_UTF8).lstrip(b"\r\n")
            self._has_begun = bool(data)
            if data and is_whole and b"\n" not in data and b"\r" not in data:
                data += b"\n"
            data = data or self._stream.read(size)
        return data


@contextmanager
def _text_file(file: Path) -> Iterator[tuple[Any, Any]]:
    """The content of a file, and a function that says which share of it was read."""
    size = file.stat().st_size
    with open(file, "rb") as raw:
        stream = gzip.GzipFile(fileobj=raw) if format_of(file).is_gzip else raw
        yield stream, lambda: raw.tell() / max(size, 1)


@contextmanager
def _blaming(file: Path) -> Iterator[None]:
    """Name the file in errors about its content."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, *DAMAGED) as error:
        raise UsageError(f"{file} can't be read: {' '.join(str(error).split())}") from error
