"""What the steps of a fit showed: whether it learnt is told from that, without another pass over the data."""

from dataclasses import dataclass, field

import numpy as np

FEWEST_STEPS = 10  # fewer say nothing
_MOST_IN_WINDOW = 50


@dataclass
class StepRecord:
    """Losses and predictions of the steps of a fit.

    Attributes
    ----------
    from_start : bool
        Whether the first step of the fit is among them: not if it was resumed.
    losses : list of float
        Mean loss of each step whose rows have any weight.
    ends : list of int
        Number of those steps after each epoch.
    lowest, highest : list of ndarray of shape (n_columns,), or of None
        For each epoch the lowest and the highest number of a class that was predicted, for each column of classes; None
        where there are no classes.
    """

    from_start: bool
    losses: list[float] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    lowest: list[np.ndarray | None] = field(default_factory=list)
    highest: list[np.ndarray | None] = field(default_factory=list)
    _predicted: list[np.ndarray] = field(default_factory=list)

    def end_step(self, loss: float, weight: float, predicted: np.ndarray | None) -> None:
        """Count a step; ``predicted`` are the lowest and the highest classes of its rows, (2, n_columns)."""
        if weight:
            self.losses.append(loss)
        if predicted is not None:
            self._predicted.append(predicted)

    def end_epoch(self) -> None:
        """Count an epoch."""
        self.ends.append(len(self.losses))
        ranges = np.stack(self._predicted) if self._predicted else None
        self.lowest.append(None if ranges is None else ranges[:, 0].min(0))
        self.highest.append(None if ranges is None else ranges[:, 1].max(0))
        self._predicted = []

    def change(self, epoch: int) -> tuple[float, float, float]:
        """Mean losses of the first and of the last steps up to the end of this epoch, and the noise of their difference.

        Both are means of a quarter of the steps, of at least 5 and at most 50; the noise is the standard error that the
        losses of the steps around these means give.
        """
        losses = np.array(self.losses[: self.ends[epoch]])
        n = min(max(len(losses) // 4, FEWEST_STEPS // 2), _MOST_IN_WINDOW)
        first, last = losses[:n], losses[-n:]
        noise = np.sqrt((first.var(ddof=1) + last.var(ddof=1)) / n)
        return float(first.mean()), float(last.mean()), float(noise)

    def at_the_end(self, epoch: int) -> float:
        """Mean loss of the last few steps up to the end of this epoch."""
        return float(np.mean(self.losses[: self.ends[epoch]][-FEWEST_STEPS // 2 :]))
