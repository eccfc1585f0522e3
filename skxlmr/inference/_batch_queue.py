"""Which rows run together; a batch that does not fit into the memory of a GPU is split."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import numpy as np

from skxlmr.batching import batches_by_length
from skxlmr.inference._progress import Progress
from skxlmr.utils._devices.device import is_out_of_memory, release_memory
from skxlmr.utils._imports.later import torch
from skxlmr.utils._warnings import OutOfMemoryWarning, warn_once_per_call


class BatchQueue:
    """Batches of rows, longest rows first, halved where memory runs out.

    Iterate over it, and run each batch in ``with queue:``. If memory runs out inside the block, the rows of the batch come
    again in smaller batches.

    Parameters
    ----------
    lengths : ndarray of int
        Tokens of each row.
    token_budget : int
        Most tokens of a batch; a single longer row still makes a batch.
    device : torch.device
    budget_per_row : int
        What each unit of ``batch_size`` adds to the budget, for the warning.
    progress : Progress, optional
        Shows how many rows are done.

    Raises
    ------
    torch.OutOfMemoryError
        If a single row does not fit.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        token_budget: int,
        device: torch.device,
        budget_per_row: int,
        progress: Progress | None = None,
    ):
        self._lengths, self._device, self._budget_per_row = lengths, device, budget_per_row
        self._budget = self._announced = token_budget
        self._waiting = deque(batches_by_length(lengths, token_budget))
        self._failed: tuple[np.ndarray, str] | None = None
        self._progress = progress

    def __iter__(self) -> Iterator[np.ndarray]:
        while self._waiting or self._failed:
            if self._failed:
                self._halve(*self._failed)
            self._current = self._waiting.popleft()
            yield self._current

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: object) -> bool:
        if isinstance(error, RuntimeError) and is_out_of_memory(error):
            # Only the text is kept: the error holds the frames it came from, and with them their tensors.
            self._failed = self._current, str(error).partition("\n")[0]
            return True
        if error is None and self._progress is not None:
            self._progress.add(len(self._current), int(self._lengths[self._current].sum()))
        if error is None and self._budget < self._announced:
            self._announced = self._budget
            batch_size = max(self._budget // self._budget_per_row, 1)
            warn_once_per_call(
                f"out of memory on {self._device}: the rest of this call runs in smaller batches; to start like this, set "
                f"batch_size={batch_size}",
                OutOfMemoryWarning,
                about=batch_size,
            )
        return False

    def _halve(self, rows: np.ndarray, reason: str) -> None:
        self._failed = None
        if len(rows) == 1:
            raise torch.OutOfMemoryError(
                f"a single row does not fit into the memory of {self._device}: lower max_length, or start from a smaller "
                f"checkpoint ({reason})"
            )
        release_memory(self._device)
        self._budget = int(self._lengths[rows].sum()) // 2
        rest = np.concatenate([rows, *self._waiting])
        self._waiting = deque(rest[part] for part in batches_by_length(self._lengths[rest], self._budget))
