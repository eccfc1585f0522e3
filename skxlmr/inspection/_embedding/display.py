"""A map of vectors: a page with the texts, or a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from skxlmr.inspection._display import HtmlDisplay, new_axes, seen_on
from skxlmr.inspection._embedding.categories import Look, colors
from skxlmr.inspection._embedding.marks import PLAIN, Marks
from skxlmr.inspection._embedding.page import fragment, page_of
from skxlmr.inspection._embedding.projection import check_embeddings, project
from skxlmr.inspection._fonts import MOST_COLUMNS_ALONG, drawn, in_legend
from skxlmr.utils._shown.html import framed
from skxlmr.utils._tables import column_names
from skxlmr.utils._validation import text_columns

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_HEIGHT = 720  # of the frame in a notebook


class EmbeddingDisplay(HtmlDisplay):
    """Vectors of texts on a map of two dimensions: coloured by label, with a shape for each language or other group.

    Use :meth:`from_estimator` or :meth:`from_embeddings`. In a notebook it shows itself: hover a point, or reach it with Tab
    and the arrow keys, to read its text; search for words; click a label or a group to see it alone. :meth:`to_html` is the
    same as a file, which opens without a network, and :meth:`plot` a picture.

    Parameters
    ----------
    points : array-like of shape (n_points, 2)
        Where each point lies.
    labels : array-like of shape (n_points,), optional
        Colours. More than ten different numbers are a scale, anything else is a category; those of a categorical column keep
        its order, others are sorted.
    groups : array-like of shape (n_points,), optional
        Shapes. Without groups each category of the labels has a shape of its own, for readers without colours. There are 24
        shapes: of more groups the rarest share the last one.
    texts : sequence of str, optional
        What a point says.
    axis_names : tuple of two str
        Labels of the axes.
    label_name, group_name : str
        What labels and groups are.

    Attributes
    ----------
    points, labels, groups, texts, axis_names
        As passed.
    ax_ : matplotlib Axes
        After ``plot``.
    figure_ : matplotlib Figure
    scatters_ : list of matplotlib PathCollection

    See Also
    --------
    skxlmr.XLMRobertaVectorizer : Makes vectors of texts.
    AttentionDisplay : What happens inside a text.
    GroupScoresDisplay : Scores per language.

    Notes
    -----
    A map keeps little of what vectors of hundreds of dimensions say. PCA shows the two directions of most variance, and how
    much of it they hold is written at the axes. t-SNE and UMAP keep neighbours together; sizes of clusters and distances
    between them mean little, and another ``random_state`` gives another map. A page holds several thousand points.

    Examples
    --------
    >>> from skxlmr import XLMRobertaVectorizer
    >>> from skxlmr.inspection import EmbeddingDisplay
    >>> texts = ["Guter Film", "Schlechter Film", "Great film", "Bad film"]
    >>> vectorizer = XLMRobertaVectorizer("skxlmr-mini").fit(texts)
    >>> display = EmbeddingDisplay.from_estimator(vectorizer, texts, groups=["de", "de", "en", "en"])
    >>> display.points.shape
    (4, 2)
    >>> "Guter Film" in display.to_html()
    True
    """

    def __init__(
        self,
        points: Any,
        *,
        labels: Any = None,
        groups: Any = None,
        texts: Sequence[str] | None = None,
        axis_names: tuple[str, str] = ("dimension 1", "dimension 2"),
        label_name: str = "label",
        group_name: str = "group",
    ):
        self.points = points
        self.labels = labels
        self.groups = groups
        self.texts = texts
        self.axis_names = axis_names
        self.label_name = label_name
        self.group_name = group_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        method: Any = "pca",
        labels: Any = None,
        groups: Any = None,
        texts: Sequence[str] | None = None,
        random_state: Any = None,
        ax: Axes | None = None,
    ) -> Self:
        """Map what an estimator makes of rows.

        Parameters
        ----------
        estimator : fitted estimator with ``transform``
            Of a pipeline or search that predicts, the features that its last step reads.
        X : list, array, Series or DataFrame of rows
            As ``estimator.transform`` takes it.
        method : {"pca", "tsne", "umap"} or transformer
            How vectors become points: :class:`sklearn.decomposition.PCA`, :class:`sklearn.manifold.TSNE`, UMAP if
            ``umap-learn`` is installed, or an object whose ``fit_transform`` makes two columns.
        labels, groups : str or array-like of shape (n_rows,), optional
            Or the name of a column of X.
        texts : sequence of str, optional
            What the points say; None takes the texts of X, if it has nothing but texts.
        random_state : int, RandomState or None
            Of the method.
        ax : matplotlib Axes, optional
            Draw a picture there, too. None draws none: call :meth:`plot`.

        Returns
        -------
        EmbeddingDisplay

        Raises
        ------
        TypeError
            If the estimator has no ``transform``.
        ValueError
            If lengths differ, or the rows are too few for the method.
        ImportError
            If umap-learn is asked for and not installed.
        """
        embeddings = _features(estimator, X)
        names = {}
        for name, values in (("label_name", labels), ("group_name", groups)):
            if isinstance(values, str):
                names[name] = values
        labels, groups = (_column(X, *each) for each in (("labels", labels), ("groups", groups)))
        texts = _texts_of(X) if texts is None else texts
        display = cls.from_embeddings(
            embeddings, method=method, labels=labels, groups=groups, texts=texts, random_state=random_state
        )
        vars(display).update(names)
        return display if ax is None else display.plot(ax=ax)

    @classmethod
    def from_embeddings(
        cls,
        embeddings: Any,
        *,
        method: Any = "pca",
        labels: Any = None,
        groups: Any = None,
        texts: Sequence[str] | None = None,
        random_state: Any = None,
        ax: Axes | None = None,
    ) -> Self:
        """Map vectors.

        Parameters
        ----------
        embeddings : array-like of shape (n_points, n_features)
            The vectors.
        method : {"pca", "tsne", "umap"} or transformer
            How they become points, as in :meth:`from_estimator`.
        labels, groups : array-like of shape (n_points,), optional
            Colours and shapes.
        texts : sequence of str, optional
            What the points say.
        random_state : int, RandomState or None
            Of the method.
        ax : matplotlib Axes, optional
            Draw a picture there, too. None draws none: call :meth:`plot`.

        Returns
        -------
        EmbeddingDisplay
        """
        projection = project(check_embeddings(embeddings), method, random_state)
        names = {
            name: str(values.name)
            for name, values in (("label_name", labels), ("group_name", groups))
            if isinstance(getattr(values, "name", None), str)
        }
        display = cls(
            projection.points, labels=labels, groups=groups, texts=texts, axis_names=projection.axis_names, **names
        )
        display._read()  # what does not fit is said now
        return display if ax is None else display.plot(ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw a picture with matplotlib.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            None makes a new figure.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        marks = self._read()
        ax = new_axes(self, ax, figsize=(7.6, 5.2))
        self.scatters_ = []
        outline = seen_on(ax, "black")
        keys = np.stack([np.zeros(marks.n_points, int) if each is None else each.codes for each in marks.both], 1)
        for label, group in np.unique(keys, axis=0).tolist():
            at = np.flatnonzero((keys == [label, group]).all(axis=1))
            look, fill = marks.look(label, group), [marks.color[k] for k in at]
            style: dict[str, Any] = {"edgecolors": outline, "linewidths": 0.4} if look.filled else {"linewidths": 1.4}
            edges = [seen_on(ax, color) for color in fill]
            style |= {"facecolors": fill} if look.filled else {"facecolors": "none", "edgecolors": edges}
            self.scatters_.append(
                ax.scatter(marks.points[at, 0], marks.points[at, 1], marker=look.marker, s=34, **style)
            )
        names, families = drawn(self.axis_names, MOST_COLUMNS_ALONG)
        ax.set_xlabel(names[0], family=families)
        ax.set_ylabel(names[1], family=families)
        self._add_legend(ax, marks)
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def _add_legend(self, ax: Axes, marks: Marks) -> None:
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import Normalize
        from matplotlib.lines import Line2D

        handles: list[tuple[str, dict[str, Any]]] = []
        for heading, entries in self._legend(marks):
            handles.append((heading, {"marker": ""}))
            for name, color, look in entries:
                face = color if look.filled else "none"
                edge = seen_on(ax, "black" if look.filled else color)
                handles.append((name, {"marker": look.marker, "markerfacecolor": face, "markeredgecolor": edge}))
        if handles:
            labels, families = drawn([label for label, _ in handles])
            shown = [Line2D([], [], linestyle="none", markeredgewidth=0.8, **look) for _, look in handles]
            legend = ax.legend(
                shown,
                [in_legend(label) for label in labels],
                loc="upper left",
                bbox_to_anchor=(1.01, 1),
                frameon=False,
                ncols=1 + (len(shown) - 1) // 22,
                handletextpad=0.2,
                prop={"family": families, "size": "small"},
            )
            for text, (_, entry) in zip(legend.get_texts(), handles, strict=True):
                text.set_fontweight("normal" if entry["marker"] else "bold")
        if marks.scale is not None:
            mapped = ScalarMappable(Normalize(*marks.scale), "viridis")
            (name,), families = drawn([self.label_name], MOST_COLUMNS_ALONG)
            ax.figure.colorbar(mapped, ax=ax, location="bottom", fraction=0.05).set_label(name, family=families)

    def _legend(self, marks: Marks) -> list[tuple[str, list[tuple[str, str, Look]]]]:
        """Headings, each with its entries: name, colour and shape."""
        found = []
        if marks.labels is not None:
            looks = [Look() if marks.groups is not None else marks.look(k, 0) for k in range(len(marks.labels.names))]
            found.append(
                (self.label_name, list(zip(marks.labels.names, colors(marks.labels.names), looks, strict=True)))
            )
        if marks.groups is not None:
            color = "#8a8a8a" if marks.labels is not None or marks.scale is not None else PLAIN
            looks = [marks.look(0, k) for k in range(len(marks.groups.names))]
            found.append(
                (self.group_name, [(name, color, look) for name, look in zip(marks.groups.names, looks, strict=True)])
            )
        return found

    def _read(self) -> Marks:
        points = check_embeddings(self.points, "points")
        if points.shape[1] != 2:
            raise ValueError(f"points must have two columns, got {points.shape[1]}")
        return Marks(points, self.labels, self.groups, self.texts)

    @property
    def _title(self) -> str:  # type: ignore[override]
        return f"{len(self._read().points)} texts" if self.texts is not None else "Map of vectors"

    def _fragment(self) -> str:
        marks = self._read()
        return fragment(self._title, marks, self._legend(marks), self.axis_names, self.label_name, self.group_name)

    def _page(self) -> str:
        return page_of(self._title, self._fragment())

    def _repr_html_(self) -> str:
        return framed(self._page(), self._title, _HEIGHT)


def _features(estimator: Any, X: Any) -> Any:
    """What the estimator makes of X; of one that only predicts, what its last step reads."""
    while hasattr(estimator, "best_estimator_"):
        estimator = estimator.best_estimator_
    if hasattr(estimator, "transform"):
        return estimator.transform(X)
    if len(getattr(estimator, "steps", ())) > 1:
        return estimator[:-1].transform(X)
    raise TypeError(
        f"{type(estimator).__name__} has no transform, which makes the vectors: pass one that has, such as "
        "XLMRobertaVectorizer, or a pipeline that holds one"
    )


def _column(X: Any, name: str, values: Any) -> Any:
    if not isinstance(values, str):
        return values
    if values not in column_names(X):
        raise ValueError(f"{name}={values!r} is no column of X: pass a value for each row instead")
    return X[values]


def _texts_of(X: Any) -> list[str] | None:
    """The texts of X, if it holds nothing else; two of a row are joined."""
    try:
        columns = text_columns(X, "X")
    except (TypeError, ValueError):
        return None
    return [" | ".join(row) for row in zip(*columns, strict=True)] if len(columns) <= 2 else None
