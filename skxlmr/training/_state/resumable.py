"""Keeps the state of a fit on disk, so that an interrupted fit can be resumed as if nothing had happened.

The state is one safetensors file: the weights that learn, the optimiser's moments, the weights that an interrupt or early
stopping would put back, and the states of torch's generators. Its header holds the rest as JSON. A new state is written next
to the old one, flushed and renamed: a kill at any moment leaves the old state or the new one.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open

from skxlmr.checkpoints import Tensors, check_finite
from skxlmr.checkpoints._atomic_replace import flush
from skxlmr.checkpoints._formats.safetensors import MOST_HEADER, read_safetensors
from skxlmr.nn.randomness import random_state, set_random_state
from skxlmr.training._distributed import current_processes
from skxlmr.training._loss_scale import LossScale
from skxlmr.training._state.fingerprint import STILL_WEIGHTS
from skxlmr.training._state.fit import FitState, History, restore
from skxlmr.training._step_record import StepRecord
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule

FILE = "fit.safetensors"
_UNFINISHED = ".fit.safetensors.unfinished"  # folder of a state that is being written
FORMAT = 1
_MOMENTS = ("exp_avg", "exp_avg_sq")  # of AdamW, next to the number of steps
_KEPT = 3 + len(_MOMENTS)  # values of each weight: its own, finished, best and the moments
_SPARE = MOST_HEADER + 2**20  # bytes of a state besides those: header, generators, numbers of steps
_NOT_COMPARED = ("pooling",)  # where a fit does not depend on it: earlier versions compared it
START_AGAIN = "fit with resume=False to start from scratch"
_KINDS = {each.name: type(each.default) for each in fields(FitState) if type(each.default) in (int, float, bool)}


class StateKeeper:
    """Writes the state of a fit to a folder, and puts it back.

    Parameters
    ----------
    folder : str or path
        Created if it does not exist. Only one fit at a time may use it.
    every : int or None
        Optimiser steps between two states; None writes one per epoch.
    resume : bool
        Whether the fit continues from the state in the folder, if there is one.

    Raises
    ------
    CheckpointError
        If the folder cannot be created, or the state in it is broken.
    """

    _start_again = START_AGAIN  # what errors about a state advise

    def __init__(self, folder: str | os.PathLike[str], every: int | None, resume: bool):
        self.file, self.every = make_folder(folder) / FILE, every
        self._source = self.file  # what the fit continues from
        self._saved = read_header(self.file) if resume and self.file.exists() else None
        self._steps = 0  # since the last state
        self._later: Any = None  # the generator's state in the middle of a resumed epoch

    def seed(self, drawn: int) -> int:
        """Seed of the fit: the drawn one, or that of the state that it continues from."""
        self._seed = drawn if self._saved is None else self._saved["seed"]
        return self._seed

    def attach(
        self,
        module: TaskModule,
        optimizer: torch.optim.Optimizer,
        rng: np.random.Generator,
        about: Mapping[str, str],
        loss_scale: LossScale | None = None,
    ) -> None:
        """Set what is kept, and by what this fit is told apart from others (``about``).

        Raises
        ------
        CheckpointError
            If the state in the folder is that of another fit; names what differs.
        """
        self.optimizer, self.rng, self.about, self.loss_scale = optimizer, rng, dict(about), loss_scale
        name_of = {parameter: name for name, parameter in module.named_parameters()}
        self.parameters = {name_of[p]: p for group in optimizer.param_groups for p in group["params"]}
        self.device = next(iter(self.parameters.values())).device
        if self._saved is not None:
            not_compared = set(_NOT_COMPARED) - self.about.keys()
            then = {name: value for name, value in self._saved["about"].items() if name not in not_compared}
            # a digest shows only that something differs, a parameter also how
            differing = [
                name if re.fullmatch("[0-9a-f]{64}", value) else f"{name} (then {then[name]:.200}, now {value:.200})"
                for name, value in self.about.items()
                if name in then and then[name] != value
            ]
            differing += sorted(self.about.keys() ^ then.keys())
            if len(differing) > 1:  # with other texts, other words are left out
                differing = [name for name in differing if name != STILL_WEIGHTS]
            if differing:
                raise CheckpointError(
                    self._source,
                    f"is the state of another fit, which differs in {', '.join(differing)}: {self._start_again}, or set "
                    "another resume_dir to keep both",
                )

    # What the loop calls ----------------------------------------------------------------------------------------------

    def start(self, max_epochs: int) -> FitState:
        """State to start from: a new one, or the saved one, with weights, optimiser and generators put back.

        Raises
        ------
        CheckpointError
            If the saved one is broken, larger than a state of this fit can be, or has more epochs behind it than
            ``max_epochs``.
        """
        if self._saved is None:
            return FitState()
        most = _KEPT * sum(parameter.nbytes for parameter in self.parameters.values()) + _SPARE
        if (size := self._source.stat().st_size) > most:
            raise CheckpointError(
                self._source,
                f"is not a state of this fit (it has {size} bytes, expected at most {most}): {self._start_again}",
            )
        tensors = {name: tensor.clone() for name, tensor in read_safetensors(self._source).items()}
        try:
            state = self._put_back(self._saved, tensors, max_epochs)
        except CheckpointError:
            raise
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise CheckpointError(
                self._source, f"is not a complete state of a fit ({_first_line(error)}): {self._start_again}"
            ) from error
        self._saved = None
        return state

    def catch_up(self) -> None:
        """Set the generator to the middle of a resumed epoch, once its rows are drawn."""
        if self._later is not None:
            self.rng.bit_generator.state, self._later = self._later, None

    @property
    def continues_from(self) -> dict[str, Any] | None:
        """What the state that the fit continues from says of itself, before the fit starts."""
        return self._saved

    def close(self) -> None:
        """Called when the fit has ended, in whatever way."""

    def step_ends(self, state: FitState, is_last: bool = False) -> None:
        """Count a step, and write the state if it is due, as that of a finished fit always is."""
        self._steps += 1
        is_due = state.step == 0 if self.every is None else self._steps >= self.every  # step 0: an epoch has ended
        if is_last or is_due:
            self.write(state)

    # The file ---------------------------------------------------------------------------------------------------------

    def write(self, state: FitState) -> None:
        """Replace the state in the folder, unless the weights are no longer finite: the next step says so.

        Raises
        ------
        CheckpointError
            If it cannot be written; the old one stays.
        """
        from safetensors.torch import save_file

        processes = current_processes()
        if processes is not None and not processes.leads:
            return
        if not all(bool(parameter.isfinite().all()) for parameter in self.parameters.values()):
            return
        lists = {"finished": state.finished if state.step else None}  # after an epoch, the weights themselves
        lists["best"] = None if state.best is state.finished else state.best
        tensors = {f"weight/{name}": parameter.detach() for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            moments = self.optimizer.state.get(parameter, {})
            tensors |= {f"optimizer/{key}/{name}": tensor for key, tensor in moments.items()}
        for kind, values in lists.items():
            tensors |= {f"{kind}/{name}": value for name, value in zip(self.parameters, values or [], strict=False)}
        tensors |= {f"generator/{i}": value for i, value in enumerate(random_state(self.device))}
        header = {
            "format": FORMAT,
            "about": self.about,
            "seed": self._seed,
            "state": {name: getattr(state, name) for name in _KINDS},
            "loss_curve": state.history.loss_curve,
            "validation_scores": state.history.validation_scores,
            "record": state.record.state(),
            "best": "none" if state.best is None else "finished" if state.best is state.finished else "apart",
            "rng": self.rng.bit_generator.state,
            "epoch_rng": state.epoch_rng if state.step else None,
        }
        if self.loss_scale is not None:
            header["loss_scale"] = self.loss_scale.state()
        unfinished = self.file.with_name(_UNFINISHED)
        try:
            shutil.rmtree(unfinished, ignore_errors=True)  # what a killed write left, safetensors' own files included
            unfinished.mkdir()
            fresh = unfinished / FILE
            save_file(
                {name: tensor.contiguous() for name, tensor in tensors.items()}, fresh, {"fit": json.dumps(header)}
            )
            flush(fresh)
            os.replace(fresh, self.file)
            flush(self.file.parent)
        except (OSError, SafetensorError) as error:
            raise CheckpointError(self.file, f"cannot be written ({error})") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)  # half a state would keep a full disk full
        self._steps = 0

    def _put_back(self, saved: dict[str, Any], tensors: Tensors, max_epochs: int) -> FitState:
        """Put back weights, optimiser and generators; raises whatever broken content leads to."""
        counts = saved["state"]
        for name, kind in _KINDS.items():
            if type(counts[name]) is not kind or (kind is int and counts[name] < 0):
                raise ValueError(f"{name} is {counts[name]!r}")
        history = History(_floats(saved, "loss_curve"), _floats(saved, "validation_scores"))
        if len(history.loss_curve) != counts["epoch"]:
            raise ValueError(f"{len(history.loss_curve)} losses of {counts['epoch']} epochs")
        record = StepRecord.from_state(saved.get("record"))
        state = FitState(history, record, **{name: counts[name] for name in _KINDS})
        if state.epoch + (state.step > 0) > max_epochs:  # the weights would not be those of max_epochs epochs
            raise CheckpointError(
                self._source,
                f"is the state after {state.epoch} epochs and {state.step} steps, more than max_epochs={max_epochs}: "
                f"{self._start_again}, or set another resume_dir to keep both",
            )

        weights = self._take("weight", tensors)
        if state.epoch:
            state.finished = self._take("finished", tensors) if state.step else weights
        if saved["best"] != "none":
            state.best = state.finished if saved["best"] == "finished" else self._take("best", tensors)
        moments = {}
        for i, (name, parameter) in enumerate(self.parameters.items()):
            if f"optimizer/step/{name}" in tensors:
                moments[i] = {key: _like(parameter, f"optimizer/{key}/{name}", tensors) for key in _MOMENTS}
                moments[i]["step"] = _like(
                    torch.zeros((), dtype=torch.float32, device="cpu"), f"optimizer/step/{name}", tensors
                )
        generators = [tensors[f"generator/{i}"] for i in range(len(random_state(self.device)))]

        try:
            check_finite(tensors, self._source)
        except CheckpointError as error:
            raise CheckpointError(self._source, f"{error.reason}: {self._start_again}") from None

        # Nothing changes before everything has been read.
        if self.loss_scale is not None:
            self.loss_scale.restore(saved["loss_scale"])
        self.rng.bit_generator.state = saved["rng"]
        set_random_state(self.device, generators)
        if state.step:
            self.rng.bit_generator.state, self._later = saved["epoch_rng"], saved["rng"]
        restore(list(self.parameters.values()), weights)
        self.optimizer.load_state_dict(self.optimizer.state_dict() | {"state": moments})
        return state

    def _take(self, kind: str, tensors: Tensors) -> list[Tensor]:
        return [_like(parameter, f"{kind}/{name}", tensors) for name, parameter in self.parameters.items()]


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """The folder, created if it does not exist.

    Raises
    ------
    CheckpointError
        If it cannot be created.
    """
    path = Path(folder).expanduser()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckpointError(folder, f"cannot be created as a folder for the state of a fit ({error})") from error
    return path


def read_header(file: Path, start_again: str = START_AGAIN) -> dict[str, Any]:
    """What a state says of itself.

    Raises
    ------
    CheckpointError
        If the file is not the state of a fit.
    """
    if not file.is_file():  # opening a pipe would wait
        raise CheckpointError(file, f"is not the state of a fit (it is not a file): {start_again}")
    try:
        with open(file, "rb") as start:
            if int.from_bytes(start.read(8), "little") > MOST_HEADER:
                raise ValueError(f"its header has more than {MOST_HEADER} bytes")
        with safe_open(file, framework="pt", device="cpu") as opened:
            saved = json.loads((opened.metadata() or {})["fit"])
    except (SafetensorError, OSError, KeyError, ValueError, RecursionError) as error:
        raise CheckpointError(file, f"is not the state of a fit ({_first_line(error)}): {start_again}") from error
    found = saved.get("format") if isinstance(saved, dict) else None
    if found != FORMAT:
        raise CheckpointError(file, f"has the format {found!r}, this version of skxlmr reads {FORMAT}: {start_again}")
    for part, kind in (("about", dict), ("state", dict), ("seed", int)):
        if type(saved.get(part)) is not kind:
            raise CheckpointError(file, f"is not the state of a fit (it lacks {part}): {start_again}")
    if not 0 <= saved["seed"] < 2**31:
        raise CheckpointError(file, f"is not the state of a fit (its seed is {saved['seed']}): {start_again}")
    return saved


def _like(expected: Tensor, name: str, tensors: Tensors) -> Tensor:
    found = tensors[name]
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        raise ValueError(
            f"{name} is {found.dtype} {tuple(found.shape)}, expected {expected.dtype} {tuple(expected.shape)}"
        )
    return found


def _floats(saved: dict[str, Any], name: str) -> list[float]:
    if not isinstance(saved[name], list) or any(type(value) is not float for value in saved[name]):
        raise ValueError(f"{name} is not a list of numbers")
    return saved[name]


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
