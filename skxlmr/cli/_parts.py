"""The folder beside an output with what is done of it, from which the same call goes on after it was ended."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Self

from skxlmr.checkpoints._atomic_replace import flush, lock_folder
from skxlmr.cli._files import UsageError, already_there, parts_folder

FORMAT = 1
ABOUT, JOINED, COMPLETE = "about.json", "joined", "complete.json"
READS_MISSING = "missing of the estimator"
# What may differ from an earlier call, and its values then and now: of a row without text no part was complete, unless the
# estimator reads it as an empty text.
MAY_DIFFER = {"--missing": ("error", "null")}
NEW = ".new"  # behind the names of files that are being written


class Parts:
    """Finished parts of an output; use it in a ``with`` block.

    A part is written under another name, and gets its own once it is on the disk: what ends the process leaves whole parts.

    Parameters
    ----------
    output : Path
    about : dict
        All that the rows depend on, each by its name in messages.
    suffix : str
        Of the files.
    overwrite : bool
        Whether an output that exists may be replaced, and parts of another call be removed.

    Raises
    ------
    UsageError
        If the output exists, another process is writing it, or there are parts of another call.
    """

    def __init__(self, output: Path, about: dict[str, Any], suffix: str, overwrite: bool):
        self.output, self.suffix, self.overwrite = output, suffix, overwrite
        self.folder = parts_folder(output)
        self._about = json.loads(json.dumps({"format": FORMAT, **about}))  # as it is read again
        self._lock: int | None = None
        self._is_removed = False  # from then on the folder of this name may be another call's
        self.done: list[Path] = []
        self.was_complete = False  # an earlier call was ended after its last part, and before it could clean up

    def __enter__(self) -> Self:
        self._lock = self._locked()
        try:
            self._begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        parts = (path for path in self.folder.glob("*") if path.name != ABOUT and path.suffix != NEW)
        if not self._is_removed and not any(parts):
            self.remove()  # there is nothing to go on from
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def n_done(self) -> int:
        """Rows that are in the parts."""
        return sum(_place(part)[2] for part in self.done)

    def next(self) -> tuple[int, int]:
        """File and row at which the next part begins, if that file has further rows."""
        if not self.done:
            return 0, 0
        file, row, n_rows = _place(self.done[-1])
        return (file, row + n_rows) if n_rows else (file + 1, 0)

    def path(self, file: int, start: int, n_rows: int) -> Path:
        """Where to write the part with so many rows from this row of this file on, before :meth:`add`."""
        return self.folder / f"{file:05d}-{start:012d}-{n_rows}{self.suffix}{NEW}"

    def add(self, path: Path) -> None:
        """Keep a part that was written."""
        flush(path)
        part = path.with_suffix("")
        os.replace(path, part)
        flush(self.folder)
        self.done.append(part)

    def joined(self) -> Path:
        """Where the parts are joined, before :meth:`finish`."""
        return self.folder / JOINED

    def finish(self) -> None:
        """Give the joined file its name, before :meth:`remove`."""
        joined = self.joined()
        self._write(COMPLETE, {"size": joined.stat().st_size})
        os.replace(joined, self.output)
        flush(self.output.absolute().parent)

    def remove(self) -> None:
        """Remove the folder: the last part first, so that what is left is its beginning, and what says what it holds last."""
        for path in sorted(
            self.folder.glob("*"), key=lambda path: (path.name not in (ABOUT, COMPLETE), path), reverse=True
        ):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)
        self._is_removed = True

    def _locked(self) -> int | None:
        """Make the folder, unless it is there; returns what holds its lock."""
        while True:
            self.folder.mkdir(exist_ok=True)
            try:
                return lock_folder(self.folder)
            except FileNotFoundError:
                continue  # the call that had it has ended in this moment
            except BlockingIOError:
                raise UsageError(f"{self.output}: another process is writing it") from None

    def _begin(self) -> None:
        found = self._read(ABOUT)
        pairs = {key: (found.get(key), self._about.get(key)) for key in found | self._about}
        may_differ = {} if found.get(READS_MISSING) == "empty" else MAY_DIFFER
        differs = [key for key, (then, now) in pairs.items() if then != now and may_differ.get(key) != (then, now)]
        complete = self._read(COMPLETE)
        if found and not differs and complete and not self.joined().exists() and self.output.exists():
            self.was_complete = self.output.stat().st_size == complete["size"]
            if self.was_complete:
                return
        if not found and any(path.suffix != NEW for path in self.folder.iterdir()):
            raise UsageError(f"{self.folder} is not a folder of this command: remove it, or pass another --output")
        if self.output.exists() and not self.overwrite:
            raise already_there(self.output)
        if found and differs and not self.overwrite:
            raise UsageError(
                f"{self.folder} holds parts of another call (it differs in {', '.join(differs)}): pass --overwrite to start "
                "anew, or another --output"
            )
        if differs:
            for path in self.folder.glob("*"):
                path.unlink()
        for path in (*self.folder.glob(f"*{NEW}"), self.joined(), self.folder / COMPLETE):
            path.unlink(missing_ok=True)
        self._write(ABOUT, self._about)
        self.done = sorted(self.folder.glob(f"*{self.suffix}"))
        self._check_chain()

    def _check_chain(self) -> None:
        """Keep the parts up to the first that is missing."""
        expected = {(0, 0)}
        for k, part in enumerate(self.done):
            file, row, n_rows = _place(part)
            if (file, row) not in expected:
                for later in self.done[k:]:
                    later.unlink()
                self.done = self.done[:k]
                return
            expected = {(file, row + n_rows), (file + 1, 0)}

    def _read(self, name: str) -> dict[str, Any]:
        try:
            found = json.loads((self.folder / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, name: str, content: dict[str, Any]) -> None:
        path = self.folder / name
        fresh = path.with_name(f"{name}{NEW}")
        fresh.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        flush(fresh)
        os.replace(fresh, path)
        flush(self.folder)


def _place(part: Path) -> tuple[int, int, int]:
    """File and row at which a part begins, and its rows."""
    file, row, n_rows = part.stem.split("-")
    return int(file), int(row), int(n_rows)
