"""The files that are named on the command line: their formats, and which of them are read."""

import os
from dataclasses import dataclass
from pathlib import Path

FORMATS = {".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}
NAMES = {"parquet": "Parquet", "csv": "CSV", "jsonl": "JSON Lines"}
GZIP = ".gz"


class UsageError(Exception):
    """What was asked for can't be done; the message is one line that says why."""


@dataclass(frozen=True)
class Format:
    """How rows lie in a file.

    Attributes
    ----------
    kind : {"parquet", "csv", "jsonl"}
    is_gzip : bool
    """

    kind: str
    is_gzip: bool = False


def format_of(path: Path) -> Format:
    """The format that the ending of a name says.

    Raises
    ------
    UsageError
        If it says none.
    """
    name = path.name.lower()
    is_gzip = name.endswith(GZIP)
    kind = FORMATS.get(os.path.splitext(name.removesuffix(GZIP))[1])
    if kind is None or (is_gzip and kind == "parquet"):
        raise UsageError(
            f"{path}: the name must end in .parquet, .csv, .jsonl or .ndjson, the last three also with .gz behind it"
        )
    return Format(kind, is_gzip)


def input_files(given: list[str]) -> list[Path]:
    """The files to read, in order: those that are named, and the Parquet files of folders that are named, by name.

    Raises
    ------
    UsageError
        If there is no such file, or they have different formats.
    """
    files: list[Path] = []
    for each in given:
        path = Path(each)
        if path.is_dir():
            found = sorted(
                file for file in path.iterdir() if file.suffix in (".parquet", ".pq") and file.name[0] not in "._"
            )
            if not found:
                raise UsageError(f"--input: the folder {path} has no Parquet files")
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise UsageError(
                f"--input: {path} is no regular file" if path.exists() else f"--input: there is no file {path}"
            )
    formats = {format_of(file).kind for file in files}
    if len(formats) > 1:
        raise UsageError(f"--input: the files must have one format, and these have {' and '.join(sorted(formats))}")
    return files


def check_output(output: Path, files: list[Path], given: list[str], overwrite: bool) -> None:
    """Refuse an output that exists, or is an input, or would be one in the next call.

    Raises
    ------
    UsageError
    """
    if not output.absolute().parent.is_dir():
        raise UsageError(f"--output: there is no folder {output.absolute().parent}")
    if output.is_dir():
        raise UsageError(f"--output: {output} is a folder, expected the name of a file")
    if any(output.exists() and output.samefile(file) for file in files):
        raise UsageError(f"--output: {output} is the input: write to another file")
    for each in given:
        if os.path.isdir(each) and output.absolute().parent.samefile(each):
            raise UsageError(f"--output: {output} lies in the folder of --input, and would be read with it next time")
    if output.exists() and not overwrite and not parts_folder(output).exists():
        raise already_there(output)


def already_there(output: Path) -> UsageError:
    """What to say of an output that exists."""
    return UsageError(f"{output} exists already: pass --overwrite to replace it, or another --output")


def parts_folder(output: Path) -> Path:
    """Where parts of an output are until it is complete."""
    return output.with_name(output.name + ".parts")


def fingerprint(file: Path) -> dict[str, str | int]:
    """What changes when the file does."""
    status = file.stat()
    return {"name": file.name, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
