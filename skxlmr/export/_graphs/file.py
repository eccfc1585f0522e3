"""Write a graph as ``model.onnx`` and ``model.onnx_data``; the same graph always makes the same bytes.

Weights are read and written one after another, large ones in parts: never more of them than one matrix of a layer is in memory.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from skxlmr.export._graphs.graph import Graph, Weight
from skxlmr.utils._errors import CheckpointError

MODEL, DATA = "model.onnx", "model.onnx_data"
INLINE = 1024  # bytes of a weight from which it is in the second file, as the onnx package has it
PAGE = 4096  # larger ones begin at a multiple of it, so that they can be mapped
LARGE = 2**20


def write_graph(folder: Path, graph: Graph, metadata: Mapping[str, str], producer: tuple[str, str]) -> None:
    """Write a graph into an existing folder.

    Parameters
    ----------
    folder : Path
    graph : Graph
    metadata : mapping of str to str
        What the file says about itself.
    producer : tuple of str
        Name and version of what made it.

    Raises
    ------
    CheckpointError
        If a weight is not finite, or becomes so in the type that it is stored in.
    """
    from onnx import TensorProto, helper, numpy_helper

    initializers = [numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    with (folder / DATA).open("wb") as file:
        for weight in graph.weights.values():
            tensor = TensorProto(name=weight.name, dims=weight.shape)
            tensor.data_type = helper.np_dtype_to_tensor_dtype(weight.dtype)
            if weight.n_bytes < INLINE:
                tensor.raw_data = b"".join(_bytes(folder / MODEL, weight, piece) for piece in weight.pieces())
            else:
                offset = file.tell()
                offset += -offset % (PAGE if weight.n_bytes >= LARGE else 64)
                file.seek(offset)
                for piece in weight.pieces():
                    file.write(_bytes(folder / DATA, weight, piece))
                if file.tell() - offset != weight.n_bytes:
                    raise CheckpointError(
                        folder / DATA, f"wrote {file.tell() - offset} bytes of {weight.name!r}, not {weight.n_bytes}"
                    )
                tensor.data_location = TensorProto.EXTERNAL
                for key, value in {"location": DATA, "offset": str(offset), "length": str(weight.n_bytes)}.items():
                    tensor.external_data.add(key=key, value=value)
            initializers.append(tensor)
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, shape) for name, shape in graph.inputs.items()]
    outputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(graph.types[name]), shape)
        for name, shape in graph.outputs.items()
    ]
    made = helper.make_graph(graph.nodes, "model", inputs, outputs, initializers)
    opsets = [helper.make_opsetid("", graph.opset)]
    model = helper.make_model(made, opset_imports=opsets, ir_version=helper.find_min_ir_version_for(opsets))
    model.producer_name, model.producer_version = producer
    helper.set_model_props(model, dict(metadata))
    (folder / MODEL).write_bytes(model.SerializeToString(deterministic=True))


def _bytes(file: Path, weight: Weight, piece: np.ndarray) -> bytes:
    if piece.dtype != weight.dtype:
        raise CheckpointError(file, f"cannot hold {weight.name!r} as {piece.dtype}, expected {weight.dtype}")
    if piece.dtype.kind == "f" and not np.isfinite(piece).all():
        reason = (
            f"cannot hold {weight.name!r} in {weight.dtype}: it is not finite, or too large for that: export float32"
        )
        raise CheckpointError(file, reason)
    return np.ascontiguousarray(piece).tobytes()
