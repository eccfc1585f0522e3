"""Self-attention over padded rows, in the pattern of operators that ONNX Runtime merges into one.

Shape legend: N sequences, S tokens of a row, H heads, d head size, D hidden size.
"""

import math

import numpy as np

from skxlmr.export._graphs.graph import Graph

LOWEST = float(np.finfo(np.float32).min)


def additive_mask(graph: Graph, attention_mask: str) -> str:
    """What is added to scores (N, H, S, S): 0 for tokens, the lowest number for padding."""
    mask = graph.axes("Unsqueeze", graph.axes("Unsqueeze", attention_mask, 1), 2)
    hidden = graph.node("Sub", graph.constant(1), graph.cast(mask, np.float32))
    return graph.node("Mul", hidden, graph.constant(LOWEST))


def causal_mask(graph: Graph, attention_mask: str) -> str:
    """The same for the tokens after each one, (S, S)."""
    places = places_of(graph, attention_mask)
    later = graph.node("Less", graph.axes("Unsqueeze", places, 1), graph.axes("Unsqueeze", places, 0))
    return graph.node("Mul", graph.cast(later, np.float32), graph.constant(LOWEST))


def places_of(graph: Graph, rows: str) -> str:
    """Places of the tokens of a row, (S,), of a value (N, S)."""
    zero, one = graph.constant(0, np.int64), graph.constant(1, np.int64)
    return graph.node("Range", zero, graph.size(rows, 1), one)


def places_like(graph: Graph, rows: str) -> str:
    """The same for each row, (N, S): of the very shape of the rows, which ONNX Runtime must know to merge what follows."""
    one = graph.constant(1, np.int64)
    ones = graph.node("Add", graph.node("Sub", rows, rows), one)
    return graph.node("CumSum", ones, one, exclusive=1)


def attend(graph: Graph, q: str, k: str, v: str, mask: str | None, n_heads: int, width: int) -> str:
    """Context (N, S, D) of projections (N, S, D)."""
    head_size = width // n_heads
    split = graph.constant([0, 0, n_heads, head_size], np.int64)

    def heads(x: str, axes: list[int]) -> str:
        return graph.node("Transpose", graph.node("Reshape", x, split), perm=axes)

    scores = graph.node("MatMul", heads(q, [0, 2, 1, 3]), heads(k, [0, 2, 3, 1]))
    scores = graph.node("Div", scores, graph.constant(math.sqrt(head_size)))
    if mask is not None:
        scores = graph.node("Add", scores, mask)
    context = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), heads(v, [0, 2, 1, 3]))
    joined = graph.node("Transpose", context, perm=[0, 2, 1, 3])
    return graph.node("Reshape", joined, graph.constant([0, 0, width], np.int64))
