"""One optimiser step."""

from __future__ import annotations

import math
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from skxlmr.batching import Batch
from skxlmr.nn.randomness import drawing_on
from skxlmr.training._distributed import Processes
from skxlmr.training._diverged import Losses, diverged
from skxlmr.training._gradient_cache import batch_losses
from skxlmr.training._loss_scale import LossScale
from skxlmr.training._step_batches import StepBatches
from skxlmr.utils._imports.later import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule


class TrainStep:
    """Trains a module, one optimiser step per call.

    Parameters
    ----------
    module : TaskModule
    optimizer : Optimizer
        Each of its groups holds the learning rate before the schedule as ``initial_lr``.
    precision : torch.dtype or None
        Type of mixed precision; None computes in the type of the weights.
    max_grad_norm : float or None
        Longer gradients are scaled down to this norm.
    loss_scale : LossScale, optional
        Needed for float16. A step whose gradients overflow is skipped: it counts as such, and changes no weight.
    processes : Processes, optional
        Those that share each step.
    """

    def __init__(
        self,
        module: TaskModule,
        optimizer: torch.optim.Optimizer,
        precision: torch.dtype | None,
        max_grad_norm: float | None,
        loss_scale: LossScale | None = None,
        processes: Processes | None = None,
    ):
        self.processes = processes
        self.module, self.optimizer, self.precision, self.loss_scale = module, optimizer, precision, loss_scale
        self.max_norm = math.inf if max_grad_norm is None else max_grad_norm
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.device = self.parameters[0].device
        self._last: Tensor | None = None  # the gradient that lies last in memory, see clear_gradients
        self.predicted: np.ndarray | None = None  # the lowest and the highest classes in the last step, (2, n_columns)

    def run(self, batches: StepBatches, factor: float) -> tuple[float, float]:
        """Train on the batches of the epoch's next step, at the learning rates times this factor.

        The only wait for the device is where the loss and the norm of the gradient are read. Before that, the batches of the
        step to come are made.

        Returns
        -------
        loss, weight : float
            Mean loss of the step's rows, and the sum of their weights.

        Raises
        ------
        Diverged
            If the loss or the gradient is not finite; the weights have not changed. With a scaled loss, if the gradient is
            not finite without scaling either.
        """
        from skxlmr.nn.kernels.trained import fast_training

        processes = self.processes
        with nullcontext() if processes is None else processes.own_draws(), drawing_on(self.device), fast_training():
            parts, losses, totals = batches.run(partial(self._add_gradients, batches), self.clear_gradients)
        self.predicted, weight = None, next(iter(totals.values()), 0.0)
        if not any(totals.values()):  # no row has any weight: there is nothing to learn
            return 0.0, weight
        if processes is not None:
            processes.add_up(self.parameters)
        if self.loss_scale is not None:
            self.loss_scale.unscale(self.parameters)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_norm)
        batches.prepare_next()
        loss, ranges = 0.0, [batch.predicted for batch, _ in losses if batch.predicted is not None]
        read = torch.cat([torch.stack([*parts, norm]), *(each.ravel().to(norm) for each in ranges)]).tolist()
        of_parts, norm_read, of_ranges = read[: len(parts)], read[len(parts)], read[len(parts) + 1 :]
        predicted = [*np.array(of_ranges).reshape(len(ranges), 2, -1)] if ranges else []
        if processes is not None:
            of_all = processes.gather((of_parts, predicted))
            of_parts, predicted = ([each for some in kind for each in some] for kind in zip(*of_all, strict=True))
        self.predicted = _joined(np.stack(predicted)) if predicted else None
        for part in of_parts:  # not sum(), which rounds in another way from Python 3.12 on
            loss += part
        if not math.isfinite(loss):
            raise diverged("loss", self._losses_of_all(losses), self.precision)
        if math.isfinite(norm_read):
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            self.optimizer.step()
            for parameter in self.parameters:  # a fused step does not count as a change of theirs
                torch.autograd.graph.increment_version(parameter)
            if self.loss_scale is not None:
                self.loss_scale.end_step()
        elif self.loss_scale is None or self.loss_scale.is_lowest:
            raise diverged("gradient", [(batch.rows, {}) for batch in batches.step.whole], self.precision)
        else:
            self.loss_scale.skip_step()
        self.clear_gradients()
        return loss, weight

    def clear_gradients(self) -> None:
        """Forget the gradients, and give their memory back.

        On a CPU the next step has the memory, not the system: glibc's allocator returns what is free after the last block in
        use, and to get it back page by page costs 5 to 10 % of a step. So the gradient that lies last is kept until then.
        """
        if self.device.type == "cpu":
            gradients = [p.grad for p in self.parameters if p.grad is not None and p.grad.layout == torch.strided]
            self._last = max(gradients, key=torch.Tensor.data_ptr, default=None)
        self.optimizer.zero_grad(set_to_none=True)

    def _add_gradients(
        self, made: StepBatches, batches: list[Batch]
    ) -> tuple[list[Tensor], list[tuple[Batch, dict[str, Tensor]]], dict[str, float]]:
        """Add up the gradients of the mean loss over all batches of the step.

        Returns each batch's part of that mean, still on the device, the losses of its rows and the weight of each mean.
        """
        step = made.step
        totals: dict[str, float] = {}
        for batch in step.whole:
            for name, total in batch.totals.items():
                totals[name] = totals.get(name, 0.0) + total
        parts, losses = [], []
        shared = None if self.processes is None else step
        for batch, terms in batch_losses(self.module, made.task, batches, self.device, self.precision, shared):
            part = sum(values.sum() / totals[name] for name, values in terms.items() if totals[name])
            if isinstance(part, torch.Tensor):
                (part if self.loss_scale is None else part * self.loss_scale.scale).backward()
                parts.append(part.detach())
            losses.append((batch, {name: values.detach() for name, values in terms.items()}))
        return parts, losses, totals

    def _losses_of_all(self, losses: list[tuple[Batch, dict[str, Tensor]]]) -> Losses:
        """The rows of each batch and their losses, in all processes."""
        own = [(batch.rows, {name: values.cpu() for name, values in terms.items()}) for batch, terms in losses]
        return own if self.processes is None else [each for some in self.processes.gather(own) for each in some]


def _joined(ranges: np.ndarray) -> np.ndarray:
    """The lowest and the highest classes of all batches, (2, n_columns), from those of each."""
    return np.stack([ranges[:, 0].min(0), ranges[:, 1].max(0)])
