"""Weights in 8 bits, a quarter of the bytes, and products of whole numbers.

A matrix is rounded to 8 bits per output, the inputs of a product per token, both symmetrically: the largest magnitude of a row
becomes 127. The product is exact in 32 bits; all else is float32. So the output of a token depends on the input of that token
alone; ``DynamicQuantizeLinear``, which has one scale for a whole batch, would make it depend on its neighbours.

The inputs are unsigned, the signed numbers plus 128: ONNX Runtime's kernels for signed ones are many times slower.

Shape legend: N sequences, S tokens of a row, T tokens of all rows with padding, D inputs, E outputs, V vocabulary.
"""

from collections.abc import Iterator

import numpy as np

from skxlmr.export._graphs.weights import Weights, row_ranges

LEAST = 1e-30  # a row of zeros has a scale too
ZERO = 128  # what stands for 0 among unsigned numbers


class Int8Weights(Weights):
    """Matrices of the encoder and word embeddings in int8, with a scale for each output or word; heads in float32."""

    precision = "int8"

    def words(self, name: str, ids: str) -> str:
        """Word embeddings (N, S, D) of ids (N, S)."""
        graph, weight = self.graph, f"{name}.weight"
        whole = graph.cast(graph.node("Gather", self._rounded(weight), ids, axis=0), np.float32)
        scales = graph.node("Gather", self._scales(weight), ids, axis=0)
        return graph.node("Mul", whole, graph.axes("Unsqueeze", scales, -1))

    def dense(self, x: str, *names: str, activation: str = "none") -> list[str]:
        """Dense layers of the encoder with the same input (N, S, D): their outputs (N, S, E) after the activation."""
        outputs = []
        for name in names:
            weight = f"{name}.weight"
            product = self._finished(self._whole_product(x, self._turned(weight), weight), name, activation)
            outputs.append(self._unflatten(product, x, self.shapes[weight][0]))
        return outputs

    def vocabulary(self, x: str, weight: str, bias: str) -> str:
        """Logits over the vocabulary, (N, S, V), of (N, S, D)."""
        matrix = self.graph.node("Transpose", self._rounded(weight), perm=[1, 0])  # ONNX Runtime does it once
        logits = self.graph.node("Add", self._whole_product(x, matrix, weight), self.plain(bias))
        return self._unflatten(logits, x, self.shapes[weight][0])

    def _whole_product(self, x: str, matrix: str, weight: str) -> str:
        """The product (T, E), in float32, of the tokens of (N, S, D) with a rounded matrix (D, E)."""
        graph = self.graph
        whole, scale = self._once(x, lambda: self._rounded_tokens(x, self.shapes[weight][1]))
        product = graph.node("MatMulInteger", whole, matrix, graph.constant(ZERO, np.uint8))
        by_token = graph.node("Mul", graph.cast(product, np.float32), scale)
        return graph.node("Mul", by_token, self._scales(weight))

    def _rounded_tokens(self, x: str, width: int) -> tuple[str, str]:
        """Tokens in whole numbers from 1 to 255, (T, D), and what each is multiplied by to give it back, (T, 1)."""
        graph = self.graph
        tokens = graph.node("Reshape", x, graph.constant([-1, width], np.int64))
        highest, lowest = (graph.axes(kind, tokens, 1, keepdims=0) for kind in ("ReduceMax", "ReduceMin"))
        largest = graph.node("Max", highest, graph.node("Neg", lowest), graph.constant(LEAST))
        scale = graph.node("Div", largest, graph.constant(127))
        (zeros,) = self._once("zeros", lambda: (self._zeros(scale),))
        whole = graph.node("QuantizeLinear", tokens, scale, zeros, axis=0)
        return whole, graph.axes("Unsqueeze", scale, 1)

    def _zeros(self, scale: str) -> str:
        """The number that stands for 0, for each token (T,)."""
        return self.graph.node("Expand", self.graph.constant(ZERO, np.uint8), self.graph.node("Shape", scale))

    def _turned(self, name: str) -> str:
        """A matrix (E, D) as (D, E)."""

        def pieces() -> Iterator[np.ndarray]:
            yield rounded(self.array(name))[0].T

        return self.graph.weight(name, self.shapes[name][::-1], np.int8, pieces)

    def _rounded(self, name: str) -> str:
        """A matrix in the order of the checkpoint."""
        shape = self.shapes[name]

        def pieces() -> Iterator[np.ndarray]:
            for rows in row_ranges(shape):
                yield rounded(self.array(name, rows))[0]

        return self.graph.weight(name, shape, np.int8, pieces)

    def _scales(self, name: str) -> str:
        """What each row of a matrix is multiplied by."""
        shape = self.shapes[name]

        def pieces() -> Iterator[np.ndarray]:
            for rows in row_ranges(shape):
                yield rounded(self.array(name, rows))[1]

        return self.graph.weight(f"{name}_scale", shape[:1], np.float32, pieces)


def rounded(matrix_ED: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in whole numbers from -127 to 127, and the number (E,) that each row is multiplied by to give it back."""
    largest_E = np.maximum(np.abs(matrix_ED).max(axis=1), np.float32(LEAST))
    whole_ED = np.rint(matrix_ED * (np.float32(127) / largest_E)[:, None]).astype(np.int8)
    return whole_ED, largest_E / np.float32(127)
