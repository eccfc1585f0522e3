"""The original XLM's head that finds answers by beam search: the best starts, and the best ends of each.

The module is :class:`skxlmr.nn.xlm.answer_search.XLMForQuestionAnswering`. Outputs have the names that Hugging Face gives them,
although ``log_probs`` are probabilities.

Shape legend: N sequences, S tokens of a row, D hidden size, K starts, E ends of a start.
"""

from typing import Any

import numpy as np

from skxlmr.export._graphs.encoders import Encoded
from skxlmr.export._graphs.pooling import Pooling
from skxlmr.export._graphs.precisions.weights import Weights

HEAD = "qa_outputs."


def add_answer_beams(weights: Weights, config: Any, encoded: Encoded) -> None:
    """Add ``start_top_index`` and ``start_top_log_probs`` (N, K), the same of ends (N, E * K), and ``cls_logits`` (N,)."""
    graph, x_NSD = weights.graph, encoded.last
    is_token_NS = graph.node("Greater", encoded.attention_mask, graph.constant(0, np.int64))
    size = graph.axes("Unsqueeze", graph.size(x_NSD, 1), 0)

    def best(logits: str, is_open: str, width: int) -> tuple[str, str, str]:
        """Probabilities along axis 1, the highest of them, and where these are."""
        n_top = graph.node("Min", size, graph.constant([width], np.int64))
        shut = graph.node("Where", is_open, logits, graph.constant(np.finfo(np.float32).min))
        proba = graph.node("Softmax", shut, axis=1)
        highest, places = graph.pair("TopK", proba, n_top, axis=1)
        return proba, highest, places

    with graph.scope("qa_outputs"):
        start_NS = graph.axes("Squeeze", weights.head(x_NSD, f"{HEAD}start_logits.dense"), 2)
        proba_NS, start_proba_NK, starts_NK = best(start_NS, is_token_NS, config.beam[0])
        places = graph.axes("Unsqueeze", starts_NK, 2)
        start_NKD = graph.node("GatherND", x_NSD, places, batch_dims=1)
        # pairs (N, S, K, 2 D) of a token with a start
        counts = [
            graph.axes("Unsqueeze", graph.size(x, axis), 0) for x, axis in ((x_NSD, 0), (x_NSD, 1), (start_NKD, 1))
        ]
        shape = graph.node("Concat", *counts, graph.constant([config.emb_dim], np.int64), axis=0)
        sides = [
            graph.node("Expand", graph.axes("Unsqueeze", x, axis), shape) for x, axis in ((x_NSD, 2), (start_NKD, 1))
        ]
        pairs = weights.head(graph.node("Concat", *sides, axis=3), f"{HEAD}end_logits.dense_0", "tanh")
        pairs = weights.norm(pairs, f"{HEAD}end_logits.LayerNorm", config.layer_norm_eps)
        end_NSK = graph.axes("Squeeze", weights.head(pairs, f"{HEAD}end_logits.dense_1"), 3)
        _, end_proba_NEK, ends_NEK = best(end_NSK, graph.axes("Unsqueeze", is_token_NS, 2), config.beam[1])
        mean_ND = graph.node("MatMul", graph.axes("Unsqueeze", proba_NS, 1), x_NSD)
        last_ND = Pooling(graph, encoded.attention_mask).pooled(x_NSD, "lasttoken")
        both = graph.node("Concat", graph.axes("Squeeze", mean_ND, 1), last_ND, axis=1)
        hidden = weights.head(both, f"{HEAD}answer_class.dense_0", "tanh")
        no_answer_N = graph.axes("Squeeze", weights.head(hidden, f"{HEAD}answer_class.dense_1"), 1)
    flat = graph.constant([0, -1], np.int64)
    graph.output("start_top_log_probs", start_proba_NK, ("batch", "starts"))
    graph.output("start_top_index", starts_NK, ("batch", "starts"), np.int64)
    graph.output("end_top_log_probs", graph.node("Reshape", end_proba_NEK, flat), ("batch", "ends"))
    graph.output("end_top_index", graph.node("Reshape", ends_NEK, flat), ("batch", "ends"), np.int64)
    graph.output("cls_logits", no_answer_N, ("batch",))
