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
    """
    pyplot = import_extra("matplotlib.pyplot", "plot", type(display).__name__)
    if ax is None:
        _, ax = pyplot.subplots(figsize=figsize, layout="constrained")
    return ax


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
