"""How a fit went: the training loss, and the validation score beside it."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn.exceptions import NotFittedError

from skxlmr.estimators._core.fit_attributes import kept_epoch
from skxlmr.inspection._display import new_axes, seen_on
from skxlmr.inspection._fonts import MOST_COLUMNS, MOST_COLUMNS_ALONG, drawn, in_legend
from skxlmr.persistence._model_card import _validation_score
from skxlmr.utils._imports.optional import import_extra
from skxlmr.utils._whole_numbers import whole_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# From dark to light and far apart in hue: told apart without colour vision, and with the strokes in greyscale
_COLORS = ("#00224e", "#c7560a", "#4a7fb0", "#7f7f7f", "#b59b00", "#5d3a6e")
_STROKES = ("-", "--", "-.", ":")
_MARKERS = ("o", "s", "^", "D", "v")
# By which those in some axes are found
_CURVE, _KEPT, _SCORES = "skxlmr loss curve", "skxlmr kept epoch", "skxlmr scores"


class LossCurveDisplay:
    """Training loss by epoch, and the validation score in a panel of its own.

    Use :meth:`from_estimator` or :meth:`from_values`.

    Parameters
    ----------
    losses : array-like of shape (n_epochs,)
        Mean training loss of each epoch.
    scores : array-like, optional
        Validation score after each epoch; higher is better. May be of the first epochs alone.
    step_losses : array-like, optional
        Training loss of each step of these epochs, drawn thin behind.
    kept_epoch : int, optional
        Number, from 1, of the epoch whose weights the fit ended with, which is marked.
    name : str, optional
        Of the curve, for the legend.
    score_name, epoch_name : str
        Labels of the axes.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        Those of the loss and, where there are scores, of the scores. Pass it as ``ax`` to draw another fit beside this one.
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure
    lines_ : list of matplotlib Line2D
        The curves of the loss and of the scores.

    See Also
    --------
    GroupScoresDisplay : Scores of the fitted estimator per language.
    skxlmr.metrics.search_scoring : How the fits of a search went, as columns of its table.
    sklearn.model_selection.LearningCurveDisplay : Scores by number of rows, not by epoch.

    Examples
    --------
    >>> from skxlmr import XLMRobertaClassifier
    >>> from skxlmr.inspection import LossCurveDisplay
    >>> texts = ["Guter Film", "Great film", "Schlechter Film", "Bad film"]
    >>> labels = ["good", "good", "bad", "bad"]
    >>> classifier = XLMRobertaClassifier("skxlmr-mini", learning_rate=1e-3, max_epochs=3, random_state=0)
    >>> display = LossCurveDisplay.from_estimator(classifier.fit(texts, labels))
    >>> display.ax_.get_ylabel()
    'training loss'
    """

    def __init__(
        self,
        losses: Any,
        *,
        scores: Any = None,
        step_losses: Any = None,
        kept_epoch: int | None = None,
        name: str | None = None,
        score_name: str = "validation score",
        epoch_name: str = "epoch",
    ):
        self.losses = losses
        self.scores = scores
        self.step_losses = step_losses
        self.kept_epoch = kept_epoch
        self.name = name
        self.score_name = score_name
        self.epoch_name = epoch_name

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, name: str | None = None, ax: Axes | Sequence[Axes] | None = None
    ) -> Self:
        """Draw how a fitted estimator was trained.

        After ``partial_fit`` each call is a point more, without a score. With ``warm_start`` the curve is that of the last
        fit; of a fit that was resumed it is whole. The epoch whose weights early stopping kept is marked, if they are still
        the weights of the estimator.

        Parameters
        ----------
        estimator : fitted estimator
            One that trains by epochs, of this library or with ``loss_curve_`` as in
            :class:`sklearn.neural_network.MLPClassifier`; also as the last step of a pipeline, as ``best_estimator_`` of a
            search, or loaded from a folder.
        name : str, optional
            Of the curve, for the legend.
        ax : matplotlib Axes or pair of them, optional
            As in :meth:`plot`.

        Returns
        -------
        LossCurveDisplay

        Raises
        ------
        ValueError
            If the estimator keeps no curve: it does not train, or ``from_checkpoint`` made it.
        NotFittedError
            If it is not fitted.
        """
        return cls(**_of_estimator(_trained_part(estimator)), name=name).plot(ax=ax)

    @classmethod
    def from_values(
        cls,
        losses: Any,
        *,
        scores: Any = None,
        step_losses: Any = None,
        kept_epoch: int | None = None,
        name: str | None = None,
        score_name: str = "validation score",
        ax: Axes | Sequence[Axes] | None = None,
    ) -> Self:
        """Draw losses and scores.

        Parameters
        ----------
        losses : array-like of shape (n_epochs,)
            Mean training loss of each epoch.
        scores, step_losses : array-like, optional
            Validation score after each epoch, and training loss of each step, as in the constructor.
        kept_epoch : int, optional
            Number, from 1, of the epoch whose weights the fit ended with.
        name, score_name : str
            Of the curve, and of the axis of the scores.
        ax : matplotlib Axes or pair of them, optional
            As in :meth:`plot`.

        Returns
        -------
        LossCurveDisplay
        """
        values = {"scores": scores, "step_losses": step_losses, "kept_epoch": kept_epoch}
        return cls(losses, **values, name=name, score_name=score_name).plot(ax=ax)

    def plot(self, ax: Axes | Sequence[Axes] | None = None) -> Self:
        """Draw it again.

        Parameters
        ----------
        ax : matplotlib Axes or pair of them, optional
            Of the loss and of the scores, such as ``axes_`` of another display. Into a single one the scores are drawn too,
            with an axis of their own on the right. None makes a new figure, with a panel for each.

        Returns
        -------
        self

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there are no losses, more scores than losses, or no such epoch.
        """
        losses, scores, steps = self._checked()
        axes = self._axes(ax, with_scores=len(scores) > 0)
        from matplotlib.ticker import MaxNLocator  # installed: there are axes

        loss_ax, score_ax = axes[0], axes[-1]
        n_before = sum(line.get_gid() == _CURVE for line in loss_ax.lines)
        color, stroke = seen_on(loss_ax, _COLORS[n_before % len(_COLORS)]), _STROKES[n_before % len(_STROKES)]
        marker = _MARKERS[n_before % len(_MARKERS)] if len(losses) <= 40 else ""
        look: dict[str, Any] = {"color": color, "linestyle": stroke, "marker": marker, "markersize": 5}
        if len(steps):
            places = np.arange(1, len(steps) + 1) * len(losses) / len(steps)
            label = None if self.name else "each step"
            loss_ax.plot(places, steps, color=color, alpha=0.35, linewidth=0.8, zorder=1, label=label)
        epochs = np.arange(1, len(losses) + 1)
        in_one = score_ax is not loss_ax and score_ax.bbox.bounds == loss_ax.bbox.bounds
        name = self.name or ("mean of each epoch" if len(steps) else "training loss" if in_one else "")
        lines = loss_ax.plot(epochs, losses, label=in_legend(name), gid=_CURVE, **look)
        if len(scores):
            of_scores = look | ({"linestyle": ":", "markerfacecolor": "white"} if in_one else {})
            label = f"{self.name}: {self.score_name}" if self.name and in_one else self.name or self.score_name
            lines += score_ax.plot(
                epochs[: len(scores)], scores, label=in_legend(label) if in_one or self.name else None, **of_scores
            )
        if self.kept_epoch is not None:
            self._mark_kept(axes, losses, scores, color)
        loss_ax.set_ylabel("training loss")
        if score_ax is not loss_ax:
            (score_name,), families = drawn([self.score_name], MOST_COLUMNS_ALONG)
            score_ax.set_ylabel(fill(score_name, 30), family=families)
        (loss_ax if in_one else score_ax).set_xlabel(self.epoch_name)
        loss_ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        self._add_legend(axes, in_one)
        self.axes_, self.ax_, self.figure_, self.lines_ = axes, loss_ax, loss_ax.figure, lines
        return self

    def _checked(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        losses, scores, steps = (
            np.asarray([] if values is None else values, np.float64)
            for values in (self.losses, self.scores, self.step_losses)
        )
        for name, values in (("losses", losses), ("scores", scores), ("step_losses", steps)):
            if values.ndim != 1:
                raise ValueError(f"{name} must have one dimension, got {values.ndim}")
        if not len(losses):
            raise ValueError("losses has no epochs: there is nothing to draw")
        if len(scores) > len(losses):
            raise ValueError(f"scores has {len(scores)} epochs, more than the {len(losses)} of losses")
        if self.kept_epoch is not None and not 1 <= whole_number(self.kept_epoch, "kept_epoch") <= len(losses):
            raise ValueError(f"kept_epoch must be from 1 to {len(losses)}, got {self.kept_epoch!r}")
        return losses, scores, steps

    def _axes(self, ax: Any, with_scores: bool) -> np.ndarray:
        """Axes of the loss and, where there are any, of the scores."""
        if ax is None and with_scores:
            pyplot = import_extra("matplotlib.pyplot", "plot", type(self).__name__)
            _, axes = pyplot.subplots(2, 1, sharex=True, figsize=(6.4, 5.6), layout="constrained")
            return np.asarray(axes)
        given = list(ax) if isinstance(ax, list | tuple | np.ndarray) else [ax]
        if not 1 <= len(given) <= 2:
            raise ValueError(f"ax must be one or two axes, got {len(given)}")
        axes = [new_axes(self, each) for each in given]
        if with_scores and len(axes) == 1:
            axes.append(_of_scores(axes[0]))
        return np.array(axes, object)

    def _mark_kept(self, axes: np.ndarray, losses: np.ndarray, scores: np.ndarray, color: str) -> None:
        """A line through the epoch in each panel, and a ring where it meets the curve."""
        kept = int(self.kept_epoch or 0)
        is_first = not any(line.get_gid() == _KEPT for line in axes[0].lines)
        said = "weights that were kept" if self.name else f"weights that were kept: epoch {kept}"
        for ax, values in zip(axes, (losses, scores), strict=False):
            label = said if ax is axes[0] and is_first else None
            ax.axvline(kept, color=color, linewidth=1, alpha=0.5, zorder=0)
            if kept <= len(values):
                ring = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "linestyle": "none"}
                ax.plot([kept], [values[kept - 1]], color=color, label=label, gid=_KEPT, **ring)

    def _add_legend(self, axes: np.ndarray, in_one: bool) -> None:
        parts = [ax.get_legend_handles_labels() for ax in (axes if in_one else axes[:1])]
        handles, labels = ([each for part in parts for each in part[k]] for k in (0, 1))
        if handles:
            labels, families = drawn(labels, MOST_COLUMNS_ALONG)
            font = {"family": families, "size": "small"}
            ncols = 2 if max(map(len, labels)) <= MOST_COLUMNS else 1  # side by side, long names would be cut
            axes[0].legend(
                handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=ncols, frameon=False, prop=font
            )


def _of_scores(ax: Axes) -> Axes:
    """The axes with the scale on the right, which an earlier fit may have made."""
    for each in ax.get_shared_x_axes().get_siblings(ax):
        if each.get_gid() == _SCORES and each.bbox.bounds == ax.bbox.bounds:
            return each
    twin = ax.twinx()
    twin.set_gid(_SCORES)
    return twin


def _trained_part(estimator: Any) -> Any:
    """The estimator that was trained: the last step, the best of a search."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif getattr(estimator, "steps", None):
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "regressor_"):  # TransformedTargetRegressor
            estimator = estimator.regressor_
        else:
            return estimator


def _of_estimator(estimator: Any) -> dict[str, Any]:
    """What the constructor takes, of a fitted estimator."""
    name, losses = type(estimator).__name__, getattr(estimator, "loss_curve_", None)
    if not losses:
        if hasattr(estimator, "from_checkpoint") and hasattr(estimator, "module_"):
            raise ValueError(
                f"this {name} was not trained, but made by from_checkpoint: there is no loss to draw before fit"
            )
        if hasattr(estimator, "partial_fit") or hasattr(estimator, "cv_results_"):
            raise NotFittedError(f"this {name} has no loss_curve_: it keeps none, or is not fitted yet")
        raise ValueError(
            f"{name} keeps no loss curve: pass an estimator that trains by epochs, a pipeline that ends in one, or a search "
            "over one"
        )
    scores = getattr(estimator, "validation_scores_", None)
    kept = kept_epoch(estimator)
    epochs = "epoch, or call of partial_fit" if hasattr(estimator, "_adam_state") else "epoch"
    return {
        "losses": losses,
        "scores": scores,
        "kept_epoch": None if kept is None else kept + 1,
        "score_name": _score_name(estimator),
        "epoch_name": f"{epochs} of the last fit" if getattr(estimator, "warm_start", False) else epochs,
    }


def _score_name(estimator: Any) -> str:
    head = getattr(estimator, "_head", None)
    if head is None:
        return "validation score"
    metric, meaning = _validation_score(estimator, head)
    said = metric or meaning.strip("`")
    return f"validation score ({said.replace('_', ' ')})" if said else "validation score"
