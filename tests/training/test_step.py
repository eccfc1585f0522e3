"""One optimiser step waits for the device once, and has the next batches made before that."""

from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from skxlmr.training import LossScale, fit_loop, undone_on_failure
from skxlmr.training._state.fit import FitState

from .fits import SETTINGS, Watched, fit, make_module, make_task, optimizer_for

READING = {
    *(
        getattr(Tensor, name)
        for name in ("item", "tolist", "cpu", "numpy", "equal", "nonzero", "is_nonzero", "__array__")
    ),
    *(getattr(Tensor, f"__{name}__") for name in ("bool", "float", "int", "index", "contains")),
    *(torch.equal, torch.allclose, torch.nonzero, torch.is_nonzero, torch.unique, torch.masked_select),
}


class Calls(TorchFunctionMode):
    """Records the calls of some functions of torch."""

    def __init__(self, functions):
        super().__init__()
        self.functions, self.found = functions, []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function in self.functions:
            self.found.append(function.__name__)
        return function(*args, **(kwargs or {}))


class Reads(TorchDispatchMode):
    """Counts the scalars that are read one by one, also inside torch."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += function is torch.ops.aten._local_scalar_dense.default
        return function(*args, **(kwargs or {}))


class OnHost:
    """A task whose own work, on layouts and targets in host memory, is not counted."""

    def __init__(self, task):
        self.task, self.n_rows = task, task.n_rows

    def collate(self, *args):
        with uncounted():
            return self.task.collate(*args)

    def losses(self, *args):
        with uncounted():
            return self.task.losses(*args)


@contextmanager
def uncounted():
    with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
        yield


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("max_grad_norm", [None, 1.0])
@pytest.mark.parametrize(
    ("dtype", "scaled"), [(torch.float32, False), (torch.float64, False), (torch.float32, True)], ids=str
)
def test_a_step_reads_from_the_device_once(accumulate, max_grad_norm, dtype, scaled):
    """With a scaled loss too, whether or not a step is skipped."""
    module, task = make_module(dtype), OnHost(make_task(24))
    changes = {"batch_size": 2, "accumulate": accumulate, "max_grad_norm": max_grad_norm, "max_epochs": 1}
    scale = LossScale() if scaled else None
    if scaled:
        scale.scale = 2.0**26
        changes["autocast"] = torch.float16
    with Calls(READING) as calls, Reads() as reads:
        optimizer, settings = optimizer_for(module), replace(SETTINGS, **changes)
        fit_loop(module, task, optimizer, settings, np.random.default_rng(0), loss_scale=scale)
    assert scale is None or scale.n_skipped > 0
    assert calls.found == ["tolist"] * (12 // accumulate)
    assert reads.count == 0


def test_the_next_batches_are_made_before_the_step_waits():
    """Between the backward pass of a step and the wait for it, when a GPU is computing."""
    events, module = [], make_module()

    class Told(Watched):
        def collate(self, rows, rng):
            events.append("collate")
            return super().collate(rows, rng)

    class ToldWhenRead(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):
            if function in (Tensor.backward, Tensor.tolist):
                events.append(function.__name__)
            return function(*args, **(kwargs or {}))

    optimizer = optimizer_for(module)
    optimizer.register_step_pre_hook(lambda *_: events.append("step"))
    with ToldWhenRead():
        fit_loop(module, Told(make_task(8)), optimizer, SETTINGS, np.random.default_rng(0))
    epoch = ["collate", "backward", "collate", "tolist", "step", "backward", "tolist", "step"]
    assert events == epoch * 2


def test_the_loss_is_the_sum_of_its_parts_in_float64():
    """As Python adds them up one by one, to the last bit."""
    parts, module, task = [], make_module(torch.float32), make_task(12)

    class Recorded(Watched):
        def losses(self, module, batch):
            terms = super().losses(module, batch)
            parts.append((terms["loss"].sum() / 12.0).item())
            return terms

    history = fit(module, Recorded(task), batch_size=1, accumulate=12, max_epochs=1)
    expected = 0.0
    for part in parts:
        expected += part
    assert history.loss_curve == [expected * 12.0 / 12.0]


def test_what_learns_is_copied_to_the_host_once():
    module = make_module()
    parameters, optimizer = list(module.parameters()), optimizer_for(module)
    with Calls({Tensor.to, Tensor.cpu, Tensor.clone, Tensor.copy_}) as calls:
        FitState().with_epoch(parameters)
    assert calls.found == ["to"] * len(parameters)
    with Calls({Tensor.to, Tensor.cpu, Tensor.clone, Tensor.copy_}) as calls, undone_on_failure(optimizer):
        pass
    assert calls.found == ["to"] * len(parameters)


def test_a_step_counts_as_a_change_of_the_weights():
    """Fused optimisers do not count: what is kept of a checkpoint's layers would be found for trained ones."""
    module = make_module()
    before = {name: parameter._version for name, parameter in module.named_parameters()}
    fit(module, make_task())
    unchanged = {name for name, parameter in module.named_parameters() if parameter._version == before[name]}
    assert not unchanged
