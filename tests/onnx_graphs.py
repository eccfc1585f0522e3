"""Small ONNX graphs, made by hand, whose outputs a test can compute itself: each token has a vector, and a text their mean."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save_model

VOCABULARY, WIDTH = 100, 8
TABLE = np.random.default_rng(0).normal(size=(VOCABULARY, WIDTH)).astype(np.float32)
HEAD = np.random.default_rng(1).normal(size=(WIDTH, 3)).astype(np.float32)
ROWS = ("batch", "sequence")
INPUTS = ("input_ids", "attention_mask")
NODES = {
    "last_hidden_state": [("Identity", ["x"], "last_hidden_state")],
    "token_embeddings": [("Identity", ["x"], "token_embeddings")],
    "sentence_embedding": [("Identity", ["mean"], "sentence_embedding")],
    "pooler_output": [("Neg", ["mean"], "pooler_output")],
    "logits": [("MatMul", ["mean", "head"], "logits")],
    "token_logits": [("MatMul", ["x", "head"], "logits")],
    "vocabulary_logits": [("Transpose", ["table"], "turned"), ("MatMul", ["x", "turned"], "logits")],
    "start_logits": [("ReduceMax", ["x", "two"], "start_logits"), ("ReduceMin", ["x", "two"], "end_logits")],
    "other": [("Identity", ["x"], "other")],
}


def graph(kinds=("last_hidden_state",), inputs=INPUTS, *, shape=ROWS, kind=TensorProto.INT64, table=TABLE, half=False):
    """A model that makes these outputs, keys of NODES."""
    nodes = [
        ("Gather", ["table", "input_ids"], "x"),
        ("Cast", ["attention_mask"], "mask"),
        ("Unsqueeze", ["mask", "two"], "mask3"),
        ("Mul", ["x", "mask3"], "kept"),
        ("ReduceSum", ["kept", "one"], "sum"),
        ("ReduceSum", ["mask", "one"], "n"),
        ("Div", ["sum", "n"], "mean"),
    ]
    made = [helper.make_node(op, of, [to], **_attributes(op, to)) for op, of, to in nodes]
    last = [node for each in kinds for node in NODES[each]]
    outputs = [to for _, _, to in last if to != "turned"]
    made += [helper.make_node(op, of, [f"{to}_" * half or to], **_attributes(op, to)) for op, of, to in last]
    if half:
        made += [helper.make_node("Cast", [f"{name}_"], [name], to=TensorProto.FLOAT16) for name in outputs]
    constants = {"table": table, "head": HEAD, "one": np.array([1]), "two": np.array([2])}
    return helper.make_model(
        helper.make_graph(
            made,
            "tiny",
            [helper.make_tensor_value_info(name, kind, shape) for name in inputs],
            [
                helper.make_tensor_value_info(n, TensorProto.FLOAT16 if half else TensorProto.FLOAT, None)
                for n in outputs
            ],
            [numpy_helper.from_array(values, name) for name, values in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


def write(file, *args, external=None, **options):
    """The model in a file; ``external`` names the file for its larger tensors."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = {} if external is None else {"save_as_external_data": True, "location": external, "size_threshold": 64}
    save_model(graph(*args, **options), file, **beside)
    return file


def mean_of(ids):
    """What ``sentence_embedding`` is."""
    return TABLE[ids].mean(0)


def _attributes(op, to):
    if op == "Cast":
        return {"to": TensorProto.FLOAT}
    return {"keepdims": int(to == "n")} if op.startswith("Reduce") else {}
