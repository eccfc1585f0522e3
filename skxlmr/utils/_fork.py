"""Torch's threads after a fork.

A fork copies the memory of the process, but only the thread that forks. GNU OpenMP, which torch computes with, still hands
work to the other threads, which no longer exist, and waits for them forever. So the child of a process that has used several
threads, even if only to open a model, computes with one thread, as torch's own data loaders do.
"""

import os

import torch

_has_threads = False


def will_compute() -> None:
    """Remember that torch's threads are about to be started."""
    global _has_threads
    _has_threads = _has_threads or torch.get_num_threads() > 1


def _compute_alone() -> None:
    if _has_threads:
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_compute_alone)
