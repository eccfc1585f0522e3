"""The encoder of the original XLM, and its summary of a sequence.

Shape legend: N sequences, S tokens of a row, D hidden size.
"""

from typing import Any

from skxlmr.export._graphs.activations import activate
from skxlmr.export._graphs.attention import additive_mask, attend, causal_mask, places_like
from skxlmr.export._graphs.encoders import ROWS, Encoded
from skxlmr.export._graphs.pooling import Pooling
from skxlmr.export._graphs.precisions.weights import Weights

START = "transformer."


def encode_xlm(weights: Weights, config: Any, n_layers: int, takes_positions: bool = False) -> Encoded:
    """Add the encoder, with its first layers; positions are an input, or the places in a row.

    Unlike the reference's, vectors of padding are no zeros: nothing sees them.
    """
    graph, eps = weights.graph, config.layer_norm_eps
    input_ids, attention_mask = (graph.input(name, ROWS) for name in ("input_ids", "attention_mask"))
    with graph.scope("transformer"):
        with graph.scope("embeddings"):
            x = weights.words(f"{START}embeddings", input_ids)
            positions = graph.input("position_ids", ROWS) if takes_positions else places_like(graph, input_ids)
            x = graph.node("Add", x, weights.rows(f"{START}position_embeddings", positions))
            if config.has_lang_embeddings:
                langs = graph.input("langs", ROWS)
                x = graph.node("Add", x, weights.rows(f"{START}lang_embeddings", langs))
            x = weights.norm(x, f"{START}layer_norm_emb", eps)
        # as in the reference, a causal model attends to the padding before a token too
        mask = (causal_mask if config.causal else additive_mask)(graph, attention_mask)
        states = {0: x}
        for i in range(n_layers):
            with graph.scope(f"layer.{i}"):
                start = f"{START}attentions.{i}."
                q, k, v = weights.projections(x, f"{start}q_lin", f"{start}k_lin", f"{start}v_lin")
                context = attend(graph, q, k, v, mask, config.n_heads, config.emb_dim)
                x = graph.node("Add", x, weights.dense(context, f"{start}out_lin")[0])
                x = weights.norm(x, f"{START}layer_norm1.{i}", eps)
                start, activation = f"{START}ffns.{i}.", "gelu" if config.gelu_activation else "relu"
                (wide,) = weights.dense(x, f"{start}lin1", activation=activation)
                x = graph.node("Add", x, weights.dense(wide, f"{start}lin2")[0])
                x = weights.norm(x, f"{START}layer_norm2.{i}", eps)
            states[i + 1] = x
    return Encoded(states, attention_mask, input_ids)


def summary(weights: Weights, config: Any, encoded: Encoded) -> str:
    """One vector (N, E) of each sequence, as the config says."""
    graph = weights.graph
    pooling = Pooling(graph, encoded.attention_mask)
    word = {"mean": "mean", "first": "cls"}.get(config.summary_type, "lasttoken")
    x = pooling.pooled(encoded.last, word)
    if config.summary_use_proj:
        x = weights.head(x, "sequence_summary.summary")
    return activate(graph, x, config.summary_activation or "none")
