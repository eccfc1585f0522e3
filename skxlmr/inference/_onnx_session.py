"""Sessions of ONNX Runtime, whose products with weights of 8 bits are exact on every processor.

Without instructions for 8 bits (AVX512-VNNI, AVX-VNNI, AMX), ONNX Runtime adds the products of unsigned with signed numbers in
pairs of 16 bits on x86, and these saturate: with weights of the full range, features are off by a tenth and more. It has exact
kernels for two unsigned factors, and rewrites a graph for them where an option says so. With VNNI the same option costs speed
for nothing; so one small product decides.
"""

import os
from functools import cache
from typing import Any

import numpy as np
from joblib import cpu_count

from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._warnings import warn_once_per_call

ERRORS_ONLY, SILENT = 3, 4  # of ONNX Runtime's levels of messages
CPU = "CPUExecutionProvider"
# In version 1.32 a norm merged with the residual before it takes 8 times as long on a CPU as the two after one another
SLOWER_ON_CPU = ["SkipLayerNormFusion"]
UNSIGNED_WEIGHTS = ("session.x64quantprecision", "1")
UINT8, INT8, INT32 = 2, 3, 6  # as ONNX numbers types


def open_session(runtime: Any, file: str, providers: list[Any], names: list[str], threads: int | None) -> Any:
    """A session for a graph.

    Parameters
    ----------
    runtime : module
        ``onnxruntime``.
    file : str
    providers : list
        Execution providers with their options, the preferred one first.
    names : list of str
        Their names.
    threads : int or None
        Threads within an operator; None is :func:`n_threads`.

    Raises
    ------
    CheckpointError
        If ONNX Runtime can't open the graph.
    """

    def opened(exactly: bool) -> Any:
        options = runtime.SessionOptions()
        options.log_severity_level = SILENT if exactly and names == [CPU] else ERRORS_ONLY
        options.intra_op_num_threads = n_threads() if threads is None else threads
        options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # which is for one shape, and texts have all lengths
        if exactly:
            options.add_session_config_entry(*UNSIGNED_WEIGHTS)
        slower = SLOWER_ON_CPU if names == [CPU] else None
        return runtime.InferenceSession(file, options, providers, disabled_optimizers=slower)

    reason = ""
    if saturates(runtime):
        try:
            return opened(True)
        except Exception as error:  # theirs have no base class of their own
            reason = first_line(error)
    try:
        session = opened(False)
    except Exception as error:
        raise CheckpointError(file, f"cannot be opened by ONNX Runtime ({first_line(error)})") from error
    if reason:
        warn_once_per_call(
            f"{file}: this processor has no instructions for 8 bits, and ONNX Runtime cannot rewrite this graph so that its "
            f"sums do not saturate ({reason}): outputs are wrong if it multiplies in int8. Export it again with export_onnx, "
            "or use float32",
            about=file,
        )
    return session


@cache
def saturates(runtime: Any) -> bool:
    """Whether products of unsigned with signed numbers are not exact here."""
    types = {b"a": UINT8, b"b": INT8, b"y": INT32}
    a, b, y = (_field(1, name) + _field(2, _field(1, _field(1, kind))) for name, kind in types.items())
    node = _field(1, b"a") + _field(1, b"b") + _field(2, b"y") + _field(4, b"MatMulInteger")
    graph = _field(1, node) + _field(2, b"product") + _field(11, a) + _field(11, b) + _field(12, y)
    of_format, of_operators = _field(1, 8), _field(8, _field(2, 17))  # versions
    model = of_format + _field(7, graph) + of_operators
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = runtime.InferenceSession(model, options, [CPU])
    factors = {"a": np.full((2, 8), 255, np.uint8), "b": np.full((8, 16), 127, np.int8)}
    return bool((session.run(None, factors)[0] != 8 * 255 * 127).any())


def _field(number: int, value: int | bytes) -> bytes:
    """A field of a message in the format of protobuf; numbers and lengths are below 128."""
    return bytes([8 * number, value]) if isinstance(value, int) else bytes([8 * number + 2, len(value)]) + value


def n_threads() -> int:
    """``OMP_NUM_THREADS``, which workers of joblib have too, or the cores that this process may use."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return int(said) if said.isdecimal() and int(said) else int(cpu_count(only_physical_cores=True))


def first_line(error: Exception) -> str:
    """What an error says first."""
    return (str(error) or type(error).__name__).splitlines()[0][:300]
