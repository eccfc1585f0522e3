"""The batches of an epoch, made one step ahead."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import numpy as np

from skxlmr.batching import Batch
from skxlmr.training._micro_batches import MicroBatches
from skxlmr.training._task import Task
from skxlmr.utils._device import is_out_of_memory

Result = TypeVar("Result")


class EpochBatches:
    """The batches of each step of an epoch; those of the next step are made while the device computes.

    They draw from the generator in the order of the steps. Batches made ahead count as drawn once their step begins, so
    after every step the generator is where it would be without them: its state can be saved, and the epoch may end there.

    Parameters
    ----------
    task : Task
    steps : sequence of lists of arrays
        Rows of each batch of each step that is left.
    rng : Generator
        Draws what the batches need, such as masks.
    micro_batches : MicroBatches
        Cuts the batches where memory runs out.
    """

    def __init__(
        self, task: Task, steps: Sequence[list[np.ndarray]], rng: np.random.Generator, micro_batches: MicroBatches
    ):
        self.task, self.rng, self.micro_batches = task, rng, micro_batches
        self._left = deque(steps)
        self._ahead: tuple[list[Batch], Mapping[str, Any]] | None = None  # with the generator's state after them

    def run(self, compute: Callable[[list[Batch]], Result], undo: Callable[[], object] = lambda: None) -> Result:
        """Result of ``compute`` for the batches of the next step, or for parts of them if memory runs out.

        After a failure ``undo`` takes back what ``compute`` has done.

        Raises
        ------
        torch.OutOfMemoryError
            If a single row does not fit.
        """
        rows = self._left.popleft()
        return self.micro_batches.run(partial(self._take, rows), compute, undo, self.rng, max(map(len, rows)))

    def prepare_next(self) -> None:
        """Make the batches of the step to come, if there is one, and start their copy to the device."""
        if not self._left:
            return
        before = self.rng.bit_generator.state
        try:
            made = self.micro_batches.collate(self.task, self._left[0], self.rng)
            after = self.rng.bit_generator.state
            self._ahead = [batch.to(self.micro_batches.device) for batch in made], after
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            # The step itself copies them, and cuts them if that fails again.
        finally:
            self.rng.bit_generator.state = before

    def _take(self, rows: list[np.ndarray]) -> list[Batch]:
        """The batches made ahead, or new ones: in the first step, and once memory has run out."""
        if self._ahead is None:
            return self.micro_batches.collate(self.task, rows, self.rng)
        (batches, self.rng.bit_generator.state), self._ahead = self._ahead, None
        return batches
