"""What the steps of a fit showed: whether it learnt is told from that, without another pass over the data.

A record has one size, however long the fit is: it is kept with the state of the fit, and put back with it.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np

FEWEST_STEPS = 10  # fewer say nothing
_MOST_IN_WINDOW = 50


@dataclass(frozen=True)
class EndedEpoch:
    """The steps up to the end of an epoch.

    Attributes
    ----------
    number : int
        0 is the first epoch.
    n_steps : int
        Steps of the fit so far whose rows have any weight.
    losses : list of float
        Mean losses of the last of them.
    lowest, highest : list of float, (n_columns,), or None
        The lowest and the highest number of a class that was predicted in the epoch, for each column of classes; None where
        there are no classes.
    """

    number: int
    n_steps: int
    losses: list[float]
    lowest: list[float] | None
    highest: list[float] | None

    def at_the_end(self) -> float:
        """Mean loss of the last few steps."""
        return float(np.mean(self.losses[-FEWEST_STEPS // 2 :]))


@dataclass
class StepRecord:
    """Losses and predictions of the steps of a fit.

    Attributes
    ----------
    from_start : bool
        Whether the first step of the fit is among them: not if it continues from a state that has no record.
    n_steps : int
        Steps whose rows have any weight.
    first, last : list of float
        Mean losses of the first and of the last of them.
    kept : EndedEpoch or None
        The epoch whose weights the fit would end with now.
    lowest, highest : list of float or None
        The lowest and the highest class of each column that was predicted since the last epoch.
    """

    from_start: bool = True
    n_steps: int = 0
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    kept: EndedEpoch | None = None
    lowest: list[float] | None = None
    highest: list[float] | None = None

    def end_step(self, loss: float, weight: float, predicted: np.ndarray | None) -> None:
        """Count a step; ``predicted`` are the lowest and the highest classes of its rows, (2, n_columns)."""
        if weight:
            self.n_steps += 1
            if len(self.first) < _MOST_IN_WINDOW:
                self.first.append(loss)
            self.last = [*self.last[1 - _MOST_IN_WINDOW :], loss]
        if predicted is not None:
            lowest, highest = predicted
            if self.lowest is not None and self.highest is not None:
                lowest, highest = np.minimum(self.lowest, lowest), np.maximum(self.highest, highest)
            self.lowest, self.highest = lowest.tolist(), highest.tolist()

    def end_epoch(self, number: int, is_kept: bool = True) -> None:
        """Count an epoch; ``is_kept`` says whether the fit would end with its weights."""
        if is_kept:
            self.kept = EndedEpoch(number, self.n_steps, list(self.last), self.lowest, self.highest)
        self.lowest = self.highest = None

    def change(self) -> tuple[float, float, float]:
        """Mean losses of the first and of the last steps up to the end of the kept epoch, and the noise of their difference.

        Both are means of a quarter of the steps, of at least 5 and at most 50; the noise is the standard error that the
        losses of the steps around these means give.
        """
        assert self.kept is not None
        n = min(max(self.kept.n_steps // 4, FEWEST_STEPS // 2), _MOST_IN_WINDOW)
        first, last = np.array(self.first[:n]), np.array(self.kept.losses[-n:])
        noise = np.sqrt((first.var(ddof=1) + last.var(ddof=1)) / n)
        return float(first.mean()), float(last.mean()), float(noise)

    def state(self) -> dict[str, Any]:
        """What a continued fit needs to know, for JSON."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any] | None) -> Self:
        """The record of such a state; of None, from versions that kept none, one that does not begin with the first step.

        Raises
        ------
        KeyError, TypeError, ValueError
            If it is none.
        """
        if state is None:
            return cls(from_start=False)
        record = cls(**state)
        if state["kept"] is not None:
            record.kept = EndedEpoch(**state["kept"])
        for part in (record, record.kept):
            if part is not None:
                _check(part)
        return record


def _check(part: StepRecord | EndedEpoch) -> None:
    """Refuse values that are not of the kinds that a record has."""
    for name, value in vars(part).items():
        if name == "kept" or (name in ("lowest", "highest") and value is None):
            continue
        if name in ("from_start", "number", "n_steps"):
            valid = type(value) is (bool if name == "from_start" else int) and value >= 0
        else:
            valid = isinstance(value, list) and all(type(number) is float for number in value)
        if not valid:
            raise ValueError(f"{name} of the record is {value!r:.80}")
