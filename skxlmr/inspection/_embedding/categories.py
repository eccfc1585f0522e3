"""Colours and shapes of the points: each category has one that can be told apart without colours, or without the other."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skxlmr.utils._tables import as_list, describe, is_missing, name_of, plain

# matplotlib's viridis, from dark to light: in order also in greyscale and without colour vision
_VIRIDIS = (
    "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725"
).split()
MISSING_COLOR, MISSING = "#9a9a9a", "(missing)"
MOST_DISTINCT = 10  # numbers; more are a scale
OTHERS = "others"


def _polygon(n: int, turn: float = 0.0, inner: float | None = None) -> list[tuple[float, float]]:
    """Corners on the unit circle, the first one on top; with ``inner`` those of a star."""
    corners = []
    for k in range(n if inner is None else 2 * n):
        radius = 1.0 if inner is None or k % 2 == 0 else inner
        angle = math.radians(turn - 90 + k * 360 / (n if inner is None else 2 * n))
        corners.append((round(radius * math.cos(angle), 3), round(radius * math.sin(angle), 3)))
    return corners


_PLUS = [(-0.35, -1), (0.35, -1), (0.35, -0.35), (1, -0.35), (1, 0.35), (0.35, 0.35)]
_PLUS += [(0.35, 1), (-0.35, 1), (-0.35, 0.35), (-1, 0.35), (-1, -0.35), (-0.35, -0.35)]
_TURNED = [(round((x - y) * 0.71, 3), round((x + y) * 0.71, 3)) for x, y in _PLUS]
# matplotlib's marker, and the corners of the same shape with y downwards, as in SVG
SHAPES: dict[str, list[tuple[float, float]]] = {
    "o": _polygon(24),
    "s": _polygon(4, 45),
    "^": _polygon(3),
    "D": _polygon(4),
    "v": _polygon(3, 180),
    "P": _PLUS,
    "X": _TURNED,
    "*": _polygon(5, inner=0.45),
    "<": _polygon(3, -90),
    ">": _polygon(3, 90),
    "p": _polygon(5),
    "h": _polygon(6),
}
_MARKERS = tuple(SHAPES)


@dataclass(frozen=True)
class Look:
    """How the points of a category look.

    Attributes
    ----------
    marker : str
        A key of ``SHAPES``.
    filled : bool
        Or only its outline.
    """

    marker: str = "o"
    filled: bool = True


LOOKS = [Look(marker, filled) for filled in (True, False) for marker in _MARKERS]


@dataclass(frozen=True)
class Categories:
    """The category of each point.

    Attributes
    ----------
    names : list of str
        In the order of the legend.
    codes : ndarray of shape (n_points,), int
        Indices of ``names``.
    """

    names: list[str]
    codes: np.ndarray

    def at_most(self, n: int) -> Categories:
        """The most frequent of them, and the others together, if there are more than ``n``."""
        if len(self.names) <= n:
            return self
        counts = np.bincount(self.codes, minlength=len(self.names))
        kept = sorted(np.argsort(-counts, kind="stable")[: n - 1].tolist())
        new = np.full(len(self.names), n - 1)
        new[kept] = np.arange(n - 1)
        return Categories([self.names[k] for k in kept] + [f"{len(self.names) - n + 1} {OTHERS}"], new[self.codes])


def read_column(values: Any, n_points: int, name: str) -> list[Any]:
    """The values of the points as Python objects.

    Raises
    ------
    ValueError
        If there is not one for each point, or one is a list or the like; names the row.
    """
    if isinstance(values, str | bytes):
        raise ValueError(f"{name} must have a value for each of the {n_points} points, got the text {values!r:.80}")
    if len(getattr(values, "shape", (0,))) != 1:
        raise ValueError(f"{name} must have one dimension, got the shape {tuple(values.shape)}")
    column = [plain(value) for value in as_list(values)]
    if len(column) != n_points:
        raise ValueError(f"{name} has {len(column)} values, and there are {n_points} points: pass one for each")
    several = next((row for row, value in enumerate(column) if not isinstance(value, Hashable)), None)
    if several is not None:
        raise ValueError(f"{name} row {several}: expected a name or a number, got {describe(column[several])}")
    return column


def categories(values: Sequence[Any], given: Any) -> Categories:
    """Categories in the order of their values, or of a categorical column that was given; missing ones come last and say so."""
    values = [None if is_missing(value) or value == MISSING else value for value in values]
    there = {value for value in values if value is not None}
    known = getattr(getattr(given, "dtype", None), "categories", None)
    try:
        # polars has them for its type Enum alone
        order = (
            [each for each in map(plain, as_list(known)) if each in there]
            if hasattr(known, "__len__")
            else sorted(there)
        )
    except TypeError:
        order = sorted(there, key=name_of)
    codes = {value: k for k, value in enumerate(order)}
    names = list(map(name_of, order))
    if None in values:
        names.append(MISSING)
    return Categories(names, np.array([codes.get(value, len(order)) for value in values], np.int64))


def is_scale(values: Sequence[Any]) -> bool:
    """Whether these are numbers on a scale, not names of classes."""
    numbers = [value for value in values if not is_missing(value)]
    kinds = set(map(type, numbers))
    return bool(kinds) and kinds <= {int, float} and len(set(numbers)) > MOST_DISTINCT


def color_at(place: float) -> str:
    """The colour at a place from 0 to 1 of the scale, as ``#rrggbb``."""
    at = min(max(place, 0.0), 1.0) * (len(_VIRIDIS) - 1)
    k = min(int(at), len(_VIRIDIS) - 2)
    low, high = (np.array([int(_VIRIDIS[i][j : j + 2], 16) for j in (0, 2, 4)]) for i in (k, k + 1))
    red, green, blue = np.round(low + (high - low) * (at - k)).astype(int).tolist()
    return f"#{red:02x}{green:02x}{blue:02x}"


def colors(names: Sequence[str]) -> list[str]:
    """A colour for each category; grey for what is missing."""
    n = max(len(names) - (MISSING in names), 1)
    return [MISSING_COLOR if name == MISSING else color_at(0.95 * k / max(n - 1, 1)) for k, name in enumerate(names)]
