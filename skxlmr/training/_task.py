"""What the loop needs to know of a task; the tasks are in ``skxlmr.batching`` and next to their estimators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from skxlmr.batching import Batch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule


class Task(Protocol):
    """Rows with targets: makes their batches, and reads the losses of a batch off a module."""

    n_rows: int

    def collate(self, rows: np.ndarray, rng: np.random.Generator, part: slice = ...) -> Batch: ...

    def losses(self, module: TaskModule, batch: Batch) -> dict[str, Tensor]: ...


@runtime_checkable
class TaskOfSteps(Protocol):
    """A task that says which rows stand together.

    ``rows_of_steps`` returns those of each step of an epoch, about ``n`` in each.
    """

    def rows_of_steps(self, n: int, rng: np.random.Generator) -> list[np.ndarray]: ...


@runtime_checkable
class JointTask(Protocol):
    """A task with a loss that compares the rows of all batches of a step.

    ``compares_rows`` says whether this loss is switched on. ``vectors`` (P, ...) are what it compares, ``joint_losses``
    returns the weighted loss of each of them, and ``losses`` takes as ``joint`` a function to call with its vectors instead.
    """

    @property
    def compares_rows(self) -> bool: ...

    def vectors(self, module: TaskModule, batch: Batch) -> Tensor: ...

    def joint_losses(self, vectors: Tensor, batches: Sequence[Batch]) -> Tensor: ...

    def losses(
        self, module: TaskModule, batch: Batch, joint: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, Tensor]: ...
