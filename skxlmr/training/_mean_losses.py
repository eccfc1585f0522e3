"""The losses of a task without training."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from skxlmr.batching import Batch
from skxlmr.training._gradient_cache import batch_losses
from skxlmr.training._step_batches import StepBatches
from skxlmr.training._task import Task
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule


def mean_losses(module: TaskModule, task: Task, batch_size: int, rng: np.random.Generator) -> dict[str, float]:
    """Weighted mean of each loss over all rows of the task; a loss without any weight is left out."""
    device = next(module.parameters()).device
    starts = range(0, task.n_rows, batch_size)
    steps = [[np.arange(start, min(start + batch_size, task.n_rows))] for start in starts]
    batches = StepBatches(batch_size, 1, device, rng)
    batches.begin_epoch(task, steps)
    sums: dict[str, float] = {}
    totals: dict[str, float] = {}
    with torch.inference_mode():
        for _ in steps:
            for totals_of_batch, sums_of_batch in batches.run(partial(_sums, module, task, device)):
                for name, value in sums_of_batch.items():
                    sums[name] = sums.get(name, 0.0) + value
                    totals[name] = totals.get(name, 0.0) + totals_of_batch[name]
    return {name: sums[name] / total for name, total in totals.items() if total}


def _sums(
    module: TaskModule, task: Task, device: torch.device, batches: list[Batch]
) -> list[tuple[dict[str, float], dict[str, float]]]:
    """Total weight and sum of each loss for each of the batches, whose rows are compared with those of all batches."""
    # in float64, which not every GPU has
    return [
        (batch.totals, {name: float(values.cpu().double().sum()) for name, values in terms.items()})
        for batch, terms in batch_losses(module, task, batches, device, None)
    ]
