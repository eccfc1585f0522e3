"""One call: rows are read, computed and written part by part, and joined at the end."""

import argparse
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from skxlmr._version import __version__
from skxlmr.batch import BatchPredictor
from skxlmr.batch._columns import arrow_type, in_arrow
from skxlmr.batch._loaded import digest_of
from skxlmr.batch._predictor import Prepared
from skxlmr.batch._rows import NoTextError, RowError
from skxlmr.cli._files import UsageError, check_output, fingerprint, format_of, input_files
from skxlmr.cli._parts import READS_MISSING, Parts
from skxlmr.cli._progress import Progress
from skxlmr.cli._readers import Chunk, Reader, as_table, no_column
from skxlmr.cli._writers import SUFFIXES, check_columns, join, write_part
from skxlmr.utils._imports.optional import import_extra
from skxlmr.utils._warnings import begin_anew

ONNX = {"auto": "auto", "yes": True, "no": False}


class Run:
    """A call with these options.

    Attributes
    ----------
    n_done : int
        Rows of the input that are in finished parts.
    """

    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.output = Path(options.output)
        self.n_done = 0
        self.progress = Progress(options.quiet)
        self._n_parts_with: dict[str, int] = {}  # warnings of each kind

    def __call__(self) -> None:
        """Read, compute and write all rows.

        Raises
        ------
        UsageError
            If the command or the input is at fault.
        OSError
            If a file can't be read or written.
        """
        options = self.options
        with _as_usage_error():
            import_extra("pyarrow", "parquet", "python -m skxlmr")
        self.files = input_files(options.input)
        self.format = format_of(self.output)
        check_output(self.output, self.files, options.input, options.overwrite)
        if options.text:  # a wrong name is found before a large model is read
            self._open_input(options.text)
        with _as_usage_error():
            predictor, prepared, digest = self._open_model()
        self._open_input(prepared.text)
        about = self._about(prepared, digest)
        self._find_schema(prepared)
        with Parts(self.output, about, SUFFIXES[self.format.kind], options.overwrite) as parts:
            if not parts.was_complete:
                self._fill(parts, predictor, prepared)
                if [fingerprint(file) for file in self.files] != about["the input"]:
                    parts.remove()
                    raise UsageError(
                        "the input has changed while it was read: run the command again, which starts anew"
                    )
                join(parts.done, parts.joined(), self.format, self._schema)
                parts.finish()
            parts.remove()

    def say(self, message: str) -> None:
        """Print one line on standard error."""
        self.progress.say(f"skxlmr {self.options.command}: {' '.join(message.split())}")

    def _open_input(self, text: list[str]) -> None:
        columns = self.options.columns
        needed = None if columns is None else list(dict.fromkeys([*text, *columns]))
        self.reader = Reader(self.files, self.options.rows_per_part, needed)
        if self.reader.schema is not None:
            for name in text:
                if name not in self.reader.schema.names:
                    raise no_column(name, self.reader.schema.names, self.files[0])

    def _open_model(self) -> tuple[BatchPredictor, Prepared, str]:
        options = self.options
        method = "transform" if options.command == "encode" else "predict_proba" if options.probabilities else "auto"
        predictor = BatchPredictor(
            options.model,
            method,  # type: ignore[arg-type]
            text=options.text,
            missing=options.missing,
            output=options.name,
            wide=self.format.kind == "csv",
            device=options.device,
            dtype=options.dtype,
            batch_size=options.batch_size,
            onnx=ONNX[options.onnx],  # type: ignore[arg-type]
        )
        digest = digest_of(options.model)
        prepared = predictor._prepared()
        if method == "auto" and not (
            hasattr(prepared.estimator, "predict") or hasattr(prepared.estimator, "predict_entities")
        ):
            raise UsageError(f"--model: {type(prepared.estimator).__name__} does not predict: use encode")
        if digest_of(options.model) != digest:
            raise UsageError(f"--model: {options.model} is being replaced: run the command again")
        return predictor, prepared, digest

    def _about(self, prepared: Prepared, digest: str) -> dict[str, Any]:
        """All that the rows of the output depend on."""
        options = self.options
        return {
            "skxlmr": __version__,
            "the input": [fingerprint(file) for file in self.files],
            "the model": digest,
            "the texts": prepared.text,
            "the new columns": [[column.name, column.kind, column.size] for column in prepared.results.columns],
            "the format of the output": [self.format.kind, self.format.is_gzip],
            **{
                f"--{name.replace('_', '-')}": getattr(options, name)
                for name in ("columns", "missing", "device", "dtype")
            },
            **{f"--{name.replace('_', '-')}": getattr(options, name) for name in ("onnx", "rows_per_part")},
            READS_MISSING: getattr(prepared.estimator, "missing", "error"),
        }

    def _find_schema(self, prepared: Prepared) -> None:
        """Columns that are kept, and those of the output; None from JSON Lines to JSON Lines, whose rows may differ."""
        self._kept, self._schema = self.reader.schema, None
        if self._kept is None and self.format.kind != "jsonl":
            first = next(self.reader.chunks())
            self._kept = as_table(self._kept_of(first.rows), None, self.files[0], 0).schema
        if self._kept is None:
            return
        import pyarrow as pa

        columns = self.options.columns
        fields = [field for field in self._kept if columns is None or field.name in columns]
        self._kept = pa.schema(fields, self._kept.metadata)
        self._check_new(prepared, self._kept.names)
        added = [pa.field(column.name, arrow_type(column)) for column in prepared.results.columns]
        self._schema = pa.schema([*self._kept, *added], self._kept.metadata)
        check_columns(self._schema, self.output, self.format, len(self._kept))

    def _fill(self, parts: Parts, predictor: BatchPredictor, prepared: Prepared) -> None:
        """Write the parts that are missing."""
        file, start = parts.next()
        self.n_done = parts.n_done()
        self.progress.begin(self.n_done, self.reader.n_rows())
        for chunk in self.reader.chunks(file, start):
            rows = self._with_results(chunk, predictor, prepared)
            path = parts.path(chunk.file, chunk.start, len(chunk.rows))
            write_part(path, self.format, rows, self.files[chunk.file], chunk.start)
            parts.add(path)
            self.n_done += len(chunk.rows)
            self.progress.show(self.n_done, (chunk.file + chunk.share) / len(self.files))
        self.progress.end(self.n_done)
        for said, n_parts in self._n_parts_with.items():
            if n_parts > 1:
                self.say(f"{said}s in {n_parts} parts in total")

    def _with_results(self, chunk: Chunk, predictor: BatchPredictor, prepared: Prepared) -> Any:
        """The rows of the output: a table, or from JSON Lines to JSON Lines a list."""
        rows, file = chunk.rows, self.files[chunk.file]
        if isinstance(rows, list):
            self._check_lines(rows, prepared, chunk)
            texts = [[row.get(name) for row in rows] for name in prepared.text]
        else:
            texts = [rows.column(name).to_pylist() for name in prepared.text]
        with self._reporting(chunk):
            try:
                found, values = predictor._computed(prepared, texts)
            except RowError as error:
                hint = (
                    "fill it first, or pass --missing null for null in its result"
                    if isinstance(error, NoTextError)
                    else ""
                )
                said = f"{error.reason}: {hint or error.hint}".removesuffix(": ")
                raise UsageError(f"{file} row {chunk.start + error.row} (counted from 0): {said}") from error
            except ValueError as error:
                raise UsageError(f"{file} rows {chunk.start} to {chunk.start + len(rows) - 1}: {error}") from error
        columns = prepared.results.columns
        made = [in_arrow(column, value, found.present) for column, value in zip(columns, values, strict=True)]
        if self._schema is None:
            names = [column.name for column in columns]
            added = zip(*(array.to_pylist() for array in made), strict=True)
            kept = self._kept_of(rows)
            return [row | dict(zip(names, new, strict=True)) for row, new in zip(kept, added, strict=True)]
        if isinstance(rows, list):
            rows = as_table(self._kept_of(rows), self._kept, file, chunk.start)
        import pyarrow as pa

        assert self._kept is not None
        return pa.Table.from_arrays([*(rows.column(name) for name in self._kept.names), *made], schema=self._schema)

    def _kept_of(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        columns = self.options.columns
        return rows if columns is None else [{name: row[name] for name in columns if name in row} for row in rows]

    def _check_lines(self, rows: list[dict[str, Any]], prepared: Prepared, chunk: Chunk) -> None:
        """Compare the names in JSON Lines, which each row has of its own."""
        names = list(dict.fromkeys(name for row in rows for name in row))
        for name in prepared.text if chunk.start == 0 and rows else ():
            if name not in names:
                raise no_column(name, names, self.files[chunk.file])
        for name in self.options.columns or () if (chunk.file, chunk.start) == (0, 0) and rows else ():
            if name not in names:
                raise UsageError(f"{no_column(name, names, self.files[0])} in the first part")
        self._check_new(
            prepared, [name for name in names if self.options.columns is None or name in self.options.columns]
        )

    def _check_new(self, prepared: Prepared, names: list[str]) -> None:
        for column in prepared.results.columns:
            if column.name in names:
                raise UsageError(
                    f"the input has a column {column.name!r} already: choose another name with --as, or the columns to keep "
                    "with --columns"
                )

    @contextmanager
    def _reporting(self, chunk: Chunk) -> Iterator[None]:
        """Say the first warning of each kind, with its rows, and count the parts that have one."""
        begin_anew()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for kind, warning in {each.category: each for each in caught if issubclass(each.category, UserWarning)}.items():
            name = kind.__name__
            if name not in self._n_parts_with:
                where = f"{self.files[chunk.file]} rows {chunk.start} to {chunk.start + len(chunk.rows) - 1}"
                self.say(f"{name} in {where}: {warning.message}")
            self._n_parts_with[name] = self._n_parts_with.get(name, 0) + 1


@contextmanager
def _as_usage_error() -> Iterator[None]:
    """The model, or what it needs, is at fault."""
    try:
        yield
    except (ValueError, TypeError, ImportError) as error:
        raise UsageError(str(error)) from error
