"""What displays share: pictures with matplotlib, and HTML that needs no extra."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from skxlmr.utils._imports.optional import import_extra
from skxlmr.utils._shown.html import document

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def new_axes(display: Any, ax: Axes | None, figsize: tuple[float, float] | None = None) -> Axes:
    """The axes that were passed, or those of a new figure.

    Raises
    ------
    ImportError
        If matplotlib is not installed; says which extra installs it.
    TypeError
        If these are no axes.
    """
    pyplot = import_extra("matplotlib.pyplot", "plot", type(display).__name__)
    if ax is None:
        _, ax = pyplot.subplots(figsize=figsize, layout="constrained")
    if not hasattr(ax, "plot"):
        raise TypeError(f"ax must be Axes of matplotlib, got {ax!r:.80}")
    return ax


def seen_on(ax: Axes, color: str) -> str:
    """A dark colour for these axes: lighter, where their background is dark."""
    from matplotlib.colors import to_hex, to_rgba

    shade = 1.0  # of paper, below what is transparent
    for each in (ax.figure.figure, ax.figure, ax):
        red, green, blue, alpha = to_rgba(each.get_facecolor())
        shade = alpha * lightness((red, green, blue)) + (1 - alpha) * shade
    red, green, blue, alpha = to_rgba(color)
    return color if shade > 0.5 else to_hex((0.4 * red + 0.6, 0.4 * green + 0.6, 0.4 * blue + 0.6, alpha))


def lightness(rgb: Any) -> float:
    """How light a colour is, from 0 to 1; of one with an opacity, without it."""
    red, green, blue = rgb[:3]
    return float(0.299 * red + 0.587 * green + 0.114 * blue)


class HtmlDisplay:
    """A display that is HTML: a fragment in a notebook, or a page of its own."""

    _title: str

    def _fragment(self) -> str:
        """HTML with its style, to be put into any page."""
        raise NotImplementedError

    def _page(self) -> str:
        return document(self._title, self._fragment())

    def _repr_html_(self) -> str:
        return self._fragment()

    def to_html(self, path: str | Path | None = None) -> str:
        """Return a page of its own, which opens without a network.

        Parameters
        ----------
        path : str or path, optional
            Write it to this file, too.

        Returns
        -------
        str
            The whole document.
        """
        page = self._page()
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page
