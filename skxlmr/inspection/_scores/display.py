"""Pictures of scores of groups: dots with intervals, or a matrix from each group to each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np

from skxlmr.inspection._display import lightness, new_axes, seen_on
from skxlmr.inspection._fonts import MOST_COLUMNS, drawn
from skxlmr.inspection._scores.group_scores import group_scores
from skxlmr.inspection._scores.groups import ALL_OTHERS, ALL_ROWS, MEAN_OF_GROUPS
from skxlmr.inspection._scores.transfer_scores import TEST, TRAIN

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from pandas import DataFrame

_ORDERS = ("score", "given")
_COLOR = "#00224e"  # of matplotlib's cividis: dark on light, and in greyscale
_MARKED = "#b35806"


class GroupScoresDisplay:
    """Scores per language, or any other group: dots with their intervals, or a transfer matrix with its numbers.

    Use :meth:`from_estimator` or :meth:`from_scores`.

    Parameters
    ----------
    scores : DataFrame
        What :func:`group_scores` or :func:`transfer_scores` returns.
    metric : str or None
        The scorer to show, where there are several; None is the only one.

    Attributes
    ----------
    scores : DataFrame
        The table.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    points_ : matplotlib ErrorbarContainer
        The dots with their intervals; not for a matrix.
    im_ : matplotlib AxesImage
        The matrix; not for dots.
    text_ : ndarray of matplotlib Text
        The numbers in its cells.

    See Also
    --------
    group_scores : The table of scores.
    transfer_scores : The matrix.

    Examples
    --------
    >>> import pandas as pd
    >>> from skxlmr.inspection import GroupScoresDisplay
    >>> table = {"n_rows": [36, 36, 72], "score": [0.5, 0.75, 0.625], "low": [0.3, 0.6, 0.5], "high": [0.7, 0.9, 0.7]}
    >>> scores = pd.DataFrame(table, index=["de", "en", "all rows"])
    >>> display = GroupScoresDisplay.from_scores(scores)
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['en (36)', 'de (36)']
    """

    def __init__(self, scores: DataFrame, *, metric: str | None = None):
        self.scores = scores
        self.metric = metric

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        groups: Any,
        *,
        scoring: Any = None,
        sample_weight: Any = None,
        n_resamples: int = 1000,
        confidence_level: float = 0.95,
        random_state: Any = None,
        order: Literal["score", "given"] = "score",
        ax: Axes | None = None,
    ) -> Self:
        """Score a fitted estimator per group, and draw it.

        Parameters
        ----------
        estimator : fitted estimator
            What is scored.
        X, y, groups : list, array, Series or DataFrame
            Rows, targets and groups, as in :func:`group_scores`.
        scoring : str, callable or None
            One scorer.
        sample_weight : array-like of shape (n_rows,), optional
            How much each row counts.
        n_resamples : int, default=1000
            Samples of the bootstrap.
        confidence_level : float, default=0.95
            Of the intervals.
        random_state : int, RandomState or None
            Of the bootstrap.
        order : {"score", "given"}
            As in :meth:`plot`.
        ax : matplotlib Axes, optional
            None makes a new figure.

        Returns
        -------
        GroupScoresDisplay
            The table is its attribute ``scores``.
        """
        if isinstance(scoring, list | tuple | set | dict):
            raise ValueError(
                "scoring must be one scorer here; for several, call group_scores and from_scores(metric=...)"
            )
        scores = group_scores(
            estimator,
            X,
            y,
            groups,
            scoring=scoring,
            sample_weight=sample_weight,
            n_resamples=n_resamples,
            confidence_level=confidence_level,
            random_state=random_state,
        )
        return cls.from_scores(scores, order=order, ax=ax)

    @classmethod
    def from_scores(
        cls,
        scores: DataFrame,
        *,
        metric: str | None = None,
        order: Literal["score", "given"] = "score",
        ax: Axes | None = None,
    ) -> Self:
        """Draw a table of scores.

        Parameters
        ----------
        scores : DataFrame
            What :func:`group_scores` or :func:`transfer_scores` returns, or a part of its rows and columns.
        metric : str or None
            The scorer to show, where there are several.
        order : {"score", "given"}
            As in :meth:`plot`.
        ax : matplotlib Axes, optional
            None makes a new figure.

        Returns
        -------
        GroupScoresDisplay
        """
        return cls(scores, metric=metric).plot(ax=ax, order=order)

    def plot(
        self, ax: Axes | None = None, *, order: Literal["score", "given"] = "score", cmap: Any = "cividis"
    ) -> Self:
        """Draw it again.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None makes a new figure.
        order : {"score", "given"}
            Of the dots: the best group first, or as in the table. A matrix keeps its order.
        cmap : str or Colormap
            Of a matrix.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the table is none of those, or has several scorers and ``metric`` names none of them.
        """
        if order not in _ORDERS:
            raise ValueError(f"order must be one of {', '.join(map(repr, _ORDERS))}, got {order!r}")
        if self.scores.index.name == TRAIN and self.scores.columns.name == TEST:
            return self._plot_matrix(ax, cmap)
        return self._plot_dots(ax, order)

    def _columns(self) -> tuple[str, str, str]:
        """Names of the columns of the score and of the ends of its interval."""
        names = [str(each) for each in self.scores.columns]
        metrics = [name for name in names if name == "score" or f"{name}_low" in names]
        metric = self.metric or (metrics[0] if len(metrics) == 1 else None)
        if not metrics:
            raise ValueError(
                f"scores must be what group_scores or transfer_scores returns, got columns {', '.join(names)}"
            )
        if metric not in metrics:
            raise ValueError(f"metric must be one of {', '.join(map(repr, metrics))}, got {self.metric!r}")
        return (metric, "low", "high") if metric == "score" else (metric, f"{metric}_low", f"{metric}_high")

    def _plot_dots(self, ax: Axes | None, order: str) -> Self:
        score, low, high = self._columns()
        overall = [name for name in (ALL_ROWS, MEAN_OF_GROUPS) if name in self.scores.index]
        table = self.scores.drop(index=overall)
        if order == "score":
            table = table.sort_values(score, ascending=False, kind="stable")
        ax = new_axes(self, ax, figsize=(6.4, 1.6 + 0.3 * len(table)))
        values, places = table[score].to_numpy(float), np.arange(len(table))
        has_intervals = low in table and bool(table[[low, high]].notna().any(axis=None))
        ends = None
        if has_intervals:  # a group of a single row has none
            ends = np.nan_to_num([values - table[low].to_numpy(float), table[high].to_numpy(float) - values]).clip(0)
        level = self.scores.attrs.get("confidence_level")
        label = "group" + (f", with {100 * level:g} % interval" if has_intervals and level else "")
        color, marked = seen_on(ax, _COLOR), seen_on(ax, _MARKED)
        self.points_ = ax.errorbar(
            values, places, xerr=ends, fmt="o", color=color, ecolor=color, elinewidth=1.2, capsize=3, label=label
        )
        for name, style in zip(overall, ("--", ":"), strict=False):
            value = float(self.scores[score][name])
            ax.axvline(value, linestyle=style, color=marked, linewidth=1.5, zorder=0, label=f"{name}: {value:.3g}")
        counts = [""] * len(table)
        if "n_rows" in table:
            counts = [f" ({n})" for n in table["n_rows"]]
        _set_ticks(ax.yaxis, [f"{name}{n}" for name, n in zip(table.index, counts, strict=True)])
        ax.set_ylim(max(len(table), 1) - 0.5, -0.5)  # the first on top
        kind = self.scores.index.name or "group"
        names, families = drawn([self._said(score), f"{kind} (rows)" if "n_rows" in table else str(kind)])
        ax.set_xlabel(names[0], family=families)
        ax.set_ylabel(names[1], family=families)
        ax.grid(axis="x", alpha=0.3)
        ax.set_axisbelow(True)
        # from the right edge, with room above the names of the groups
        ax.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _plot_matrix(self, ax: Axes | None, cmap: Any) -> Self:
        values = self.scores.to_numpy(float)
        n_rows, n_columns = values.shape
        size = 9.0 if ax is None else min(10.0, 110 / n_columns)  # a new figure grows with the matrix
        names = [list(map(str, axis)) for axis in (self.scores.columns, self.scores.index)]
        is_narrow = n_columns > 12 or max(map(len, names[0])) > 6
        below, beside = (0.08 * max(min(MOST_COLUMNS, max(map(len, each))) - 6, 0) for each in names)  # inches
        figsize = (2.4 + 0.55 * n_columns + beside, 1.6 + 0.5 * n_rows + below)  # long names need room
        ax = new_axes(self, ax, figsize=figsize)
        self.im_ = ax.imshow(values, cmap=cmap, aspect="auto")
        self.text_ = np.empty(values.shape, object)
        most = np.abs(values[np.isfinite(values)]).max(initial=0)
        form = ".2f" if 0.1 <= most < 1000 or not most else ".2g"  # others would all be 0.00, or wider than a cell
        for (i, k), value in np.ndenumerate(values):
            is_dark = np.isfinite(value) and lightness(self.im_.cmap(self.im_.norm(value))) < 0.45
            shown = "–" if np.isnan(value) else f"{value:{form}}"
            color = "white" if is_dark else "black" if np.isfinite(value) else seen_on(ax, "black")
            self.text_[i, k] = ax.text(k, i, shown, ha="center", va="center", color=color, fontsize=size)
            if self.scores.index[i] == self.scores.columns[k]:  # a frame tells it in greyscale, too
                ax.add_patch(_frame(i, k, color))
        _set_ticks(ax.xaxis, names[0], rotation=90 if is_narrow else 0)
        _set_ticks(ax.yaxis, names[1])
        ax.set(xlabel="scored on", ylabel="trained on")
        if ALL_OTHERS in self.scores.index:
            ax.axhline(list(self.scores.index).index(ALL_OTHERS) - 0.5, color="white", linewidth=3)
        (name,), families = drawn([self._said("score")])
        ax.figure.colorbar(self.im_, ax=ax).set_label(name, family=families)
        ax.set_title("framed: the same group, cross-validated", fontsize="small")
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _said(self, score: str) -> str:
        return str(self.scores.attrs.get("scoring", score)) if score == "score" else score


def _set_ticks(axis: Any, names: list[str], **style: Any) -> None:
    """A name at each whole number, in fonts that have its letters."""
    labels, families = drawn(names)
    axis.set_ticks(range(len(names)), labels, family=families, **style)


def _frame(i: int, k: int, color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((k - 0.42, i - 0.42), 0.84, 0.84, fill=False, edgecolor=color, linewidth=1.2)
