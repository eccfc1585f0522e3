"""Where features go: an array of the caller's, or a ``.npy`` file, which a call that was ended goes on to fill."""

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, Protocol, Self

import numpy as np

from skxlmr.checkpoints._atomic_replace import flush, lock_folder
from skxlmr.estimators._core.truncation import Cut
from skxlmr.utils._files import check_name, is_path

FORMAT = 1
PARTIAL, PROGRESS = ".partial", ".progress"  # behind the name of a file that is not complete
_BINARY = getattr(os, "O_BINARY", 0)


class Output(Protocol):
    """Takes features, the first rows first.

    Attributes
    ----------
    n_features : int
    n_done : int
        Rows that it has.
    cut : Cut
        How many of their texts were cut.
    """

    n_features: int
    n_done: int
    cut: Cut

    def write(self, start: int, values: np.ndarray) -> None:
        """Take the next rows, of which the first one has this number."""

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Rows that were written."""


class ArrayOutput:
    """Fills an array of shape (n_rows, n_features)."""

    def __init__(self, array: np.ndarray):
        self.array, self.n_features, self.n_done, self.cut = array, array.shape[1], 0, Cut()

    def write(self, start: int, values: np.ndarray) -> None:
        """Take the next rows."""
        self.n_done = start + len(values)
        self.array[start : self.n_done] = values

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Rows that were written."""
        return self.array[rows]


class FileOutput:
    """Fills a ``.npy`` file; use it in a ``with`` block, and call :meth:`finished` when all rows are written.

    Until then the rows are in ``<name>.npy.partial``, and ``<name>.npy.progress`` says how many there are, and of what. So a
    ``.npy`` file is always complete, and another object with the same arguments goes on where this one was ended, whatever
    ended it: a row counts once it is on the disk.

    Parameters
    ----------
    path : Path
    shape : tuple of int
        Of the array in the file.
    n_features : int
        Of the rows that are written, several of which may be side by side in the file.
    about : mapping of str to str
        All that the features depend on, each by its name in messages.

    Raises
    ------
    FileExistsError
        If there is a file of this name, a part of one that holds other features, or what is no file.
    BlockingIOError
        If another process or thread is filling it.
    OSError
        If it can't be written.
    """

    def __init__(self, path: Path, shape: tuple[int, int], n_features: int, about: Mapping[str, str]):
        self.path, self.shape, self.n_features, self._about = path, shape, n_features, dict(about)
        self._partial, self._progress = (path.with_name(path.name + end) for end in (PARTIAL, PROGRESS))
        self.n_done, self.cut = 0, Cut()
        self._offset = 0  # of the first row in the file
        self._lock: int | None = None
        self._file: BinaryIO | None = None

    def __enter__(self) -> Self:
        for file in (self.path, self._partial, self._progress):
            if os.path.lexists(file) and not file.is_file():  # a link to nowhere would be replaced
                raise FileExistsError(f"{file} is no file, or a link to none: delete it, or pass another path")
        is_complete = self._is_complete()
        if self.path.exists() and not is_complete:
            self._refuse_complete()
        if is_complete:  # it was ended between the last two steps
            self.n_done = self._n_rows
            return self
        if not self._partial.exists() or not self._partial.stat().st_size:
            self._save()  # before there is a file that nobody could tell from another one
        elif not self._progress.exists():
            self._refuse("exists, and the file that says what it holds does not")
        self._file = open(os.open(self._partial, os.O_RDWR | os.O_CREAT | _BINARY, 0o666), "r+b")
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self._file is not None:
            self._file.close()
        if self._lock is not None:
            os.close(self._lock)
        self._file = self._lock = None

    def write(self, start: int, values: np.ndarray) -> None:
        """Take the next rows; they are on the disk at the end of the call."""
        assert self._file is not None and start == self.n_done
        self._file.seek(self._offset + start * self._row_bytes)
        self._file.write(np.ascontiguousarray(values, np.float32).data)
        self._file.flush()
        os.fsync(self._file.fileno())
        self.n_done = start + len(values)
        self._save()

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Rows that were written."""
        if not len(rows):
            return np.empty((0, self.n_features), np.float32)
        shape = self.n_done, self.n_features
        return np.array(np.memmap(self._partial, np.float32, "r", self._offset, shape)[rows])

    def finished(self) -> np.ndarray:
        """Give the file its name; returns the array in it, which is mapped and can't be written to."""
        if self._file is not None:
            self._file.close()  # a file that is open can't be renamed on Windows
            if self.path.exists():
                self._refuse_complete()
            self._partial.rename(self.path)
            flush(self.path.parent)
        with suppress(FileNotFoundError):
            self._progress.unlink()
        array: np.ndarray = np.load(self.path, mmap_mode="r" if 0 not in self.shape else None)
        return array

    @property
    def _n_rows(self) -> int:
        return self.shape[0] * self.shape[1] // self.n_features

    @property
    def _row_bytes(self) -> int:
        return 4 * self.n_features

    def _begin(self) -> None:
        """Lock the file, and find how far it is filled."""
        assert self._file is not None
        try:
            self._lock = lock_folder(self._partial)
        except BlockingIOError:
            raise BlockingIOError(
                f"another process or thread is writing {self.path}: wait for it, or pass another path"
            ) from None
        except FileNotFoundError:  # who filled it may have given it its name in this moment
            if self.path.exists():
                self._refuse_complete()
            raise
        if self.path.exists():  # since we looked
            self._refuse_complete()
        self.n_done, self.cut = self._saved()
        if not self.n_done:
            self._file.truncate(0)
            np.lib.format.write_array_header_1_0(
                self._file, {"descr": "<f4", "fortran_order": False, "shape": self.shape}
            )
            self._offset = self._file.tell()
            return
        if not self._has_shape(self._file) or (
            os.fstat(self._file.fileno()).st_size < self._offset + self.n_done * self._row_bytes
        ):
            self._refuse(f"does not hold the {self.n_done} rows of {self.shape} that it should")

    def _is_complete(self) -> bool:
        """Whether the file is there with all rows of a call like this one."""
        if not self._progress.exists() or self._partial.exists() or not self.path.exists():
            return False
        with suppress(FileExistsError), open(self.path, "rb") as file:
            return self._saved()[0] == self._n_rows and self._has_shape(file)
        return False

    def _has_shape(self, file: BinaryIO) -> bool:
        try:
            file.seek(0)
            np.lib.format.read_magic(file)
            found = np.lib.format.read_array_header_1_0(file)
        except ValueError:
            return False
        self._offset = file.tell()
        return found == (self.shape, False, np.dtype("<f4"))

    def _saved(self) -> tuple[int, Cut]:
        """How many rows an earlier call like this one left, and how many of their texts were cut."""
        try:
            saved = json.loads(self._progress.read_text(encoding="utf-8"))
            about, n_done, cut = dict(saved["about"]), saved["n_done"], Cut(**saved["cut"])
            known = saved["format"] == FORMAT and type(n_done) is int and 0 <= n_done <= self._n_rows
        except (ValueError, KeyError, TypeError):
            known = False
        if not known:
            self._refuse(f"can't be continued: {self._progress.name} is not what this version writes")
        others = [name for name in self._about | about if self._about.get(name) != about.get(name)]
        if others:
            self._refuse(f"holds features of a call that differs in {', '.join(others)}")
        return n_done, cut

    def _save(self) -> None:
        content = {"format": FORMAT, "n_done": self.n_done, "cut": asdict(self.cut), "about": self._about}
        fresh = self._progress.with_name(f"{self._progress.name}.{secrets.token_hex(4)}")
        try:
            fresh.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            flush(fresh)
            os.replace(fresh, self._progress)
        finally:
            fresh.unlink(missing_ok=True)

    def _refuse_complete(self) -> NoReturn:
        name = str(self.path)
        raise FileExistsError(
            f"{name} exists already: read it with np.load({name!r}, mmap_mode='r'), delete it to make it again, or pass "
            "another path"
        )

    def _refuse(self, reason: str) -> NoReturn:
        raise FileExistsError(
            f"{self._partial} {reason}: delete it and {self._progress.name} to start again, or pass another path"
        )


def path_of(out: Any) -> Path | None:
    """The path that was passed as ``out``, None if an array was.

    Raises
    ------
    TypeError, ValueError
        If it is neither, or not the path of a ``.npy`` file.
    """
    if isinstance(out, np.ndarray):
        return None
    if not is_path(out):
        raise TypeError(f"out must be the path of a .npy file, or an array to fill, got a {type(out).__name__}")
    check_name(out, "out")
    path = Path(os.path.abspath(os.path.expanduser(out)))
    if path.suffix != ".npy":
        raise ValueError(f"out must be the path of a .npy file, or an array to fill, got {os.fspath(out)!r}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"out={os.fspath(out)!r}: there is no folder {path.parent}")
    return path


def check_array(out: np.ndarray, shape: tuple[int, int]) -> None:
    """Refuse an array that can't take float32 features of this shape.

    Raises
    ------
    ValueError
    """
    wrong = out.shape != shape or out.dtype != np.float32
    if wrong or not out.flags.c_contiguous or not out.flags.writeable:
        found = f"{out.dtype} of shape {out.shape}"
        if not wrong:
            found = (
                "one that is read-only" if not out.flags.writeable else "one whose rows do not lie one after another"
            )
        raise ValueError(f"out must be an array of float32 of shape {shape}, writeable and C-contiguous, got {found}")
