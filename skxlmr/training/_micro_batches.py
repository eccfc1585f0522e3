"""Where a batch does not fit into the memory of the GPU, the same step is computed in smaller batches.

The gradient of a step is the sum over its batches, and a batch can be cut in the same way: its parts draw what the whole
would have drawn, and losses that compare rows are computed over all parts (see ``_gradient_cache``). Halving the batches
and doubling their number therefore changes no weight, except through the dropout that is drawn.
"""

import warnings
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch

from skxlmr.batching import Batch
from skxlmr.training._task import Task
from skxlmr.utils._device import is_out_of_memory, release_memory
from skxlmr.utils._fork import will_compute
from skxlmr.utils._warnings import OutOfMemoryWarning, outside_stacklevel

Result = TypeVar("Result")


class MicroBatches:
    """How many rows of a batch fit, as found so far.

    Parameters
    ----------
    batch_size : int
        Rows per batch that were asked for.
    accumulate : int
        Batches per step.
    device : torch.device
    """

    def __init__(self, batch_size: int, accumulate: int, device: torch.device):
        self.batch_size, self.accumulate, self.device = batch_size, accumulate, device
        self.most_rows = self._warned_of = batch_size
        will_compute()

    def collate(self, task: Task, rows: list[np.ndarray], rng: np.random.Generator) -> list[Batch]:
        """A batch of each of these arrays of rows, or several of parts that fit."""
        if max(map(len, rows)) <= self.most_rows:
            return [task.collate(of_batch, rng) for of_batch in rows]
        batches = []
        for of_batch in rows:
            state = rng.bit_generator.state
            for first in range(0, len(of_batch), self.most_rows):
                rng.bit_generator.state = state  # each part draws what the whole draws
                batches.append(task.collate(of_batch, rng, slice(first, first + self.most_rows)))
        return batches

    def run(
        self,
        collate: Callable[[], list[Batch]],
        compute: Callable[[list[Batch]], Result],
        undo: Callable[[], object],
        rng: np.random.Generator,
        n_rows: int,
    ) -> Result:
        """Result of ``compute`` for the collated batches, which are collated again in smaller parts if memory runs out.

        Parameters
        ----------
        collate : callable
            Makes the batches, with :meth:`collate`.
        compute, undo : callable
            ``undo`` takes back what ``compute`` did before it failed.
        rng : Generator
            What ``collate`` draws from; set back after a failure.
        n_rows : int
            Rows of the largest batch.

        Raises
        ------
        torch.OutOfMemoryError
            If a single row does not fit.
        """
        start = rng.bit_generator.state
        while True:
            batches = collate()
            try:
                result = compute(batches)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            # Only here, after the except block, are the error and the tensors of its frames gone.
            del batches
            undo()
            release_memory(self.device)
            rng.bit_generator.state = start
            self._halve(n_rows, reason)
        if self.most_rows < self._warned_of:
            self._warn()
        return result

    def _halve(self, n_rows: int, reason: str) -> None:
        failed = min(self.most_rows, n_rows)
        if failed == 1:
            raise torch.OutOfMemoryError(
                f"a single row does not fit into the memory of {self.device}: lower max_length, set "
                f"gradient_checkpointing=True or dtype='bfloat16', or start from a smaller checkpoint ({reason})"
            )
        self.most_rows = -(-failed // 2)

    def _warn(self) -> None:
        self._warned_of = self.most_rows
        n_parts = -(-self.batch_size // self.most_rows)
        warnings.warn(
            f"out of memory on {self.device}: from here on, batches of {self.batch_size} rows are computed in parts of "
            f"{self.most_rows}, which makes the same steps; to start like this, set batch_size={self.most_rows} and "
            f"accumulate={self.accumulate * n_parts}",
            OutOfMemoryWarning,
            stacklevel=outside_stacklevel(),
        )
