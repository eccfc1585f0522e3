"""Weights in float16: half the bytes. Products of the encoder take half-precision inputs; all else is computed in float32."""

import numpy as np

from skxlmr.export._graphs.precisions.weights import Weights


class HalfWeights(Weights):
    """Matrices of the encoder and word embeddings in float16.

    Norms, softmax, residuals, attention and heads are float32, so that nothing overflows. A runtime without products in
    float16, such as ONNX Runtime on most CPUs, widens the matrices once.
    """

    precision = "float16"

    def words(self, name: str, ids: str) -> str:
        """Word embeddings (N, S, D) of ids (N, S)."""
        return self.graph.cast(self.graph.node("Gather", self._half(f"{name}.weight"), ids, axis=0), np.float32)

    def vocabulary(self, x: str, weight: str, bias: str) -> str:
        """Logits over the vocabulary, (N, S, V), of (N, S, D)."""
        graph = self.graph
        n_rows, width = self.shapes[weight]
        flat = graph.node("Reshape", graph.cast(x, np.float16), graph.constant([-1, width], np.int64))
        product = graph.cast(graph.node("Gemm", flat, self._half(weight), transB=1), np.float32)
        return self._unflatten(graph.node("Add", product, self.plain(bias)), x, n_rows)

    def _product(self, x: str, name: str) -> str:
        (half,) = self._once(x, lambda: (self.graph.cast(x, np.float16),))
        product = self.graph.node("MatMul", half, self._transposed(f"{name}.weight", np.float16))
        return self.graph.cast(product, np.float32)

    def _half(self, name: str) -> str:
        return self.graph.weight(name, self.shapes[name], np.float16, self._pieces(name, np.float16))
