"""Torch's threads after a fork.

A fork copies the memory of the process, but only the thread that forks. GNU OpenMP, which torch computes with, still hands
work to the other threads, which no longer exist, and waits for them forever. So the child of a process that has used several
threads, even if only to open a model, computes with one thread, as torch's own data loaders do.

Workers that joblib forks (its backend "multiprocessing") divide the cores, as joblib has its other workers do: threads that
outnumber the cores wait for each other.
"""

from __future__ import annotations

import os
import sys
from types import FrameType

from skxlmr.utils._imports.later import torch

_has_threads = False
_share: int | None = None  # of the cores, in a worker that joblib forked before torch was imported


def will_compute() -> None:
    """Remember that torch's threads are about to be started."""
    global _has_threads, _share
    if _share is not None:
        torch.set_num_threads(min(_share, torch.get_num_threads()))
        _share = None
    _has_threads = _has_threads or torch.get_num_threads() > 1


def _after_fork() -> None:
    global _share
    if _has_threads:
        torch.set_num_threads(1)
    elif (n_workers := _n_joblib_workers()) is not None:
        share = max(sys.modules["joblib"].cpu_count() // n_workers, 1)
        if "torch" in sys.modules:
            torch.set_num_threads(min(share, torch.get_num_threads()))
        else:
            _share = share


def _n_joblib_workers() -> int | None:
    """How many workers joblib is starting by this fork; None if it is somebody else's."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_globals.get("__name__") == "joblib.pool":
            n_workers: int | None = getattr(frame.f_locals.get("self"), "_processes", None)
            return n_workers
        frame = frame.f_back
    return None


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
