"""Processes for tests, forked from one server that has imported the library and torch, and done nothing else.

A new interpreter for each would spend seconds on ``import torch``. Only a test of that import needs one.
"""

import multiprocessing
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Done:
    """What a process leaves: its exit code, negative after a signal, and what it printed."""

    exit_code: int
    stdout: str
    stderr: str


def server(with_torch=True):
    """The context of the server, or of new interpreters without torch; what the processes print is not caught."""
    if not with_torch or "forkserver" not in multiprocessing.get_all_start_methods():  # as on Windows
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "skxlmr", "torch"])
    return context


def run(function, *arguments, timeout=120, **environment):
    """Call a function in a process, which is killed after ``timeout`` seconds; None unsets a variable of the environment.

    The module of the function is imported before the environment is changed.
    """
    return Started(function, arguments, environment).wait(timeout)


class Started:
    """A process that calls a function, to be waited for."""

    def __init__(self, function, arguments, environment):
        self._folder = tempfile.TemporaryDirectory()
        self._files = [Path(self._folder.name, name) for name in ("stdout", "stderr")]
        self._process = server().Process(target=_redirected, args=(self._files, environment, function, arguments))
        self._process.start()

    def wait(self, timeout):
        """What it leaves; it is killed after ``timeout`` seconds."""
        with self._folder:
            self._process.join(timeout)
            self._process.kill()
            self._process.join()
            said = [file.read_text(encoding="utf-8", errors="replace") for file in self._files]
        return Done(self._process.exitcode, *said)


def _redirected(files, environment, function, arguments):
    for stream, file in zip((1, 2), files, strict=True):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
    for name, value in environment.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    function(*arguments)
