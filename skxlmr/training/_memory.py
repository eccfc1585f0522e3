"""Where a batch does not fit into the memory of the GPU, the same step is made from smaller ones.

A step is the sum of its batches' gradients, and a batch may be cut like a step: its parts draw what the whole would have
drawn, and losses that compare rows are computed over all parts (see ``_gradient_cache``). So halving the batches and doubling
their number changes no weight, but for the dropout that is drawn.
"""

import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch

from skxlmr.batching import Batch
from skxlmr.utils._device import is_out_of_memory, release_memory
from skxlmr.utils._fork import will_compute
from skxlmr.utils._warnings import OutOfMemoryWarning, outside_stacklevel

Result = TypeVar("Result")


class MicroBatches:
    """How many rows of a batch fit, as found so far.

    Parameters
    ----------
    batch_size : int
        Rows of a batch as asked for.
    accumulate : int
        Batches of a step.
    device : torch.device
    """

    def __init__(self, batch_size: int, accumulate: int, device: torch.device):
        self.batch_size, self.accumulate, self.device = batch_size, accumulate, device
        self.most_rows = self.told = batch_size
        will_compute()

    def run(
        self,
        step: Callable[[list[Batch]], Result],
        undo: Callable[[], Any],
        task: Any,
        group: list[np.ndarray],
        rng: np.random.Generator,
    ) -> tuple[list[Batch], Result]:
        """Batches of these rows, or parts of them that fit, and what ``step`` makes of them.

        After a failure ``undo`` takes back what ``step`` has done.

        Raises
        ------
        torch.OutOfMemoryError
            If a single row does not fit.
        """
        start = rng.bit_generator.state
        while True:
            batches = self._collate(task, group, rng)
            try:
                result = step(batches)
                break
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                reason = str(error).partition("\n")[0]
            # Here the error is gone, and with it the tensors of the frames it came from.
            del batches
            undo()
            release_memory(self.device)
            rng.bit_generator.state = start
            self._halve(max(map(len, group)), reason)
        if self.most_rows < self.told:
            self._tell()
        return batches, result

    def _collate(self, task: Any, group: list[np.ndarray], rng: np.random.Generator) -> list[Batch]:
        if max(map(len, group)) <= self.most_rows:
            return [task.collate(rows, rng) for rows in group]
        batches = []
        for rows in group:
            state = rng.bit_generator.state
            for first in range(0, len(rows), self.most_rows):
                rng.bit_generator.state = state  # each part draws what the whole does
                batches.append(task.collate(rows, rng, slice(first, first + self.most_rows)))
        return batches

    def _halve(self, n_rows: int, reason: str) -> None:
        failed = min(self.most_rows, n_rows)
        if failed == 1:
            raise torch.OutOfMemoryError(
                f"a single row does not fit into the memory of {self.device}: lower max_length, set "
                f"gradient_checkpointing=True or dtype='bfloat16', or start from a smaller checkpoint ({reason})"
            )
        self.most_rows = -(-failed // 2)

    def _tell(self) -> None:
        self.told = self.most_rows
        n_parts = -(-self.batch_size // self.most_rows)
        warnings.warn(
            f"out of memory on {self.device}: batches of {self.batch_size} rows are computed in parts of {self.most_rows} from "
            f"here on, which gives the same steps; to start like this, set batch_size={self.most_rows} and "
            f"accumulate={self.accumulate * n_parts}",
            OutOfMemoryWarning,
            stacklevel=outside_stacklevel(),
        )
