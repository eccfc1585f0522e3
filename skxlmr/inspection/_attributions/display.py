"""Contributions of words as a display: coloured text, or bars."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skxlmr.inspection._attributions.attribute import attributions
from skxlmr.inspection._attributions.markup import METHODS, fragment, heading
from skxlmr.inspection._attributions.value import TokenAttribution
from skxlmr.inspection._display import HtmlDisplay, new_axes, seen_on
from skxlmr.inspection._fonts import MOST_COLUMNS_ALONG, drawn
from skxlmr.utils._tables import as_list
from skxlmr.utils._whole_numbers import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.container import BarContainer
    from matplotlib.figure import Figure

UP, DOWN = "#e67e22", "#1f77b4"  # orange and blue; bars that lower are hatched too


class TokenAttributionDisplay(HtmlDisplay):
    """Contributions of words to predictions: coloured text in HTML, or bars.

    In a notebook, and with :meth:`to_html`, each row is its text: words that raise what is explained are orange with a solid
    line below, words that lower it are blue with a dashed line. The value of a word is shown where one points at it, and all
    values are in a table that opens. :meth:`plot` draws the words of one row as bars, with matplotlib (extra ``plot``).

    Parameters
    ----------
    attributions : list of TokenAttribution
        What :func:`attributions` returns.

    Attributes
    ----------
    attributions : list of TokenAttribution
    ax_, figure_ : matplotlib Axes and Figure
        After :meth:`plot`.
    bars_ : matplotlib BarContainer
        After :meth:`plot`.

    See Also
    --------
    attributions : Computes the contributions.

    Examples
    --------
    >>> from skxlmr.inspection import TokenAttributionDisplay
    >>> display = TokenAttributionDisplay.from_values(["Great film"], [[(0, 5), (6, 10)]], [[1.5, -0.25]], targets=["good"])
    >>> display
    TokenAttributionDisplay(1 text)
    >>> display.to_html().startswith("<!DOCTYPE html>")
    True
    """

    _title = "Contributions of words"

    def __init__(self, attributions: Sequence[TokenAttribution]):
        self.attributions = list(attributions)

    @classmethod
    def from_estimator(
        cls, estimator: Any, X: Any, method: Any = "integrated_gradients", *, ax: Axes | None = None, **kwargs: Any
    ) -> Self:
        """Compute the contributions, and make a display of them.

        Parameters
        ----------
        estimator, X, method : fitted estimator, rows, and str
            As for :func:`attributions`.
        ax : matplotlib Axes, optional
            Draw the first row into it, too, see :meth:`plot`.
        **kwargs
            Further arguments of :func:`attributions`, such as ``target``.

        Returns
        -------
        TokenAttributionDisplay

        Examples
        --------
        >>> from skxlmr import XLMRobertaVectorizer
        >>> from skxlmr.inspection import TokenAttributionDisplay
        >>> pairs = [("A small house", "Ein kleines Haus")]
        >>> display = TokenAttributionDisplay.from_estimator(XLMRobertaVectorizer("skxlmr-mini"), pairs, "occlusion")
        >>> display.attributions[0].words
        ('A', 'small', 'house', 'Ein', 'kleines', 'Haus')
        """
        display = cls(attributions(estimator, X, method, **kwargs))
        return display if ax is None else display.plot(ax)

    @classmethod
    def from_values(
        cls,
        texts: Any,
        spans: Sequence[Sequence[tuple[int, int]]],
        values: Sequence[Any],
        *,
        targets: Any = None,
        method: str = "",
        ax: Axes | None = None,
    ) -> Self:
        """Make a display of contributions that were computed elsewhere, such as by ``lime`` or ``shap``.

        Parameters
        ----------
        texts : list, array or Series of str
            What was read.
        spans : list of list of (start, end)
            For each text where its words begin and end, in characters.
        values : list of array-like
            For each text the contributions of its words.
        targets : list, optional
            For each text what is explained.
        method : str
            How they were computed.
        ax : matplotlib Axes, optional
            Draw the first row into it, too, see :meth:`plot`.

        Returns
        -------
        TokenAttributionDisplay

        Raises
        ------
        ValueError
            If there are not as many of each (names the row), or a span lies outside of its text.
        """
        column = as_list(texts)
        goals = [None] * len(column) if targets is None else as_list(targets)
        for name, given in (("spans", spans), ("values", values), ("targets", goals)):
            if len(given) != len(column):
                raise ValueError(f"{name} has {len(given)} rows for {len(column)} texts")
        rows = []
        for row, (text, places, numbers, goal) in enumerate(zip(column, spans, values, goals, strict=True)):
            try:
                rows.append(TokenAttribution((text,), tuple((0, *place) for place in places), numbers, method, goal))
            except (TypeError, ValueError) as error:
                raise type(error)(f"row {row}: {error}") from error
        display = cls(rows)
        return display if ax is None else display.plot(ax)

    def plot(self, ax: Axes | None = None, *, row: int = 0, n_words: int = 20, **kwargs: Any) -> Self:
        """Draw the words of one row as bars.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default those of a new figure.
        row : int
            Which row.
        n_words : int
            Most words. All stand in the order of the text; of a longer text only those with the largest values, the largest
            first.
        **kwargs
            For :meth:`matplotlib.axes.Axes.barh`.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        IndexError
            If there is no such row.
        ValueError
            If ``n_words`` is less than 1.
        """
        n_words, row = whole_number(n_words, "n_words", least=1), whole_number(row, "row")
        if not -len(self.attributions) <= row < len(self.attributions):
            raise IndexError(f"row must be one of the {len(self.attributions)} rows, got {row}")
        shown = self.attributions[row]
        order = np.arange(len(shown.spans))
        if len(order) > n_words:
            order = np.argsort(-np.abs(shown.values), kind="stable")[:n_words]
        values = shown.values[order]
        every = shown.words
        words = [" ".join(every[i].split()) for i in order.tolist()]
        ax = new_axes(self, ax, (6.4, 1.4 + 0.27 * max(len(order), 3)))
        colours = np.where(values < 0, DOWN, UP)
        self.bars_: BarContainer = ax.barh(
            np.arange(len(order)), values, **{"color": colours.tolist(), "edgecolor": "0.2", "linewidth": 0.6, **kwargs}
        )
        for bar, value in zip(self.bars_, values, strict=True):
            if value < 0:
                bar.set_hatch("////")
        labels, families = drawn(words)
        ax.set_yticks(np.arange(len(order)), labels, fontfamily=families)
        ax.invert_yaxis()
        ax.axvline(0, color=seen_on(ax, "0.2"), linewidth=0.8)
        method = METHODS.get(shown.method, shown.method)
        (xlabel,), families = drawn(["Contribution" + (f" ({method})" if method else "")], MOST_COLUMNS_ALONG)
        ax.set_xlabel(xlabel, fontfamily=families)
        (title,), families = drawn([heading(shown)], MOST_COLUMNS_ALONG)
        ax.set_title(fill(title, 45), fontfamily=families, fontsize="medium")
        self.ax_ = ax
        self.figure_: Figure = ax.figure  # type: ignore[assignment]  # of axes inside a subfigure it is that one
        return self

    def _fragment(self) -> str:
        return fragment(self.attributions)

    def __repr__(self) -> str:
        n = len(self.attributions)
        return f"{type(self).__name__}({n} text{'' if n == 1 else 's'})"
