"""Weights in 8 bits, a quarter of the bytes, and products of whole numbers.

A matrix is rounded to 8 bits per output, the inputs of a product per token, both symmetrically: the largest magnitude of a row
becomes 127. Word embeddings have a scale for each 64 numbers. The product is exact in 32 bits; all else is float32. So the
output of a token depends on the input of that token alone; ``DynamicQuantizeLinear``, which has one scale for a whole batch,
would make it depend on its neighbours.

The inputs are unsigned, the signed numbers plus 128: ONNX Runtime's kernels for signed ones are many times slower. What follows
an activation that never falls below some number is counted from there, in twice as many steps, and the sum of a row of weights
times that number is added.

Queries, keys and values, which the softmax and the sum over a text carry furthest, take their tokens in 16 bits: the rest that
8 bits leave is multiplied too.

Shape legend: N sequences, S tokens of a row, T tokens of all rows with padding, D inputs, E outputs, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

from skxlmr.export._graphs.precisions.weights import Weights, row_ranges

LEAST = 1e-30  # a row of zeros has a scale too
BLOCK = 64  # numbers of a word embedding that have a scale of their own
ZERO = 128  # what stands for 0 among unsigned numbers
FINER = 254  # rounding takes half of 1 at most, which then becomes 127
FLOORS = {
    "gelu": -0.17,
    "gelu_new": -0.1701,
    "gelu_pytorch_tanh": -0.1701,
    "relu": 0.0,
}  # below what activations return


class Int8Weights(Weights):
    """Matrices of the encoder and word embeddings in int8, with a scale for each output or word; heads in float32."""

    precision = "int8"

    def __init__(self, *args: Any):
        super().__init__(*args)
        self._floors: dict[str, float] = {}  # of values that have one

    def words(self, name: str, ids: str) -> str:
        """Word embeddings (N, S, D) of ids (N, S)."""
        graph, weight = self.graph, f"{name}.weight"
        width = self.shapes[weight][1]
        size = (
            BLOCK if width % BLOCK == 0 and not self.projects_words else width
        )  # the projection has one for each word
        whole = graph.cast(graph.node("Gather", self._rounded(weight, size), ids, axis=0), np.float32)
        scales = graph.node("Gather", self._scales(weight, size), ids, axis=0)
        if size == width:
            return graph.node("Mul", whole, graph.axes("Unsqueeze", scales, -1))
        blocks = graph.node("Reshape", whole, graph.constant([0, 0, width // size, size], np.int64))
        scaled = graph.node("Mul", blocks, graph.axes("Unsqueeze", scales, -1))
        return graph.node("Reshape", scaled, graph.constant([0, 0, width], np.int64))

    def dense(self, x: str, *names: str, activation: str = "none") -> list[str]:
        """Dense layers of the encoder with the same input (N, S, D): their outputs (N, S, E) after the activation."""
        return [self._dense(x, name, activation) for name in names]

    def projections(self, x: str, query: str, key: str, value: str) -> list[str]:
        """Queries, keys and values (N, S, D). Most of the error comes from here: tokens are rounded more finely."""
        return [self._dense(x, name, "none", fine=True) for name in (query, key, value)]

    def vocabulary(self, x: str, weight: str, bias: str) -> str:
        """Logits over the vocabulary, (N, S, V), of (N, S, D)."""
        matrix = self.graph.node(
            "Transpose", self._rounded(weight, self.shapes[weight][1]), perm=[1, 0]
        )  # ONNX Runtime does it once
        logits = self.graph.node("Add", self._whole_product(x, matrix, weight), self.plain(bias))
        return self._unflatten(logits, x, self.shapes[weight][0])

    def _dense(self, x: str, name: str, activation: str, fine: bool = False) -> str:
        weight, floor = f"{name}.weight", self._floors.get(x)
        product = self._whole_product(x, self._turned(weight), weight, fine)
        if floor:
            product = self.graph.node("Add", product, self._at_floor(weight, floor))
        made = self._unflatten(self._finished(product, name, activation), x, self.shapes[weight][0])
        if activation in FLOORS:
            self._floors[made] = FLOORS[activation]
        return made

    def _whole_product(self, x: str, matrix: str, weight: str, fine: bool = False) -> str:
        """The product (T, E), in float32, of the tokens of (N, S, D) with a rounded matrix (D, E)."""
        graph = self.graph
        tokens, scale_T, whole = self._once(x, lambda: self._rounded_tokens(x, self.shapes[weight][1]))
        if fine:
            (both,) = self._once(f"{x} in two steps", lambda: (self._with_rest(tokens, scale_T, whole),))
            first, rest = graph.halves(self._multiplied(both, matrix, ZERO), 0)
            product = graph.node("Add", first, graph.node("Div", rest, graph.constant(FINER)))
        else:
            product = self._multiplied(whole, matrix, 0 if x in self._floors else ZERO)
        by_token = graph.node("Mul", product, graph.axes("Unsqueeze", scale_T, 1))
        return graph.node("Mul", by_token, self._scales(weight, self.shapes[weight][1]))

    def _multiplied(self, whole: str, matrix: str, zero: int) -> str:
        product = self.graph.node("MatMulInteger", whole, matrix, self.graph.constant(zero, np.uint8))
        return self.graph.cast(product, np.float32)

    def _rounded_tokens(self, x: str, width: int) -> tuple[str, str, str]:
        """The tokens (T, D), what each is divided by (T,), and the rounded quotients plus 128, whole numbers from 1 to 255.

        Tokens that have a floor are counted from there, and their quotients are whole numbers from 0 to 255.
        """
        graph, floor = self.graph, self._floors.get(x)
        tokens = graph.node("Reshape", x, graph.constant([-1, width], np.int64))
        if floor is not None:
            tokens = graph.node("Sub", tokens, graph.constant(floor)) if floor else tokens
            largest = graph.node("Max", graph.axes("ReduceMax", tokens, 1, keepdims=0), graph.constant(LEAST))
            scale_T = graph.node("Div", largest, graph.constant(255))
            if floor:  # a whole number of steps below 0: most inputs are next to 0, and would all be off by the same
                n_steps = graph.node("Floor", graph.node("Div", graph.constant(-floor), scale_T))
                whole_steps = graph.node("Div", graph.constant(-floor), graph.node("Max", n_steps, graph.constant(1)))
                scale_T = graph.node("Max", scale_T, whole_steps)
            return tokens, scale_T, self._quotients(tokens, scale_T, 0)
        highest, lowest = (graph.axes(kind, tokens, 1, keepdims=0) for kind in ("ReduceMax", "ReduceMin"))
        largest = graph.node("Max", highest, graph.node("Neg", lowest), graph.constant(LEAST))
        scale_T = graph.node("Div", largest, graph.constant(127))
        return tokens, scale_T, self._quotients(tokens, scale_T, ZERO)

    def _with_rest(self, tokens: str, scale_T: str, whole: str) -> str:
        """The rounded tokens and what rounding took from them, (2 T, D), each of these worth a 254th of one of the first.

        One product takes both: a matrix that two products share is one that ONNX Runtime cannot make unsigned.
        """
        graph = self.graph
        signed = graph.node("Sub", graph.cast(whole, np.float32), graph.constant(ZERO))
        lost = graph.node("Sub", tokens, graph.node("Mul", signed, graph.axes("Unsqueeze", scale_T, 1)))
        rest = self._quotients(lost, graph.node("Div", scale_T, graph.constant(FINER)), ZERO)
        return graph.node("Concat", whole, rest, axis=0)

    def _quotients(self, tokens: str, scale_T: str, zero: int) -> str:
        (zeros,) = self._once(f"zeros of {zero}", lambda: (self._zeros(scale_T, zero),))
        return self.graph.node("QuantizeLinear", tokens, scale_T, zeros, axis=0)

    def _zeros(self, scale: str, zero: int) -> str:
        """The number that stands for 0, for each token (T,)."""
        return self.graph.node("Expand", self.graph.constant(zero, np.uint8), self.graph.node("Shape", scale))

    def _at_floor(self, name: str, floor: float) -> str:
        """What a matrix (E, D) makes of a token that is at the floor everywhere, (E,)."""

        def pieces() -> Iterator[np.ndarray]:
            whole_ED, scale_E = rounded(self.array(name))
            yield (whole_ED.sum(axis=1, dtype=np.int64) * scale_E * floor).astype(np.float32)

        return self.graph.weight(f"{name}_at_floor", self.shapes[name][:1], np.float32, pieces)

    def _turned(self, name: str) -> str:
        """A matrix (E, D) as (D, E)."""

        def pieces() -> Iterator[np.ndarray]:
            yield rounded(self.array(name))[0].T

        return self.graph.weight(name, self.shapes[name][::-1], np.int8, pieces)

    def _rounded(self, name: str, size: int) -> str:
        """A matrix in the order of the checkpoint, of which each so many numbers of a row have a scale."""
        shape = self.shapes[name]

        def pieces() -> Iterator[np.ndarray]:
            for rows in row_ranges(shape):
                part = self.array(name, rows)
                yield rounded(part.reshape(-1, size))[0].reshape(part.shape)

        return self.graph.weight(name, shape, np.int8, pieces)

    def _scales(self, name: str, size: int) -> str:
        """What these numbers of a row of a matrix are multiplied by; one for each row if they are all of it."""
        n_rows, width = self.shapes[name]

        def pieces() -> Iterator[np.ndarray]:
            for rows in row_ranges((n_rows, width)):
                yield rounded(self.array(name, rows).reshape(-1, size))[1]

        shape = (n_rows,) if size == width else (n_rows, width // size)
        return self.graph.weight(f"{name}_scale", shape, np.float32, pieces)


def rounded(matrix_ED: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows in whole numbers from -127 to 127, and the number (E,) that each row is multiplied by to give it back."""
    largest_E = np.maximum(np.abs(matrix_ED).max(axis=1), np.float32(LEAST))
    whole_ED = np.rint(matrix_ED * (np.float32(127) / largest_E)[:, None]).astype(np.int8)
    return whole_ED, largest_E / np.float32(127)
