"""Parts of a result, and the file that they are joined to, a part at a time.

Parts of CSV and JSON Lines are what stands in the file; those of Parquet are Arrow files, so that nothing is encoded twice.
"""

import gzip
import io
import json
import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from skxlmr.checkpoints._atomic_replace import flush
from skxlmr.cli._files import NAMES, Format, UsageError

GROUP_ROWS, GROUP_BYTES = 2**17, 2**25  # of a row group of Parquet, at most one part more
SUFFIXES = {"parquet": ".arrow", "csv": ".csv", "jsonl": ".jsonl"}


def check_columns(schema: Any, output: Path, form: Format, n_kept: int) -> None:
    """Refuse columns that the format can't hold; the first ones are those of the input that are kept.

    Raises
    ------
    UsageError
    """
    for k, field in enumerate(schema):
        if others := _others(field, form.kind):
            hint = f"write {others}" + (", or choose other columns with --columns" if k < n_kept else "")
            name = NAMES[form.kind]
            raise UsageError(f"{output}: {name} can't hold the column {field.name!r} ({field.type}): {hint}")


def _others(field: Any, kind: str) -> str:
    """The formats that can hold a column, if this one can't."""
    import pyarrow as pa

    if kind == "parquet":
        import pyarrow.parquet as pq

        try:
            pq.write_table(pa.schema([field]).empty_table(), io.BytesIO())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # of objects without keys, for example
            return "JSON Lines"
        return ""
    if "binary" in str(field.type):
        return "Parquet"
    is_flat = not pa.types.is_nested(field.type) and str(field.type) != "string_view"
    return "" if kind == "jsonl" or is_flat else "Parquet or JSON Lines"


def write_part(path: Path, form: Format, rows: Any, source: Path, start: int) -> None:
    """Write a table, or a list of dicts, as a part.

    Parameters
    ----------
    path : Path
        Ends in what ``SUFFIXES`` says.
    form : Format
        Of the file that the parts are for.
    rows : pyarrow.Table or list of dict
    source : Path
        Where they are from, for messages.
    start : int
        Number of the first one.

    Raises
    ------
    UsageError
        If JSON can't hold a number.
    """
    if form.kind == "parquet":
        import pyarrow as pa

        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.OSFile(os.fsencode(path), "wb") as file, pa.ipc.new_file(file, rows.schema, options=options) as writer:
            writer.write_table(rows.unify_dictionaries())  # of which a file has one for each column
    else:
        with _opened(path, form) as file:
            if form.kind == "jsonl":
                for number, row in enumerate(rows if isinstance(rows, list) else rows.to_pylist(), start):
                    file.write(_line(row, f"{source} row {number} (counted from 0)"))
            else:
                _write_csv(rows, file, header=False)


def join(parts: list[Path], path: Path, form: Format, schema: Any) -> None:
    """Write all parts to one file, which is on the disk at the end of the call.

    Parameters
    ----------
    parts : list of Path
    path : Path
    form : Format
    schema : pyarrow.Schema or None
        Of the rows; JSON Lines need none.
    """
    if form.kind == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        counted = [field.name for field in schema if not _is_of_floats(field.type)]
        with (
            pa.OSFile(os.fsencode(path), "wb") as file,
            pq.ParquetWriter(file, schema, use_dictionary=counted) as writer,
        ):
            for tables in _groups(parts):
                writer.write_table(pa.concat_tables(tables).unify_dictionaries())
    else:
        with open(path, "wb") as whole:
            if form.kind == "csv":
                with _gzipped(whole, form) as file:
                    _write_csv(schema.empty_table(), file, header=True)
            for part in parts:
                with open(part, "rb") as file:
                    shutil.copyfileobj(file, whole, 2**20)
    flush(path)


def _groups(parts: list[Path]) -> Iterator[list[Any]]:
    """The tables of a row group each."""
    import pyarrow as pa

    tables, n_rows, n_bytes = [], 0, 0
    for part in parts:
        with pa.OSFile(os.fsencode(part)) as file, pa.ipc.open_file(file) as reader:
            tables.append(reader.read_all())
        n_rows, n_bytes = n_rows + len(tables[-1]), n_bytes + tables[-1].nbytes
        if n_rows >= GROUP_ROWS or n_bytes >= GROUP_BYTES:
            yield tables
            tables, n_rows, n_bytes = [], 0, 0
    if tables:
        yield tables


def _is_of_floats(kind: Any) -> bool:
    """Whether values hardly ever repeat, so that a dictionary of them costs more than it saves."""
    import pyarrow as pa

    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return bool(pa.types.is_floating(kind))


@contextmanager
def _opened(path: Path, form: Format) -> Iterator[Any]:
    with open(path, "wb") as raw, _gzipped(raw, form) as file:
        yield file


@contextmanager
def _gzipped(raw: BinaryIO, form: Format) -> Iterator[Any]:
    """The file, or a member of a gzip file: several of them in a row are one file."""
    if not form.is_gzip:
        yield raw
        return
    with gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file:
        yield file


def _write_csv(table: Any, file: Any, header: bool) -> None:
    from pyarrow import csv

    buffer = io.BytesIO()  # it closes what it is given
    csv.write_csv(table, buffer, csv.WriteOptions(include_header=header))
    file.write(buffer.getvalue())


def _line(row: dict[str, Any], where: str, is_ascii: bool = False) -> bytes:
    try:
        return json.dumps(row, ensure_ascii=is_ascii, allow_nan=False, default=str).encode() + b"\n"
    except UnicodeEncodeError:  # half of a character, which JSON can escape
        return _line(row, where, is_ascii=True)
    except ValueError:
        numbers = {name: _null_for_nan(value, f"{where}: column {name!r}") for name, value in row.items()}
        return _line(numbers, where, is_ascii)


def _null_for_nan(value: Any, where: str) -> Any:
    """The same in JSON, which has neither NaN nor infinite numbers."""
    if isinstance(value, list | tuple):  # a map is a list of tuples
        return [_null_for_nan(each, where) for each in value]
    if isinstance(value, dict):
        return {name: _null_for_nan(each, where) for name, each in value.items()}
    if isinstance(value, float) and math.isinf(value):
        raise UsageError(
            f"{where} has an infinite number, which JSON can't hold: write Parquet, or choose other columns with --columns"
        )
    return None if isinstance(value, float) and math.isnan(value) else value


def replace(path: Path, target: Path) -> None:
    """Give a file its name, for good."""
    os.replace(path, target)
    flush(target.parent)
