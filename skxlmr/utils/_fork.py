"""What becomes of torch's threads where a process forks.

A fork copies the memory of the process, but of its threads only the one that forks. GNU's OpenMP, with which torch computes,
goes on to hand work to threads that are no more and waits for them for ever. So the child of a process that has computed
with several threads, if only to open a model, computes with one, as torch's own data loaders do: then nobody is waited for.
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
