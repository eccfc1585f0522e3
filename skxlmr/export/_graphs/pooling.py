"""Token vectors become one vector of a sequence, in each of the ways of sentence encoders.

Shape legend: N sequences, S tokens of a row, D hidden size.
"""

import numpy as np

from skxlmr.export._graphs.attention import LOWEST, places_of
from skxlmr.export._graphs.graph import Graph

POOLINGS = ("mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens")


class Pooling:
    """The tokens of a batch that are pooled.

    Parameters
    ----------
    graph : Graph
    attention_mask : str
        (N, S), 1 for tokens, which come before the padding.
    n_skipped : int
        First tokens of each sequence that are left out; the last one never is.
    """

    def __init__(self, graph: Graph, attention_mask: str, n_skipped: int = 0):
        self.graph = graph
        with graph.scope("pooling"):
            self.places_S = places_of(graph, attention_mask)
            one, n_skipped_1 = graph.constant([1], np.int64), graph.constant([n_skipped], np.int64)
            numbers = graph.node("Mul", attention_mask, graph.node("Add", self.places_S, one))
            self.last_N = graph.node("ArgMax", numbers, axis=1, keepdims=0)
            self.first_N = graph.node("Min", self.last_N, n_skipped_1)
            if n_skipped:
                later = graph.node("GreaterOrEqual", self.places_S, graph.axes("Unsqueeze", self.first_N, 1))
                attention_mask = graph.node("Mul", attention_mask, graph.cast(later, np.int64))
            self.mask_NS1 = graph.axes("Unsqueeze", graph.cast(attention_mask, np.float32), 2)
            self._n_skipped = n_skipped

    def pooled(self, x: str, word: str) -> str:
        """Vectors (N, D) of token vectors (N, S, D), by a word of ``POOLINGS``."""
        if word not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}, got {word!r}")
        with self.graph.scope("pooling"):
            if word == "cls":
                return self._cls(x)
            if word == "lasttoken":
                return self._at(x, self.last_N)
            return self._max(x) if word == "max" else self._mean(x, word)

    def _cls(self, x: str) -> str:
        return first_token(self.graph, x) if not self._n_skipped else self._at(x, self.first_N)

    def _at(self, x: str, places_N: str) -> str:
        return self.graph.node("GatherND", x, self.graph.axes("Unsqueeze", places_N, 1), batch_dims=1)

    def _max(self, x: str) -> str:
        graph = self.graph
        hidden = graph.node("Mul", graph.node("Sub", graph.constant(1), self.mask_NS1), graph.constant(LOWEST))
        return graph.axes("ReduceMax", graph.node("Add", x, hidden), 1, keepdims=0)

    def _mean(self, x: str, word: str) -> str:
        graph, weights = self.graph, self.mask_NS1
        if word == "weightedmean":  # later tokens count more
            numbers = graph.node("Add", graph.cast(self.places_S, np.float32), graph.constant(1))
            weights = graph.node("Mul", weights, graph.axes("Unsqueeze", numbers, 1))
        total = graph.axes("ReduceSum", graph.node("Mul", x, weights), 1, keepdims=0)
        count = graph.node("Max", graph.axes("ReduceSum", weights, 1, keepdims=0), graph.constant(1))
        if word == "mean_sqrt_len_tokens":  # the sum over the square root of the length
            count = graph.node("Sqrt", count)
        return graph.node("Div", total, count)


def first_token(graph: Graph, x: str) -> str:
    """Vectors (N, D) of the first tokens."""
    return graph.node("Gather", x, graph.constant(0, np.int64), axis=1)
