"""What a fit draws from: generators of its own, so that nothing else in the process changes what it draws, or is changed.

On a CPU every draw names its generator. The fused kernels of GPUs draw only from the device's own generator: there the state of
the fit's is put into it for the length of a step, one fit at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TYPE_CHECKING, Any

from skxlmr.utils._imports.later import F, torch

if TYPE_CHECKING:
    from torch import Tensor

_current: ContextVar[Randomness | None] = ContextVar("randomness", default=None)
_device_is_lent = Lock()


class Randomness:
    """The generators of one fit.

    Parameters
    ----------
    seed : int
        Seed of all of them.
    """

    def __init__(self, seed: int):
        self.seed = seed
        self.host = torch.Generator("cpu").manual_seed(seed)
        self._of_device: torch.Generator | None = None
        self._is_lent = False  # the device's own generator has the state

    def states(self, device: torch.device) -> list[Tensor]:
        """States of the CPU's generator and of the device's own."""
        states = [self.host.get_state()]
        if device.type != "cpu":
            states.append(_device_state(device) if self._is_lent else self._generator(device).get_state())
        return states

    def set_states(self, device: torch.device, states: list[Tensor]) -> None:
        """Put back what :meth:`states` returned."""
        self.host.set_state(states[0])
        if device.type != "cpu":
            self._generator(device).set_state(states[1])
            if self._is_lent:
                _set_device_state(device, states[1])

    @contextmanager
    def lent_to(self, device: torch.device) -> Iterator[None]:
        """Let the device's own generator have the state of the fit's inside the block, and its own again afterwards."""
        with _device_is_lent:
            generator, before = self._generator(device), _device_state(device)
            _set_device_state(device, generator.get_state())
            self._is_lent = True
            try:
                yield
            finally:
                self._is_lent = False
                generator.set_state(_device_state(device))
                _set_device_state(device, before)

    def _generator(self, device: torch.device) -> torch.Generator:
        if self._of_device is None:
            self._of_device = _new_generator(device).manual_seed(self.seed)
        return self._of_device


@contextmanager
def drawing_from(randomness: Randomness) -> Iterator[None]:
    """Inside the block, and in this thread only, draw from these generators."""
    token = _current.set(randomness)
    try:
        yield
    finally:
        _current.reset(token)


def current_randomness() -> Randomness | None:
    """Return what :func:`drawing_from` set; None outside, where torch's global generators are drawn from."""
    return _current.get()


@contextmanager
def drawing_on(device: torch.device) -> Iterator[None]:
    """Inside the block, kernels of a GPU draw from the fit's generators too; other fits wait."""
    randomness = _current.get()
    if randomness is None or device.type == "cpu":
        yield
    else:
        with randomness.lent_to(device):
            yield


def host_generator() -> torch.Generator | None:
    """Generator for draws on the CPU; None is torch's global one."""
    randomness = _current.get()
    return None if randomness is None else randomness.host


def random_state(device: torch.device) -> list[Tensor]:
    """States of the generators that are drawn from: the CPU's, and the device's own."""
    randomness = _current.get()
    if randomness is not None:
        return randomness.states(device)
    return [torch.get_rng_state(), *([] if device.type == "cpu" else [_device_state(device)])]


def set_random_state(device: torch.device, states: list[Tensor]) -> None:
    """Put back what :func:`random_state` returned."""
    randomness = _current.get()
    if randomness is not None:
        randomness.set_states(device, states)
        return
    torch.set_rng_state(states[0])
    if device.type != "cpu":
        _set_device_state(device, states[1])


def repeatable(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """The function, which draws in each later call what it drew in the first, and leaves the generators as they were.

    Later calls may come from other threads, as gradient checkpointing makes them.
    """
    randomness = _current.get()
    if randomness is None:
        return function
    first: list[Tensor] = []

    def call(*arguments: Any) -> Any:
        with drawing_from(randomness):
            if not first:
                first.extend(randomness.states(device))
                return function(*arguments)
            now = randomness.states(device)
            randomness.set_states(device, first)
            try:
                return function(*arguments)
            finally:
                randomness.set_states(device, now)

    return call


def dropout(x: Tensor, p: float, training: bool = True) -> Tensor:
    """``F.dropout`` with the generator of the fit; the same draws, to the last bit, from the same state."""
    generator = None if not training or x.device.type != "cpu" else host_generator()
    if generator is None or not 0 < p < 1:
        return F.dropout(x, p, training)
    return x * torch.empty_like(x).bernoulli_(1 - p, generator=generator).div_(1 - p)


def _new_generator(device: torch.device) -> torch.Generator:
    return torch.Generator(device)


def _device_state(device: torch.device) -> Tensor:
    return (
        torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_device_module(device).get_rng_state()
    )


def _set_device_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.get_device_module(device).set_rng_state(state)
