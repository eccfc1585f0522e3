"""The batches of each step: made one step ahead, and smaller where they do not fit into the memory of the GPU.

The gradient of a step is the sum over its batches, and a batch can be cut in the same way: its parts draw what the whole
would have drawn, and losses that compare rows are computed over all parts (see ``_gradient_cache``). Halving the batches
and doubling their number therefore changes no weight, except through the dropout that is drawn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from skxlmr.batching import Batch
from skxlmr.training._distributed import Processes
from skxlmr.training._task import Task
from skxlmr.utils._devices.device import is_out_of_memory, release_memory
from skxlmr.utils._devices.fork import will_compute
from skxlmr.utils._imports.later import torch
from skxlmr.utils._warnings import OutOfMemoryWarning, warn_once_per_call

Result = TypeVar("Result")


@dataclass(frozen=True)
class MadeStep:
    """The batches of a step.

    Attributes
    ----------
    batches : list of Batch
        What this process computes.
    whole : list of Batch
        What all processes compute together; without others, the same.
    n_parts : list of int
        How many of ``batches`` are parts of each of ``whole``.
    processes : Processes or None
        Those that share the step.
    """

    batches: list[Batch]
    whole: list[Batch]
    n_parts: list[int]
    processes: Processes | None = None


class StepBatches:
    """The batches of each step of a fit; those of the next step are made while the device computes.

    They draw from the generator in the order of the steps. Batches made ahead count as drawn once their step begins, so
    after every step the generator is where it would be without them: its state can be saved, and the epoch may end there.

    Parameters
    ----------
    batch_size : int
        Rows per batch that were asked for.
    accumulate : int
        Batches per step.
    device : torch.device
    rng : Generator
        Draws what the batches need, such as masks.
    processes : Processes, optional
        Those that share each batch.

    Attributes
    ----------
    step : MadeStep
        The step that is being computed.
    """

    step: MadeStep

    def __init__(
        self,
        batch_size: int,
        accumulate: int,
        device: torch.device,
        rng: np.random.Generator,
        processes: Processes | None = None,
    ):
        self.processes = processes
        self.batch_size, self.accumulate, self.device, self.rng = batch_size, accumulate, device, rng
        self.most_rows = self._warned_of = batch_size  # that fit into a batch, as found so far
        will_compute()

    def begin_epoch(self, task: Task, steps: Sequence[list[np.ndarray]]) -> None:
        """Take up a task, and the rows of each batch of each step that is left."""
        self.task, self._left = task, deque(steps)
        self._ahead: tuple[MadeStep, Any] | None = None  # with the generator's state after them

    def run(self, compute: Callable[[list[Batch]], Result], undo: Callable[[], object] = lambda: None) -> Result:
        """Result of ``compute`` for the batches of the next step, or for parts of them if memory runs out.

        After a failure ``undo`` takes back what ``compute`` has done.

        Raises
        ------
        torch.OutOfMemoryError
            If a single row does not fit.
        """
        rows, start = self._left.popleft(), self.rng.bit_generator.state
        while True:
            self.step = self._take(rows)
            try:
                result = compute(self.step.batches)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            # Only here, after the except block, are the error and the tensors of its frames gone.
            del self.step
            undo()
            release_memory(self.device)
            self.rng.bit_generator.state = start
            self._halve(max(map(self._n_computed, rows)), reason)
        if self.most_rows < self._warned_of:
            self._warn()
        return result

    def prepare_next(self) -> None:
        """Make the batches of the step to come, if there is one, and start their copy to the device."""
        if not self._left:
            return
        before = self.rng.bit_generator.state
        try:
            made = self._collate(self._left[0])
            after = self.rng.bit_generator.state
            self._ahead = replace(made, batches=[batch.to(self.device) for batch in made.batches]), after
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            # The step itself copies them, and cuts them if that fails again.
        finally:
            self.rng.bit_generator.state = before

    def _take(self, rows: list[np.ndarray]) -> MadeStep:
        """The batches made ahead, or new ones: in the first step, and once memory has run out."""
        if self._ahead is None:
            return self._collate(rows)
        (step, self.rng.bit_generator.state), self._ahead = self._ahead, None
        return step

    def _collate(self, rows: list[np.ndarray]) -> MadeStep:
        """A batch of each of these arrays of rows, or several of parts that fit."""
        if self.processes is not None:
            return self._collate_shares(rows, self.processes)
        if max(map(len, rows)) <= self.most_rows:
            batches = [self.task.collate(of_batch, self.rng) for of_batch in rows]
            return MadeStep(batches, batches, [1] * len(rows))
        batches = [batch for of_batch in rows for batch in self._parts(of_batch, slice(0, len(of_batch)))]
        return MadeStep(batches, batches, [1] * len(batches))

    def _collate_shares(self, rows: list[np.ndarray], processes: Processes) -> MadeStep:
        """The batches themselves, from which every process knows their weights, and the parts of them that are its own."""
        whole, batches, n_parts = [], [], []
        for of_batch in rows:
            before = self.rng.bit_generator.state
            whole.append(self.task.collate(of_batch, self.rng))
            after, self.rng.bit_generator.state = self.rng.bit_generator.state, before
            parts = self._parts(of_batch, processes.share(len(of_batch)))
            self.rng.bit_generator.state = after
            batches += parts
            n_parts.append(len(parts))
        return MadeStep(batches, whole, n_parts, processes)

    def _parts(self, rows: np.ndarray, share: slice) -> list[Batch]:
        """Batches of this share of the rows that fit."""
        state, parts = self.rng.bit_generator.state, []
        for first in range(share.start, share.stop, self.most_rows):
            self.rng.bit_generator.state = state  # each part draws what the whole draws
            part = slice(first, min(first + self.most_rows, share.stop))
            parts.append(self.task.collate(rows, self.rng, part))
        return parts

    def _n_computed(self, rows: np.ndarray) -> int:
        """How many of the rows of a batch this process computes."""
        share = slice(0, len(rows)) if self.processes is None else self.processes.share(len(rows))
        return share.stop - share.start

    def _halve(self, n_rows: int, reason: str) -> None:
        if self.processes is not None and getattr(self.task, "compares_rows", False):
            raise torch.OutOfMemoryError(  # the others have this process's vectors, and wait for its gradients
                f"a batch does not fit into the memory of {self.device}, and one whose rows are compared is not made smaller "
                f"where several processes share it: lower batch_size and raise accumulate ({reason})"
            )
        failed = min(self.most_rows, n_rows)
        if failed == 1:
            raise torch.OutOfMemoryError(
                f"a single row does not fit into the memory of {self.device}: lower max_length, set "
                f"gradient_checkpointing=True or dtype='bfloat16', or start from a smaller checkpoint ({reason})"
            )
        self.most_rows = -(-failed // 2)

    def _warn(self) -> None:
        self._warned_of = self.most_rows
        n_processes = 1 if self.processes is None else self.processes.size
        n_parts = -(-self.batch_size // (self.most_rows * n_processes))
        warn_once_per_call(
            f"out of memory on {self.device}: from here on, batches of {self.batch_size} rows are computed in parts of "
            f"{self.most_rows}, which makes the same steps; to start like this, set "
            f"batch_size={self.most_rows * n_processes} and "
            f"accumulate={self.accumulate * n_parts}",
            OutOfMemoryWarning,
            about=self.most_rows,
        )
