"""The states of many fits in one folder, as the candidates and folds of a search need them.

``<folder>/<what the fit is>/epochs-<max_epochs>/fit.safetensors``: the name in the middle is a digest of everything that
determines a fit but its number of epochs. At a constant learning rate, fits that share it are one fit, trained for longer or
for shorter: each continues from the furthest of them that has not gone further than it will.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.checkpoints._atomic_replace import lock_folder
from skxlmr.training._distributed import current_processes
from skxlmr.training._loss_scale import LossScale
from skxlmr.training._state.fingerprint import digest
from skxlmr.training._state.fit import FitState
from skxlmr.training._state.resumable import FILE, StateKeeper, make_folder, read_header
from skxlmr.utils._warnings import warn_once_per_call

if TYPE_CHECKING:
    import torch

    from skxlmr.nn import TaskModule

_FOLDER = "epochs-"  # followed by max_epochs
_DIGITS = 32  # of the digest


class OwnFolderKeeper(StateKeeper):
    """Keeps the state of a fit in a folder of its own, and continues from there, or from a shorter fit.

    While another process or thread runs the very same fit, nothing is written.

    Parameters
    ----------
    folder : str or path
        Holds the folders of all fits.
    every : int or None
        Optimiser steps between two states; None writes one per epoch.
    max_epochs : int
    about : mapping
        What tells the fit apart, besides what ``attach`` gets.

    Raises
    ------
    CheckpointError
        If the folder cannot be created, or a state of this fit is broken.
    """

    _start_again = "delete it to start from scratch"

    def __init__(self, folder: str | os.PathLike[str], every: int | None, max_epochs: int, about: Mapping[str, str]):
        super().__init__(folder, every, resume=False)
        self._folder, self._max_epochs, self._more = self.file.parent, max_epochs, about
        self._locked: int | None = None
        self._writes = True

    def attach(
        self,
        module: TaskModule,
        optimizer: torch.optim.Optimizer,
        rng: np.random.Generator,
        about: Mapping[str, str],
        loss_scale: LossScale | None = None,
    ) -> None:
        learns = digest([(name, p) for name, p in module.named_parameters() if p.requires_grad])
        about = {**about, **self._more, "the seed": str(self._seed), "the weights it starts from": learns}
        of_any_length = {name: value for name, value in about.items() if name != "max_epochs"}
        fits = self._folder / digest(sorted(of_any_length.items()))[:_DIGITS]
        own = make_folder(fits / f"{_FOLDER}{self._max_epochs}")
        processes = current_processes()
        try:
            self._locked = lock_folder(own) if processes is None or processes.leads else None
        except BlockingIOError:
            self._writes = False
        self._writes = self._writes if processes is None else processes.of_first(self._writes)
        self.file = own / FILE
        self._find(fits, about)
        super().attach(module, optimizer, rng, about, loss_scale)

    def close(self) -> None:
        if self._locked is not None:
            os.close(self._locked)
            self._locked = None

    def write(self, state: FitState) -> None:
        if self._writes:
            super().write(state)

    def _find(self, fits: Path, about: Mapping[str, str]) -> None:
        """Choose the state to continue from."""
        found = {file: read_header(file, self._start_again) for file in sorted(fits.glob(f"{_FOLDER}*/{FILE}"))}
        own = {file: saved for file, saved in found.items() if file == self.file}
        # Of other fits, or where another runs this one, only the state at the end: nothing replaces it while it is read.
        finished = {file: saved for file, saved in found.items() if _is_finished(file, saved)}
        usable = finished | own if self._writes else finished
        if "max_epochs" in about:  # every step depends on it
            if not own and finished:
                self._say_why_not(about)
            usable = {file: saved for file, saved in usable.items() if file in own}
        usable = {file: saved for file, saved in usable.items() if _progress(saved) <= (self._max_epochs, 0)}
        if usable:
            self._source = max(usable, key=lambda file: _progress(usable[file]))
            self._saved = usable[self._source]

    def _say_why_not(self, about: Mapping[str, str]) -> None:
        warn_once_per_call(
            "fits start from scratch, although resume_dir has states of the same fits with another max_epochs: with "
            f"schedule={about['schedule']} and warmup_ratio={about['warmup_ratio']} the learning rate of each step depends on "
            "max_epochs, so a longer fit differs from its first steps on. Set schedule='constant' and warmup_ratio=0 for fits "
            "that continue",
            about="resume",
        )


def _progress(saved: Mapping[str, Any]) -> tuple[int, int]:
    """Finished epochs, and steps of the one after them."""
    epoch, step = (saved["state"].get(name) for name in ("epoch", "step"))
    return (epoch, step) if type(epoch) is int and type(step) is int else (0, 0)  # which start() refuses


def _is_finished(file: Path, saved: Mapping[str, Any]) -> bool:
    """Whether this is the state at the end of its fit."""
    return saved["state"].get("stopped") is True or f"{_FOLDER}{_progress(saved)[0]}" == file.parent.name
