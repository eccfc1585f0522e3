"""The vector of a text: pooled token vectors, and the layers of a sentence encoder after them.

Shape legend: N sequences, S tokens of a row, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from skxlmr.export._graphs.activations import activate_sentence
from skxlmr.export._graphs.encoders import Encoded
from skxlmr.export._graphs.graph import Graph
from skxlmr.export._graphs.pooling import Pooling, first_token
from skxlmr.export._graphs.precisions.weights import Weights

SMALLEST = 1e-12  # norm that a vector is divided by, as in PyTorch
LAYER_NORM_EPS = 1e-5  # PyTorch's


@dataclass(frozen=True)
class Features:
    """How the vector of a text is made.

    Attributes
    ----------
    pooling : tuple of str
        Words of :data:`skxlmr.nn.sentence.pooling.POOLINGS`; their vectors stand side by side.
    layers : tuple of int
        Numbers of layers whose output is pooled; their vectors stand side by side.
    n_skipped : int
        First tokens of each sequence that are not pooled.
    further : tuple
        Layers after the pooling (:data:`skxlmr.nn.sentence.SentenceLayer`).
    normalize : bool
        Whether vectors are scaled to unit length at the end.
    truncate_dim : int or None
        Number of the first features that are kept.
    normalize_again : bool
        Whether what is kept is scaled to unit length.
    """

    pooling: tuple[str, ...]
    layers: tuple[int, ...]
    n_skipped: int = 0
    further: tuple[Any, ...] = ()
    normalize: bool = False
    truncate_dim: int | None = None
    normalize_again: bool = False


def add_features(weights: Weights, config: Any, encoded: Encoded, how: Features) -> str:
    """Add the vector of each text, (N, D)."""
    graph = weights.graph
    pooling = Pooling(graph, encoded.attention_mask, how.n_skipped)
    vectors = []
    for layer in how.layers:
        for word in how.pooling:
            x = encoded.states[layer]
            vectors.append(pooler(weights, config, x) if word == "pooler" else pooling.pooled(x, word))
    x = vectors[0] if len(vectors) == 1 else graph.node("Concat", *vectors, axis=1)
    with graph.scope("sentence"):
        for i, layer in enumerate(how.further):
            x = _further(weights, x, f"sentence.{i}", layer)
        if how.normalize:
            x = _normalized(graph, x)
        if how.truncate_dim is not None:
            x = _first(graph, x, how.truncate_dim)
            x = _normalized(graph, x) if how.normalize_again else x
    return x


def pooler(weights: Weights, config: Any, x: str) -> str:
    """The checkpoint's own pooler: a dense layer and tanh on the first token."""
    with weights.graph.scope("pooler"):
        return weights.head(first_token(weights.graph, x), f"{config.base_prefix}.pooler.dense", "tanh")


def _further(weights: Weights, x: str, name: str, layer: Any) -> str:
    """One layer after the pooling."""
    graph, kind = weights.graph, type(layer).__name__
    if kind == "Dropout":
        return x
    if kind == "Normalize":
        return _normalized(graph, x)
    if kind == "LayerNorm":
        return weights.norm(x, f"{name}.norm", LAYER_NORM_EPS)
    output = activate_sentence(graph, weights.head(x, f"{name}.linear"), layer.activation)
    if not layer.residual:
        return output
    return graph.node("Add", output, weights.head(x, f"{name}.residual") if f"{name}.residual.weight" in weights else x)


def _normalized(graph: Graph, x: str) -> str:
    squares = graph.axes("ReduceSum", graph.node("Mul", x, x), 1, keepdims=1)
    return graph.node("Div", x, graph.node("Max", graph.node("Sqrt", squares), graph.constant(SMALLEST)))


def _first(graph: Graph, x: str, n: int) -> str:
    numbers: Sequence[list[int]] = ([0], [n], [1])
    return graph.node("Slice", x, *(graph.constant(number, np.int64) for number in numbers))
