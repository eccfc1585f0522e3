"""One fit in several processes, as ``torchrun`` starts them.

Every process runs the same script with the same rows, and so draws the same order, the same masks and the same new head. Of
each batch it computes a share of its own; the gradients of all are added up, and each process takes the step that one would
take alone. Nothing else is divided: what needs no gradient, such as a validation score, each process computes in full.

On a GPU, and over several hosts, this has not been run yet: the tests have processes on one CPU.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from skxlmr.nn.randomness import Randomness, drawing_from, host_generator
from skxlmr.training._diverged import Diverged
from skxlmr.training._state.fit import History, Watcher
from skxlmr.utils._imports.later import distributed as dist
from skxlmr.utils._imports.later import torch
from skxlmr.utils._warnings import OutOfMemoryWarning

if TYPE_CHECKING:
    from torch import Tensor

Arguments = ParamSpec("Arguments")
Value = TypeVar("Value")

_SMALL = 2**16  # numbers of a gradient that is not worth a message of its own
_current: ContextVar[Processes | None] = ContextVar("processes", default=None)
_inherited: Any = None  # the group of the process that this one was forked from
_joined_here = False  # the group is the library's own
_left = False  # and this process has left it


@dataclass(frozen=True)
class _Failure:
    """What a process gives the others in the place of the value that they wait for."""

    reason: str


class Processes:
    """The processes that share a fit; all of them call the same methods in the same order.

    Attributes
    ----------
    rank : int
        Number of this process.
    size : int
        How many there are.
    """

    def __init__(self, rank: int, size: int, is_own: bool):
        self.rank, self.size, self._is_own = rank, size, is_own
        self._tells = True  # a failure, which the others hear of when they next gather something

    @property
    def leads(self) -> bool:
        """Whether this process is the first one, which writes and shows what all of them have."""
        return self.rank == 0

    # Small values -----------------------------------------------------------------------------------------------------

    def gather(self, value: Value) -> list[Value]:
        """The values of all processes, by their numbers.

        Raises
        ------
        RuntimeError
            If another process has failed; says why.
        """
        values: list[Any] = [None] * self.size
        with self._waiting():
            dist.all_gather_object(values, value)
        failed = [f"process {rank}: {each.reason}" for rank, each in enumerate(values) if isinstance(each, _Failure)]
        if failed:
            self._tells = False  # all know of it
            raise RuntimeError(f"this fit has failed in another of its {self.size} processes: {'; '.join(failed)}")
        return values

    def of_first(self, value: Value) -> Value:
        """The value of the first process."""
        return self.gather(value)[0]

    def check(self, about: Mapping[str, str], device: torch.device) -> None:
        """Refuse a fit that is not the same in all processes, or on a device on which they can't add up.

        Raises
        ------
        ValueError
            If it differs; names what does.
        RuntimeError
            If the group has no backend for the device.
        """
        first, *others = self.gather(dict(about))
        self._tells = False  # what follows fails in all of them alike, or leaves the others
        differing = [name for name in first if any(other.get(name) != first[name] for other in others)]
        if differing:
            raise ValueError(
                f"the {self.size} processes of this fit differ in {', '.join(differing)}: each has to pass the same rows in "
                "the same order, with the same parameters. fit shares the rows out among them; the script does not"
            )
        try:
            dist.all_reduce(torch.zeros(1, device=device))
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            raise RuntimeError(f"the processes cannot add up gradients on the device {device}: {reason}") from error

    # What is divided --------------------------------------------------------------------------------------------------

    def share(self, n_rows: int) -> slice:
        """The rows of a batch that this process computes; there may be none."""
        return slice(n_rows * self.rank // self.size, n_rows * (self.rank + 1) // self.size)

    def add_up(self, parameters: Sequence[Tensor]) -> None:
        """Make the gradients of each process the sum of all; a parameter that has none in any process keeps none."""
        has_gradient = np.any(self.gather([parameter.grad is not None for parameter in parameters]), 0)
        gradients = []
        for parameter in (p for p, has_some in zip(parameters, has_gradient, strict=True) if has_some):
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.contiguous()
            gradients.append(parameter.grad)
        small = [gradient for gradient in gradients if gradient.numel() <= _SMALL]
        together = torch.cat([gradient.ravel() for gradient in small]) if small else None
        alone = [gradient for gradient in gradients if gradient.numel() > _SMALL]
        with self._waiting():
            sent = [dist.all_reduce(t, async_op=True) for t in (*alone, together) if t is not None]
            for message in sent:
                message.wait()
        if together is not None:
            sums = together.split([gradient.numel() for gradient in small])
            torch._foreach_copy_(small, [total.view_as(g) for total, g in zip(sums, small, strict=True)])

    def all_vectors(
        self, vectors: Sequence[Tensor], n_parts: Sequence[int], like: Tensor
    ) -> tuple[Tensor, list[slice]]:
        """Vectors of all processes, in the order of the batches, and where those of this process lie.

        Parameters
        ----------
        vectors : sequence of Tensor, (P, ...)
            Of each part that this process computes.
        n_parts : sequence of int
            How many of the parts belong to each batch.
        like : Tensor
            Any of the module's parameters: type and device of the result.
        """
        batch_of_part = np.repeat(np.arange(len(n_parts)), n_parts)
        n_vectors = np.bincount(batch_of_part, [len(part) for part in vectors], len(n_parts)).astype(int).tolist()
        shapes = self.gather((n_vectors, tuple(vectors[0].shape[1:]) if vectors else None))
        n_RB = np.array([n for n, _ in shapes])
        shape = next(shape for _, shape in shapes if shape is not None)
        starts_BR = (np.cumsum(n_RB.T) - n_RB.T.ravel()).reshape(n_RB.T.shape)
        joined, places = torch.zeros(int(n_RB.sum()), *shape, dtype=like.dtype, device=like.device), []
        following = starts_BR[:, self.rank].tolist()  # where the next part of each batch begins
        for batch, part in zip(batch_of_part.tolist(), vectors, strict=True):
            places.append(slice(following[batch], following[batch] + len(part)))
            following[batch] += len(part)
            joined[places[-1]] = part
        with self._waiting():
            dist.all_reduce(joined)
        return joined, places

    @contextmanager
    def own_draws(self) -> Iterator[None]:
        """Inside the block, a step, draw dropout that no other process draws.

        Afterwards the fit's generators are where they are in all processes: the state of one is that of all.
        """
        seed = int(torch.randint(2**62, (), generator=host_generator(), device="cpu"))
        with drawing_from(Randomness(seed + self.rank)):
            yield

    # What one process decides -----------------------------------------------------------------------------------------

    def deciding(self, score: Callable[[], float]) -> Callable[[], float]:
        """The function, with the result of the first process."""
        return lambda: self.of_first(score())

    def watching(self, watcher: Watcher) -> Watcher:
        """The watcher; that of the first process ends epochs and fits."""
        return _CommonWatcher(self, watcher)

    # The end ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def one_fit(self) -> Iterator[None]:
        """Around a fit: one that fails in a process fails in all, and they begin the next one together."""
        try:
            yield
            if self._tells:
                self.gather(None)
        except Exception as error:
            if self._tells:
                with suppress(RuntimeError):
                    self.gather(_Failure(f"{type(error).__name__}: {error}"))
            raise
        except BaseException:
            self.leave()
            raise

    @contextmanager
    def in_step(self) -> Iterator[None]:
        """Around the steps, after ``check``: a process that fails leaves the others, so that they fail too."""
        try:
            yield
        except Diverged:  # as in all of them
            raise
        except BaseException:
            self.leave()
            raise
        self._tells = True

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        """Around what needs the other processes."""
        try:
            yield
        except RuntimeError as error:
            self._tells = False
            raise RuntimeError(
                f"process {self.rank} of {self.size} waits in vain: another process of this fit has failed or is gone, and its "
                "own output says why"
            ) from error

    def leave(self) -> None:
        """End the group, unless it is the caller's: what the others wait for becomes an error."""
        global _left
        self._tells = False
        if self._is_own and dist.is_initialized():
            _left = True
            dist.destroy_process_group()


class _CommonWatcher(Watcher):
    """Asks the watcher of each process, and does what that of the first one says."""

    def __init__(self, processes: Processes, watcher: Watcher):
        self.processes, self.watcher = processes, watcher

    def epoch_begins(self, history: History, n_steps: int, n_done: int) -> None:
        self.watcher.epoch_begins(history, n_steps, n_done)

    def step_begins(self) -> None:
        self.watcher.step_begins()

    def step_ends(self) -> bool:
        return self.processes.of_first(self.watcher.step_ends())

    def epoch_ends(self, history: History) -> bool:
        return self.processes.of_first(self.watcher.epoch_ends(history))


def current_processes() -> Processes | None:
    """The processes that share the fit that is running; None if it has one of its own."""
    return _current.get()


def leads() -> bool:
    """Whether this process is to say what all processes of a fit have to say."""
    processes = _processes()
    return processes is None or processes.leads


def in_all_processes(fit: Callable[Arguments, Value]) -> Callable[Arguments, Value]:
    """Let all processes that ``torchrun`` started share each call of a function that fits.

    It returns once the first process has written what it writes, and raises in all of them if one fails. Warnings are those
    of the first process; only of its own memory each one warns. Without other processes nothing changes.
    """

    @wraps(fit)
    def shared(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Value:
        processes = _processes()
        if processes is None:
            return fit(*args, **kwargs)
        token = _current.set(processes)
        try:
            with warnings.catch_warnings(), processes.one_fit():
                if not processes.leads:
                    warnings.simplefilter("ignore")
                    warnings.filterwarnings("default", category=OutOfMemoryWarning)
                return fit(*args, **kwargs)
        finally:
            _current.reset(token)

    return shared


def _processes() -> Processes | None:
    """The processes that ``torchrun``, or the caller, has made a group of; None if this one computes alone.

    So do threads, and the processes that another one starts, such as those of a search with ``n_jobs``.
    """
    if not dist.is_available() or threading.current_thread() is not threading.main_thread():
        return None
    is_own = not dist.is_initialized()
    if is_own:
        if not _is_started_by_torchrun():
            return None
        _join()
    elif dist.group.WORLD is _inherited:
        return None
    size = dist.get_world_size()
    return Processes(dist.get_rank(), size, _joined_here) if size > 1 else None


def _is_started_by_torchrun() -> bool:
    return (
        dist.is_torchelastic_launched()
        and int(os.environ.get("WORLD_SIZE", 1)) > 1
        and multiprocessing.current_process().name == "MainProcess"
    )


def _join() -> None:
    """Make the group that ``torchrun`` describes in the environment; it ends with the process."""
    global _joined_here
    if _left:
        raise RuntimeError(
            "an earlier fit failed in this process and not in the others, so that they no longer work together: start the "
            "script again"
        )
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    _joined_here = True
    atexit.register(lambda: dist.is_initialized() and dist.destroy_process_group())


def _after_fork() -> None:
    """Remember the group of the process before the fork, whose connections are not this one's."""
    global _inherited
    if "torch.distributed" in sys.modules and dist.is_available():
        _inherited = dist.group.WORLD if dist.is_initialized() else None


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
