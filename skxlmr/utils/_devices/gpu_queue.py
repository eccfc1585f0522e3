"""Worker processes that share a GPU take turns.

A search with ``n_jobs=2`` on one GPU would have two fits in its memory at once, and the second may find none left. So a worker
process, such as joblib's, locks a file that belongs to the GPU for the length of a fit's loop or of an engine's run. The
system gives the lock back when a process ends, however it ends. On a CPU, and in a process that is not a worker, nothing is
locked.

Written without a GPU: the tests take a CPU for one. On a GPU it has not been run yet.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import current_process

from skxlmr.utils._devices.device import release_memory
from skxlmr.utils._imports.later import torch

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

_held = threading.local()  # the locks that this thread holds, by their files


@contextmanager
def turn(device: torch.device) -> Iterator[None]:
    """Around work on a device: a worker process waits until no other one works on the same GPU.

    Its cached memory is given back at the end. A block within a block of the same thread waits for nothing.
    """
    if fcntl is None or not _takes_turns(device):
        yield
        return
    file, locks = _file_of(device), vars(_held)
    if file in locks:
        yield
        return
    # the file stays: a process that waits for one that was removed would hold a lock that nobody sees
    lock = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        locks[file] = lock
        try:
            yield
        finally:
            del locks[file]
            release_memory(device)
    finally:
        os.close(lock)


def _takes_turns(device: torch.device) -> bool:
    """Whether this is a GPU that other workers may use, and this process is a worker."""
    return device.type == "cuda" and current_process().name != "MainProcess"


def _file_of(device: torch.device) -> str:
    """The file of this user for the physical GPU."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return os.path.join(tempfile.gettempdir(), f"skxlmr-{user}-{_name_of(device)}.lock")


def _name_of(device: torch.device) -> str:
    """What tells a GPU from others in all processes, whichever of them each can see."""
    uuid = getattr(torch.cuda.get_device_properties(device), "uuid", None)
    if uuid is not None:
        return f"gpu-{uuid}"
    index = torch.cuda.current_device() if device.index is None else device.index
    return f"gpu-{os.environ.get('CUDA_VISIBLE_DEVICES', '').replace(os.sep, '_')}-{index}"
