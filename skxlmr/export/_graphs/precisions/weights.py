"""The weights in the graph, in float32; the layers that use them.

A weight keeps Hugging Face's name. Matrices of dense layers are stored as the operator ``MatMul`` takes them, with an input in
each row, which ONNX Runtime looks for where it merges operators; all others as in the checkpoint.

Shape legend: N sequences, S tokens of a row, D inputs, E outputs, V vocabulary.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from skxlmr.export._graphs.activations import activate
from skxlmr.export._graphs.graph import Graph, Pieces

ROWS = 16_384  # of a large matrix that are in memory at once


class Weights:
    """Layers of a graph with the weights of a checkpoint, computed and stored in float32.

    Parameters
    ----------
    graph : Graph
        To which the layers are added.
    shapes : mapping of str to tuple of int
        Shapes of the weights by their names.
    read : function of (name, rows)
        Gives rows of a weight in float32.
    """

    precision = "float32"
    projects_words = False  # whether the word embeddings are the matrix of the projection on the vocabulary

    def __init__(self, graph: Graph, shapes: Mapping[str, tuple[int, ...]], read: Callable[[str, slice], np.ndarray]):
        self.graph, self.shapes, self._read = graph, dict(shapes), read
        self._made: dict[str, tuple[str, ...]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.shapes

    # Layers -----------------------------------------------------------------------------------------------------------

    def dense(self, x: str, *names: str, activation: str = "none") -> list[str]:
        """Dense layers of the encoder with the same input (N, S, D): their outputs (N, S, E) after the activation."""
        return [self._finished(self._product(x, name), name, activation) for name in names]

    def projections(self, x: str, query: str, key: str, value: str) -> list[str]:
        """Queries, keys and values (N, S, D) of the encoder's attention."""
        return self.dense(x, query, key, value)

    def head(self, x: str, name: str, activation: str = "none") -> str:
        """A dense layer of a head, always in float32: (..., E) of (..., D)."""
        product = self.graph.node("MatMul", x, self._transposed(f"{name}.weight", np.float32))
        return self._finished(product, name, activation)

    def norm(self, x: str, name: str, eps: float) -> str:
        """Layer normalisation over the last axis."""
        scale, shift = self.plain(f"{name}.weight"), self.plain(f"{name}.bias")
        return self.graph.node("LayerNormalization", x, scale, shift, axis=-1, epsilon=eps)

    def rows(self, name: str, ids: str) -> str:
        """Rows of a small matrix, in float32: (..., D) of whole numbers (...)."""
        return self.graph.node("Gather", self.plain(f"{name}.weight"), ids, axis=0)

    def words(self, name: str, ids: str) -> str:
        """Word embeddings (N, S, D) of ids (N, S)."""
        return self.rows(name, ids)

    def vocabulary(self, x: str, weight: str, bias: str) -> str:
        """Logits over the vocabulary, (N, S, V), of (N, S, D): the product with a matrix (V, D), often the word embeddings."""
        graph = self.graph
        n_rows, width = self.shapes[weight]
        flat = graph.node("Reshape", x, graph.constant([-1, width], np.int64))
        logits = graph.node("Gemm", flat, self.plain(weight), self.plain(bias), transB=1)
        return self._unflatten(logits, x, n_rows)

    def plain(self, name: str) -> str:
        """A weight as it is, in float32."""
        return self.graph.weight(name, self.shapes[name], np.float32, self._pieces(name, np.float32))

    # What precisions change -------------------------------------------------------------------------------------------

    def _product(self, x: str, name: str) -> str:
        """A dense layer of the encoder without its bias, in float32."""
        return self.graph.node("MatMul", x, self._transposed(f"{name}.weight", np.float32))

    # Parts ------------------------------------------------------------------------------------------------------------

    def _finished(self, product: str, name: str, activation: str) -> str:
        if f"{name}.bias" in self:
            product = self.graph.node("Add", product, self.plain(f"{name}.bias"))
        return activate(self.graph, product, activation)

    def _once(self, key: str, make: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
        """What several layers share, such as those with the same input."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _unflatten(self, x: str, like: str, width: int) -> str:
        """Give the tokens (T, width) the first two axes of another value; they are those of all values with tokens."""

        def shape() -> tuple[str]:
            sizes = (graph.constant([0], np.int64), graph.constant([2], np.int64))
            (first,) = self._once("rows", lambda: (graph.node("Slice", graph.node("Shape", like), *sizes),))
            return (graph.node("Concat", first, graph.constant([width], np.int64), axis=0),)

        graph = self.graph
        return graph.node("Reshape", x, *self._once(f"rows of {width}", shape))

    def _transposed(self, name: str, dtype: type) -> str:
        """A matrix with inputs in rows."""
        shape = self.shapes[name][::-1]

        def pieces() -> Iterator[np.ndarray]:
            yield np.ascontiguousarray(_as(self.array(name).T, dtype))

        return self.graph.weight(name, shape, dtype, pieces)

    def _pieces(self, name: str, dtype: type) -> Pieces:
        shape = self.shapes[name]

        def pieces() -> Iterator[np.ndarray]:
            for rows in row_ranges(shape):
                yield _as(self.array(name, rows), dtype)

        return pieces

    def array(self, name: str, rows: slice = slice(None)) -> np.ndarray:
        """A weight, or some of its rows, in float32."""
        return self._read(name, rows)


def _as(array: np.ndarray, dtype: type) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is looked at when it is written
        return array.astype(dtype, copy=False)


def row_ranges(shape: Sequence[int]) -> list[slice]:
    """Ranges of rows that together are the whole array."""
    n_rows = shape[0] if shape else 1
    return [slice(first, min(first + ROWS, n_rows)) for first in range(0, n_rows, ROWS)]
