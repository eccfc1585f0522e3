"""A process that saves an estimator and has an accident on the way."""

import errno
import os
import signal
import sys

import skxlmr

REFUSED = 3  # exit status after a CheckpointError


def save_over(source, target, ready, done, accident, place):
    """Save the estimator of one folder to another, in a separate process that the accident may end.

    With ``"limit"``, no file can grow beyond ``place`` bytes. With ``"full"``, Python's writing calls (open, mkdir, rename,
    fsync) after the first ``place`` ones fail as on a full disk. With ``"kill"``, the first of those kills the process.
    """
    estimator = skxlmr.load(source)
    if accident == "limit":
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (place, place))
    elif accident is not None:
        _watch(accident, place)
    ready.set()
    try:
        skxlmr.save(estimator, target)
        done.set()
    except skxlmr.CheckpointError:
        sys.exit(REFUSED)


def _watch(accident, place):
    n_calls = 0

    def count():
        nonlocal n_calls
        n_calls += 1
        if n_calls > place and accident == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if n_calls > place:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def hook(event, args):
        writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)
        if writes or event in ("os.mkdir", "os.rename"):
            count()

    fsync = os.fsync

    def counted_fsync(descriptor):
        count()
        fsync(descriptor)

    os.fsync = counted_fsync
    sys.addaudithook(hook)
