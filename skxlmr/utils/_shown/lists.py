"""Lists of dicts, and lists of these, that show themselves as a table."""

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, ClassVar, Self, SupportsIndex, overload

from skxlmr.utils._shown.marks import STYLE, visible

MOST_LINES = 20  # of a table
_WIDTH, _WIDTH_HTML = 60, 300  # of a cell, in characters
Line = tuple[
    tuple[int, ...], Mapping[str, Any] | None
]  # numbers of text, mask and so on; a dict, None where there is none


class ShownList(list[Any]):
    """A list that shows itself as a table at a prompt, and as a table or as text with marks in a notebook.

    It equals the plain list with the same items, and ``str``, ``print``, copies, pickles and JSON are that list's. What it
    needs besides to show itself, a reference to the text of each row, stays with the object and its slices.

    Parameters
    ----------
    items : iterable
        Dicts, or lists of this class.
    depth : int
        0 for what a method returns, 1 for a row of it, and so on.
    about : object
        What a row of dicts is about, such as its text.
    """

    __slots__ = ("_about", "_depth")

    # what one and what several items of each level are called; those of the last are dicts
    _levels: ClassVar[tuple[tuple[str, str], ...]] = (("row", "rows"), ("item", "items"))

    def __init__(self, items: Iterable[Any] = (), depth: int = 0, about: Any = None):
        super().__init__(items)
        self._depth = depth
        self._about = about

    @overload
    def __getitem__(self, key: SupportsIndex) -> Any: ...
    @overload
    def __getitem__(self, key: slice) -> Self: ...
    def __getitem__(self, key: Any) -> Any:
        found = super().__getitem__(key)
        return type(self)(found, self._depth, self._about) if isinstance(key, slice) else found

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        return list, (), None, iter(self)

    def __str__(self) -> str:
        return repr(_plain(self))

    def __repr__(self) -> str:
        lines = list(self._walk())
        if not _are_dicts(lines):
            return str(self)
        header, rows = self._table(lines[:MOST_LINES], _WIDTH)
        more = [f"... {len(lines) - MOST_LINES:,} more lines"] if len(lines) > MOST_LINES else []
        what = "list of " + "lists of " * (len(self._levels) - 1 - self._depth) + "dicts"
        return "\n".join([*_aligned(header, rows), *more, f"{self._counted()} ({what})"])

    def _repr_html_(self) -> str:
        return f"<style>{STYLE}</style>{self._table_html()}<p>{self._counted()}</p>"

    def _table_html(self) -> str:
        lines = list(islice(self._walk(), MOST_LINES + 1))
        if not _are_dicts(lines):
            return f"<pre>{visible(str(self))}</pre>"
        header, rows = self._table(lines[:MOST_LINES], _WIDTH_HTML)
        names = "".join(f"<th>{visible(name)}</th>" for name, _ in header)
        cells = ("".join(f'<td dir="auto">{visible(cell)}</td>' for cell in row) for row in rows)
        body = "".join(f"<tr>{row}</tr>" for row in cells)
        more = '<p class="skxlmr-more">\u2026 and more</p>' if len(lines) > MOST_LINES else ""
        return (
            f'<table class="skxlmr-table"><thead><tr>{names}</tr></thead><tbody>{body}</tbody></table>{more}'
            if rows
            else ""
        )

    def _walk(self) -> Iterator[Line]:
        """All dicts with the numbers of the lists that they are in, and the numbers of empty lists."""
        return _walk(self, (), len(self._levels) - 1 - self._depth)

    def _counted(self) -> str:
        """How many items each level has."""
        counts, items = [], [self]
        for one, many in self._levels[self._depth :]:
            items = [item for each in items if isinstance(each, list) for item in each]
            counts.append(f"{len(items):,} {one if len(items) == 1 else many}")
        return ", ".join(counts)

    def _table(self, lines: list[Line], width: int) -> tuple[list[tuple[str, bool]], list[list[str]]]:
        """Names of the columns, whether each has numbers, and the cells; columns of text are the last."""
        keys = list(dict.fromkeys(key for _, item in lines for key in item or ()))
        is_number = {
            key: not any(isinstance(item[key], str) for _, item in lines if item and key in item) for key in keys
        }
        keys.sort(key=lambda key: not is_number[key])
        header = [(one, True) for one, _ in self._levels[self._depth : -1]]
        rows = [
            [*map(str, path), *[""] * (len(header) - len(path))]
            + [_cell(item[key], width) if item and key in item else "-" for key in keys]
            for path, item in lines
        ]
        return header + [(str(key), is_number[key]) for key in keys], rows


def _are_dicts(lines: Iterable[Line]) -> bool:
    """Whether a list still is of the kind that a method returned."""
    return all(item is None or isinstance(item, Mapping) for _, item in lines)


def _plain(value: Any) -> Any:
    return list(map(_plain, value)) if isinstance(value, ShownList) else value


def _walk(items: Any, path: tuple[int, ...], n_inner: int) -> Iterator[Line]:
    if path and not items:
        yield path, None
    for i, item in enumerate(items):
        if n_inner and isinstance(item, list):
            yield from _walk(item, (*path, i), n_inner - 1)
        else:
            yield path, item


def _cell(value: Any, width: int) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if value == 0 or not abs(value) < 5e-5 else f"{value:.1e}"
    text = (str(value) or "''").replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    return text if len(text) <= width else text[: width - 1] + "\u2026"


def _aligned(header: list[tuple[str, bool]], rows: list[list[str]]) -> list[str]:
    """Lines of a table: numbers to the right, texts to the left."""
    if not rows or not header:
        return []
    table = [[name for name, _ in header], *rows]
    widths = [max(map(_columns, column)) for column in zip(*table, strict=True)]
    lines = []
    for row in table:
        cells = []
        for (_, is_number), cell, width in zip(header, row, widths, strict=True):
            space = " " * (width - _columns(cell))
            cells.append(space + cell if is_number else cell + space)
        lines.append("  ".join(cells).rstrip())
    return lines


def _columns(text: str) -> int:
    """Columns that a terminal gives the text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(each) in ("Mn", "Me", "Cf") else 1 + (unicodedata.east_asian_width(each) in "WF")
        for each in text
    )
