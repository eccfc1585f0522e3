"""A graph in an ONNX file, in the place of a torch module in a fitted estimator."""

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from skxlmr.checkpoints import external_files, sha256_of
from skxlmr.inference._onnx_session import CPU, first_line, open_session
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.optional import import_extra

Stamp = tuple[tuple[str, int, int, int, int], ...]
Providers = Sequence[str | tuple[str, dict[str, Any]]] | None
INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids", "langs")
# What other exporters call the same output
OUTPUTS = {
    "last_hidden_state": ("last_hidden_state", "token_embeddings"),
    **{name: (name,) for name in ("sentence_embedding", "pooler_output", "logits", "start_logits", "end_logits")},
}
PICKLED = ("file", "providers", "threads", "sentence", "layer", "is_final", "is_scaled", "checkpoint")
TYPES = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}
_of_parents: list[Any] = []  # sessions that a fork copied without their threads; to close one would wait for these
_opening = threading.Lock()


class OnnxModule:
    """A graph that ONNX Runtime runs. It is opened at first use, in each process anew.

    A pickle holds its path, its settings and the hash of its files, and a copy is the graph itself, which never changes.

    Parameters
    ----------
    file : str or path
    providers : sequence of str or of (str, dict), optional
        ONNX Runtime's execution providers, the preferred one first; by default the CPU.
    threads : int, optional
        Threads within an operator; by default one for each core that the process may use.

    Attributes
    ----------
    sentence : tuple
        What ``sentence_embedding`` is, see :func:`skxlmr.inference.onnx_engine.sentence_of`.
    layer : int or None
        The layer whose output ``last_hidden_state`` is, in graphs that ``export_onnx`` wrote; None for the last one of others.
    is_final : bool
        Whether ``sentence_embedding`` is scaled to unit length and cut as the estimator's features are.
    is_scaled : bool
        Whether ``sentence_embedding`` is scaled to unit length.
    checkpoint : tuple
        What the estimator's parameters ``checkpoint`` and ``revision`` were when it got the graph.
    origin, loaded, mapped_files : None
        What torch modules know of their checkpoint.
    """

    origin = loaded = mapped_files = None

    def __init__(self, file: str | os.PathLike[str], providers: Providers = None, threads: int | None = None):
        self.file = os.path.abspath(file)
        self.providers = None if providers is None else list(providers)
        self.threads = threads
        self.sentence: tuple[Any, ...] = ((),)
        self.layer: int | None = None
        self.is_final = self.is_scaled = False
        self.checkpoint: tuple[Any, ...] = ()
        self._expected: str | None = None  # the hash that a pickle came with
        self._session: Any = None
        self._opened_by = 0  # the process
        self._stamp: Stamp = ()  # of the files when they were opened
        self._digest: str | None = None

    # Files --------------------------------------------------------------------------------------------------------------

    @property
    def stamp(self) -> Stamp:
        """Tells the files as they were when they were opened: path, device, inode, size and modification time of each."""
        return self._stamp if self.session is not None else ()

    def content_hash(self) -> str:
        """SHA-256 of the files that were opened, computed once.

        Raises
        ------
        CheckpointError
            If one was changed since.
        """
        if self._digest is None:
            stamp = self.stamp
            self._digest = _digest_of(stamp)
            if stamp != _stamp_of(self.file):
                self._digest = None
                raise CheckpointError(self.file, "was changed after it was opened: load it again")
        return self._digest

    # Session ------------------------------------------------------------------------------------------------------------

    @property
    def session(self) -> Any:
        """ONNX Runtime's session, opened if this process has none yet.

        Raises
        ------
        CheckpointError
            If the files are missing, damaged, others than those that were pickled, or no graph of an encoder.
        ImportError
            If onnxruntime is not installed.
        ValueError
            If a provider can't be used here.
        """
        with _opening:  # threads that need it at the same time wait for the first one
            if self._session is None or self._opened_by != os.getpid():
                if self._session is not None:
                    _of_parents.append(self._session)
                session = self._open()
                self._session, self._opened_by = session, os.getpid()
            return self._session

    def _open(self) -> Any:
        runtime = import_extra("onnxruntime", "onnx", "load_onnx")
        names = self._provider_names(runtime.get_available_providers())
        # all files lie in the folder, before the runtime opens any
        self._stamp, self._digest = _stamp_of(self.file), None
        if self._expected is not None:
            self._digest = _digest_of(self._stamp)
            if self._digest != self._expected:
                raise CheckpointError(
                    self.file, "is not the graph that was pickled: put it back, or pickle the estimator again"
                )
        session = open_session(runtime, self.file, self.providers or names, names, self.threads)
        lost = [name for name in names if name not in session.get_providers()]
        if lost:
            raise ValueError(f"providers: {', '.join(lost)} could not be started here; ONNX Runtime's messages say why")
        self._check(session)
        return session

    def _provider_names(self, available: list[str]) -> list[str]:
        if self.providers is None:
            return [CPU]
        names = [each if isinstance(each, str) else each[0] for each in self.providers]
        for name in names:
            if name not in available:
                raise ValueError(
                    f"providers: {name!r} is not one of this onnxruntime, which has {', '.join(available)}: install the "
                    "package that has it, such as onnxruntime-gpu"
                )
        return names

    def _check(self, session: Any) -> None:
        """Refuse a graph that takes or makes something else than an encoder with a head does."""
        file = self.file
        self.inputs: dict[str, Any] = {}
        for entry in session.get_inputs():
            if entry.name not in INPUTS:
                raise CheckpointError(
                    file, f"has the input {entry.name!r:.80}, expected {', '.join(INPUTS)} and no others"
                )
            if entry.type not in TYPES:
                raise CheckpointError(file, f"takes {entry.name} as {entry.type}, expected tensor(int64)")
            if len(entry.shape) != 2 or any(isinstance(n, int) for n in entry.shape):
                shape = ", ".join(map(str, entry.shape))
                reason = f"takes {entry.name} in the shape ({shape}), expected a dynamic batch and length"
                raise CheckpointError(file, reason)
            self.inputs[entry.name] = TYPES[entry.type]
        for name in INPUTS[:2]:
            if name not in self.inputs:
                raise CheckpointError(file, f"has no input {name}")
        made = [entry.name for entry in session.get_outputs()]
        self.outputs = {
            name: next(other for other in theirs if other in made)
            for name, theirs in OUTPUTS.items()
            if not set(made).isdisjoint(theirs)
        }
        if not self.outputs:
            raise CheckpointError(file, f"makes {', '.join(made):.200}, expected one or more of {', '.join(OUTPUTS)}")

    def run(self, outputs: Sequence[str], feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        """Outputs of a batch, by their names in :data:`OUTPUTS`; halves become float32.

        Raises
        ------
        CheckpointError
            If the graph can't compute them.
        """
        session = self.session
        if missing := [name for name in outputs if name not in self.outputs]:
            raise CheckpointError(self.file, f"does not make {missing[0]}, only {', '.join(self.outputs)}")
        try:
            found = session.run([self.outputs[name] for name in outputs], feed)
        except Exception as error:
            raise CheckpointError(self.file, f"fails in ONNX Runtime ({first_line(error)})") from error
        return [values.astype(np.float32) if values.dtype == np.float16 else values for values in found]

    # Copies and pickles -------------------------------------------------------------------------------------------------

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxModule":
        return self

    def __getstate__(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in PICKLED}
        return {**state, "_expected": self.content_hash() if self._session is not None else self._expected}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _session=None, _opened_by=0, _stamp=(), _digest=None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        if name in ("inputs", "outputs") and self.session is not None:
            return vars(self)[name]
        raise AttributeError(
            f"{self.file} is an ONNX graph, and this needs the weights in torch ({name}): open a folder that has them with load"
        )

    def __repr__(self) -> str:
        return f"OnnxModule({os.fspath(Path(self.file))!r})"


def _stamp_of(file: str) -> Stamp:
    """The graph and the files with its weights, see :func:`skxlmr.checkpoints.external_files`."""
    files = [file, *(os.path.join(os.path.dirname(file), name) for name in external_files(file))]
    return tuple((path, s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns) for path in files for s in [os.stat(path)])


def _digest_of(stamp: Stamp) -> str:
    lines = "".join(f"{sha256_of(path)}  {os.path.basename(path)}\n" for path, *_ in stamp)
    return hashlib.sha256(lines.encode()).hexdigest()


def check_has_weights(module: Any, what: str) -> None:
    """Refuse an ONNX graph for what needs a torch module.

    Raises
    ------
    ValueError
    """
    if isinstance(module, OnnxModule):
        raise ValueError(
            f"{what} needs the weights in torch, and this estimator runs the ONNX graph {module.file}: open a folder that "
            "holds the weights with skxlmr.load"
        )


def _after_fork() -> None:
    global _opening
    _opening = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
