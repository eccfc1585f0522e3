"""The page of a map: points of SVG with their texts, and the files beside this one."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np

from skxlmr.inspection._embedding.categories import SHAPES, Look, color_at
from skxlmr.inspection._embedding.marks import Marks
from skxlmr.utils._shown.html import direction, document
from skxlmr.utils._shown.marks import visible
from skxlmr.utils._tables import is_missing

WIDTH, HEIGHT, MARGIN = 1000, 720, 24
MOST_CHARACTERS = 600  # of a text


def page_of(title: str, body: str) -> str:
    """A whole page around the fragment."""
    return document(title, body, script=_file("page.js"))


def fragment(
    title: str,
    marks: Marks,
    legend: list[tuple[str, list[tuple[str, str, Look]]]],
    axis_names: tuple[str, str],
    label_name: str,
    group_name: str,
) -> str:
    """The map with its legend; the script of the page makes it answer to mouse and keyboard."""
    places = _places(marks.points)
    points = "".join(_point(marks, k, x, y) for k, (x, y) in enumerate(places.tolist()))
    across, up = map(visible, axis_names)
    return (
        f"<style>{_file('page.css')}</style>\n"
        f'<div class="skxlmr-map" data-label="{visible(label_name)}" data-group="{visible(group_name)}">\n'
        '<div class="tools"><label>Search <input type="search" autocomplete="off" spellcheck="false"></label> '
        f'<output aria-live="polite">{marks.n_points} points</output></div>\n'
        f'<svg class="map" tabindex="-1" viewBox="0 0 {WIDTH} {HEIGHT}" role="group" '
        f'aria-label="{visible(title)}: a point for each; move with the arrow keys">\n'
        f'<rect class="frame" x="1" y="1" width="{WIDTH - 2}" height="{HEIGHT - 2}"/>{points}</svg>\n'
        f"<p>Across: {across}. Up: {up}.</p>\n{_scale(marks, label_name)}"
        f"{''.join(_entries(*each, kind) for each, kind in zip(legend, _kinds(marks), strict=True))}"
        '<div class="tip" role="tooltip" hidden></div>\n</div>'
    )


def _kinds(marks: Marks) -> list[str]:
    return [kind for kind, each in zip("lg", marks.both, strict=True) if each is not None]


def _places(points: np.ndarray) -> np.ndarray:
    """Where the points lie in the picture, y downwards."""
    low, spread = points.min(0), np.ptp(points, axis=0)
    shares = np.where(spread > 0, (points - low) / np.where(spread > 0, spread, 1), 0.5)
    size = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    return np.round(MARGIN + np.stack([shares[:, 0], 1 - shares[:, 1]], 1) * size, 1)


def _point(marks: Marks, k: int, x: float, y: float) -> str:
    label, group = (None if each is None else int(each.codes[k]) for each in marks.both)
    text = f"row {k}" if marks.texts is None else marks.texts[k]
    if len(text) > MOST_CHARACTERS:
        text = f"{text[:MOST_CHARACTERS]}… ({len(text)} characters)"
    about = "".join(f' data-{name}="{code}"' for name, code in (("l", label), ("g", group)) if code is not None)
    if marks.scale is not None and marks.values is not None:
        about += f' data-v="{visible("missing" if is_missing(marks.values[k]) else _digits(marks.values[k]))}"'
    if direction(text) == "rtl":
        about += ' data-dir="rtl"'
    shape = _shape(marks.look(label or 0, group or 0), marks.color[k])
    return f'<g class="p" transform="translate({x:g} {y:g})"{about}>{shape}<title>{visible(text)}</title></g>'


def _shape(look: Look, color: str) -> str:
    corners = "L".join(f"{x:g} {y:g}" for x, y in SHAPES[look.marker])
    return f'<path{"" if look.filled else " class=hollow"} style="--c:{color}" d="M{corners}Z"/>'


def _entries(heading: str, entries: list[tuple[str, str, Look]], kind: str) -> str:
    """Buttons of the categories of one kind."""
    buttons = "".join(
        f'<button type="button" aria-pressed="false" data-kind="{kind}" data-code="{k}">'
        f'<svg viewBox="-1.4 -1.4 2.8 2.8" aria-hidden="true">{_shape(look, color)}</svg>'
        f'<span dir="auto">{visible(name)}</span></button>'
        for k, (name, color, look) in enumerate(entries)
    )
    return (
        f'<div class="legend" role="group" aria-label="{visible(heading)}"><b>{visible(heading)}</b> {buttons}</div>\n'
    )


def _scale(marks: Marks, name: str) -> str:
    if marks.scale is None:
        return ""
    low, high = marks.scale
    stops = ", ".join(color_at(k / 8) for k in range(9))
    return (
        f'<div class="legend"><b>{visible(name)}</b> {_digits(low)} <span class="scale" '
        f'style="background:linear-gradient(to right, {stops})"></span> {_digits(high)}</div>\n'
    )


def _digits(number: float) -> str:
    """A number of a scale; large ones, such as dates, with all digits."""
    return f"{number:.15g}" if abs(number) >= 1e5 else f"{number:g}"


def _file(name: str) -> Any:
    return files("skxlmr.inspection._embedding").joinpath(name).read_text(encoding="utf-8")
