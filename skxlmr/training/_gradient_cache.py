"""One contrastive loss over several batches, in the memory of one (gradient caching, Gao et al. 2021, arXiv:2101.06983).

A loss that compares rows with each other, such as a response with the other responses, is no sum over batches: each row
would lose the negatives of the other batches. So all batches are encoded twice. The first pass, without a graph, computes
only the vectors that are compared; their joint loss has a value for each row and a gradient for each vector. The second pass
goes batch by batch with the same dropout: the product of a vector and its gradient has exactly that gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from skxlmr.batching import Batch
from skxlmr.nn.randomness import random_state, set_random_state
from skxlmr.training._step_batches import MadeStep
from skxlmr.training._task import JointTask, Task
from skxlmr.utils._devices.device import autocast
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule


def batch_losses(
    module: TaskModule,
    task: Task,
    batches: Sequence[Batch],
    device: torch.device,
    precision: torch.dtype | None,
    shared: MadeStep | None = None,
) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
    """Yield each batch on the device with its losses, to be back-propagated before the next is asked for.

    ``shared`` is the step that these batches are a part of, if several processes share it.
    """
    if (len(batches) > 1 or shared) and isinstance(task, JointTask) and task.compares_rows:
        yield from cached_losses(module, task, batches, device, precision, shared)
        return
    for batch in batches:
        batch = batch.to(device)
        with autocast(device, precision):
            terms = task.losses(module, batch)
        yield batch, terms


def cached_losses(
    module: TaskModule,
    task: JointTask,
    batches: Sequence[Batch],
    device: torch.device,
    precision: torch.dtype | None,
    shared: MadeStep | None = None,
) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
    """As ``batch_losses``; values and gradients are those of all batches as one, however many there are.

    Without gradients, only the values are.
    """
    states, vectors = [], []
    for batch in batches:
        states.append(random_state(device) if module.training else None)
        with torch.no_grad(), autocast(device, precision):
            vectors.append(task.vectors(module, batch.to(device)))
    places = _places(vectors)
    if shared is None or shared.processes is None:
        compared, compared_batches = torch.cat(vectors), batches
    else:  # with the vectors of all processes
        compared, places = shared.processes.all_vectors(vectors, shared.n_parts, next(module.parameters()))
        compared_batches = shared.whole
    compared.requires_grad_(torch.is_grad_enabled())
    values = task.joint_losses(compared, compared_batches)
    gradient = torch.zeros_like(compared)
    if compared.requires_grad:
        (gradient,) = torch.autograd.grad(values.sum(), compared)
    for batch, state, place in zip(batches, states, places, strict=True):
        value, slope = values.detach()[place], gradient[place]
        batch = batch.to(device)
        if state is not None:
            set_random_state(device, state)
        with autocast(device, precision):
            terms = task.losses(module, batch, partial(_with_slope, value=value, slope=slope))
        yield batch, terms


def _places(vectors: Sequence[Tensor]) -> list[slice]:
    """Where each of these lies if they follow one another."""
    ends = accumulate(map(len, vectors), initial=0)
    return [slice(first, last) for first, last in pairwise(ends)]


def _with_slope(vectors: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """These values, with this gradient with respect to the vectors."""
    product = (vectors * slope).flatten(1).sum(1)
    return value + product - product.detach()
