"""What is drawn at each point of a map: its colour, its shape, its text."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from skxlmr.inspection._embedding.categories import (
    LOOKS,
    MISSING,
    MISSING_COLOR,
    Categories,
    Look,
    categories,
    color_at,
    colors,
    is_scale,
    read_column,
)
from skxlmr.utils._tables import is_missing

PLAIN = "#33638d"  # of points without labels


class Marks:
    """What is drawn at each point.

    Attributes
    ----------
    points : ndarray of shape (n_points, 2)
    labels, groups : Categories or None
    scale : tuple of two float, or None
        The least and the greatest label, where labels are numbers.
    color : list of str
        Of each point.
    values : list of object, or None
        The labels as they were passed.
    texts : list of str, or None
    """

    def __init__(self, points: np.ndarray, labels: Any, groups: Any, texts: Any):
        self.points, self.n_points = points, len(points)
        self.labels: Categories | None = None
        self.groups: Categories | None = None
        self.scale: tuple[float, float] | None = None
        self.color = [PLAIN] * self.n_points
        self.values = None if labels is None else read_column(labels, self.n_points, "labels")
        self.texts: list[str] | None = None
        if texts is not None:
            column = read_column(texts, self.n_points, "texts")
            self.texts = [MISSING if is_missing(text) else str(text) for text in column]
        if self.values is not None and is_scale(self.values):
            self._color_by_scale(self.values)
        elif self.values is not None:
            self.labels = categories(self.values, labels)
            palette = colors(self.labels.names)
            self.color = [palette[code] for code in self.labels.codes]
        if groups is not None:
            of_points = read_column(groups, self.n_points, "groups")
            self.groups = categories(of_points, groups).at_most(len(LOOKS))

    @property
    def both(self) -> tuple[Categories | None, Categories | None]:
        """Categories of labels and of groups."""
        return self.labels, self.groups

    def look(self, label: int, group: int) -> Look:
        """The shape of points of a label and a group."""
        if self.groups is not None:
            return LOOKS[group]
        return LOOKS[label % len(LOOKS)] if self.labels is not None else Look()

    def _color_by_scale(self, values: list[Any]) -> None:
        known = [float(value) for value in values if not is_missing(value)]
        for row, value in enumerate(values):
            if not is_missing(value) and not math.isfinite(value):
                raise ValueError(f"labels row {row}: a scale needs finite numbers, got {value!r}")
        low, high = min(known), max(known)
        self.scale = low, high
        self.color = [
            MISSING_COLOR if is_missing(value) else color_at((value - low) / (high - low)) for value in values
        ]
