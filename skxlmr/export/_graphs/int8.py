"""Weights in 8 bits, a quarter of the bytes, and products of whole numbers.

A matrix is rounded to 8 bits per output, the inputs of a product per token, both symmetrically: the largest magnitude of a row
becomes 127. The product is exact in 32 bits; all else is float32. So the output of a token depends on the input of that token
alone; ``DynamicQuantizeLinear``, which has one scale for a whole batch, would make it depend on its neighbours.

The inputs are unsigned, the signed numbers plus 128: ONNX Runtime's kernels for signed ones are many times slower.
"""

from collections.abc import Iterator

import numpy as np

from skxlmr.export._graphs.weights import Weights, row_ranges

LEAST = 1e-30  # a row of zeros has a scale too


class Int8Weights(Weights):
    """Matrices of the encoder and word embeddings in int8, with a scale for each output or word; heads in float32."""

    precision = "int8"

    def words(self, name: str, ids: str) -> str:
        """Word embeddings (N, S, D) of ids (N, S)."""
        graph, weight = self.graph, f"{name}.weight"
        whole = graph.cast(graph.node("Gather", self._rounded(weight), ids, axis=0), np.float32)
        scales = graph.node("Gather", self._scales(weight), ids, axis=0)
        return graph.node("Mul", whole, graph.axes("Unsqueeze", scales, -1))

    def vocabulary(self, x: str, weight: str, bias: str) -> str:
        """Logits over the vocabulary, (N, S, V), of (N, S, D)."""
        matrix = self.graph.node("Transpose", self._rounded(weight), perm=[1, 0])  # ONNX Runtime does it once
        return self.graph.node("Add", self._scaled(x, matrix, weight), self.plain(bias))

    def _product(self, x: str, name: str) -> str:
        weight = f"{name}.weight"
        shape = self.shapes[weight][::-1]

        def pieces() -> Iterator[np.ndarray]:
            yield np.ascontiguousarray(rounded(self.array(weight))[0].T)

        return self._scaled(x, self.graph.weight(weight, shape, np.int8, pieces), weight)

    def _scaled(self, x: str, matrix: str, weight: str) -> str:
        """The product of (N, S, D) with a rounded matrix (D, E), in float32."""
        graph = self.graph
        whole, scale = self._once(x, self._rounded_tokens)
        product = graph.node("MatMulInteger", whole, matrix, graph.constant(128, np.uint8))
        by_token = graph.node("Mul", graph.cast(product, np.float32), scale)
        return graph.node("Mul", by_token, self._scales(weight))

    def _rounded_tokens(self, x: str) -> tuple[str, str]:
        """Tokens in whole numbers from 1 to 255, and what each of them is multiplied by to give it back."""
        graph = self.graph
        largest = graph.axes("ReduceMax", graph.node("Abs", x), -1, keepdims=1)
        largest = graph.node("Max", largest, graph.constant(LEAST))
        scaled = graph.node("Mul", x, graph.node("Div", graph.constant(127), largest))
        shifted = graph.node("Add", graph.node("Round", scaled), graph.constant(128))
        return graph.cast(shifted, np.uint8), graph.node("Div", largest, graph.constant(127))

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
