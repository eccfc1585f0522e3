"""One contrastive loss over several batches, in the memory of one (gradient caching, Gao et al. 2021, arXiv:2101.06983).

A loss that compares rows with each other, such as a response with the other responses, cannot be added up batch by batch:
each row would lose the negatives of the other batches. So all batches are encoded twice. The first time without a graph,
only for the vectors that are compared; their loss gives its value for each row and its gradient for each vector. The second
time batch by batch, with the same dropout: the product of a vector and its gradient has just that gradient.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Protocol, TypeGuard, runtime_checkable

import torch
from torch import Tensor

from skxlmr.batching import Batch
from skxlmr.nn import TaskModule


@runtime_checkable
class JointTask(Protocol):
    """A task one of whose losses compares the rows of all batches of a step.

    ``compares_rows`` tells whether there is such a loss; ``vectors`` (P, ...) are what it compares, ``joint_losses`` gives
    the weighted value of each of them, and ``losses`` takes, as ``joint``, what to call with its vectors instead.
    """

    @property
    def compares_rows(self) -> bool: ...

    def vectors(self, module: TaskModule, batch: Batch) -> Tensor: ...

    def joint_losses(self, vectors: Tensor, batches: Sequence[Batch]) -> Tensor: ...

    def losses(
        self, module: TaskModule, batch: Batch, joint: Callable[[Tensor], Tensor] | None = None
    ) -> dict[str, Tensor]: ...


def compare_rows(task: object) -> TypeGuard[JointTask]:
    """Whether the losses of a task are those of all batches of a step together."""
    return isinstance(task, JointTask) and task.compares_rows


def cached_losses(
    module: TaskModule,
    task: JointTask,
    batches: Sequence[Batch],
    device: torch.device,
    autocast: Callable[[], AbstractContextManager],
) -> Iterator[tuple[Batch, dict[str, Tensor]]]:
    """Yield each batch on the device with its losses, to be back-propagated before the next is asked for.

    Values and gradients are those of all batches as one, whatever number of them there is.
    """
    states, vectors = [], []
    for batch in batches:
        states.append(random_state(device))
        with torch.no_grad(), autocast():
            vectors.append(task.vectors(module, batch.to(device)))
    compared = torch.cat(vectors).requires_grad_()
    values = task.joint_losses(compared, batches)
    (gradient,) = torch.autograd.grad(values.sum(), compared)
    sizes = [len(part) for part in vectors]
    for batch, state, value, slope in zip(
        batches, states, values.detach().split(sizes), gradient.split(sizes), strict=True
    ):
        batch = batch.to(device)
        set_random_state(device, state)
        with autocast():
            terms = task.losses(module, batch, partial(_with_slope, value=value, slope=slope))
        yield batch, terms


def _with_slope(vectors: Tensor, value: Tensor, slope: Tensor) -> Tensor:
    """These values, with this gradient with respect to the vectors."""
    product = (vectors * slope).flatten(1).sum(1)
    return value + product - product.detach()


def random_state(device: torch.device) -> list[Tensor]:
    """States of torch's generators: the CPU's, and the device's own."""
    state = [torch.get_rng_state()]
    if device.type != "cpu":
        state.append(torch.get_device_module(device).get_rng_state())
    return state


def set_random_state(device: torch.device, state: list[Tensor]) -> None:
    """Put back what ``random_state`` gave."""
    torch.set_rng_state(state[0])
    if device.type != "cpu":
        torch.get_device_module(device).set_rng_state(state[1])
