"""The encoders of XLM-RoBERTa and those that share its layers: BERT, DistilBERT and XLM-RoBERTa-XL.

Shape legend: N sequences, S tokens of a row, D hidden size.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skxlmr.export._graphs.attention import additive_mask, attend, causal_mask, places_like
from skxlmr.export._graphs.graph import Graph
from skxlmr.export._graphs.precisions.weights import Weights

ROWS = ("batch", "sequence")


@dataclass(frozen=True)
class Encoded:
    """What an encoder adds to a graph.

    Attributes
    ----------
    states : dict of int to str
        Token vectors (N, S, D) after each number of layers.
    attention_mask : str
        (N, S), 1 for tokens.
    input_ids : str
        (N, S).
    """

    states: dict[int, str]
    attention_mask: str
    input_ids: str

    @property
    def last(self) -> str:
        """Token vectors after the last layer that is run."""
        return self.states[max(self.states)]


@dataclass(frozen=True)
class LayerNames:
    """Names of the parts of a layer, after that of the layer."""

    query: str = "attention.self.query"
    key: str = "attention.self.key"
    value: str = "attention.self.value"
    attended: str = "attention.output.dense"
    attended_norm: str = "attention.output.LayerNorm"
    wide: str = "intermediate.dense"
    narrow: str = "output.dense"
    output_norm: str = "output.LayerNorm"


OF_XL = LayerNames(attended_norm="attention.self_attn_layer_norm", output_norm="LayerNorm")
OF_DISTILBERT = LayerNames(
    *("attention.q_lin", "attention.k_lin", "attention.v_lin", "attention.out_lin", "sa_layer_norm"),
    *("ffn.lin1", "ffn.lin2", "output_layer_norm"),
)


def encode(weights: Weights, config: Any, n_layers: int) -> Encoded:
    """Add the encoder of a config, with its first layers."""
    graph, prefix, family = weights.graph, config.base_prefix, config.model_type
    input_ids, attention_mask = (graph.input(name, ROWS) for name in ("input_ids", "attention_mask"))
    with graph.scope(prefix):
        with graph.scope("embeddings"):
            x = _embed(weights, config, input_ids)
        mask = additive_mask(graph, attention_mask)
        if getattr(config, "is_decoder", False):
            mask = graph.node("Min", mask, causal_mask(graph, attention_mask))
        states = {0: x}
        is_distilbert, is_xl = family == "distilbert", family == "xlm-roberta-xl"
        stack = f"{prefix}.transformer" if is_distilbert else f"{prefix}.encoder"
        names = OF_DISTILBERT if is_distilbert else OF_XL if is_xl else LayerNames()
        for i in range(n_layers):
            with graph.scope(f"layer.{i}"):
                run = _norm_first if is_xl else _norm_last
                x = run(weights, config, f"{stack}.layer.{i}.", names, x, mask)
            if is_xl and i == config.num_hidden_layers - 1:
                x = weights.norm(x, f"{stack}.LayerNorm", config.layer_norm_eps)
            states[i + 1] = x
    return Encoded(states, attention_mask, input_ids)


def _embed(weights: Weights, config: Any, input_ids: str) -> str:
    """Input of the lowest layer (N, S, D)."""
    graph, start = weights.graph, f"{config.base_prefix}.embeddings."
    from_zero = config.base_prefix != "roberta"
    x = weights.words(f"{start}word_embeddings", input_ids)
    if f"{start}token_type_embeddings.weight" in weights:
        types = graph.input("token_type_ids", ROWS) if has_token_types(config) else graph.constant(0, np.int64)
        x = graph.node("Add", x, weights.rows(f"{start}token_type_embeddings", types))
    positions = places_like(graph, input_ids) if from_zero else _positions(graph, input_ids, config.pad_token_id)
    x = graph.node("Add", x, weights.rows(f"{start}position_embeddings", positions))
    if f"{start}LayerNorm.weight" in weights:
        x = weights.norm(x, f"{start}LayerNorm", config.layer_norm_eps)
    return x


def has_token_types(config: Any) -> bool:
    """Whether the second text of a pair has a token type of its own."""
    return config.model_type == "bert" and config.type_vocab_size > 1


def _positions(graph: Graph, input_ids: str, padding: int) -> str:
    """Positions that count the tokens from after the padding index; padding itself has that index."""
    is_padding = graph.node("Equal", input_ids, graph.constant(padding, np.int64))
    mask = graph.cast(graph.node("Not", is_padding), np.int64)
    counted = graph.node("Mul", graph.node("CumSum", mask, graph.constant(1, np.int64)), mask)
    return graph.node("Add", counted, graph.constant(padding, np.int64))


def _attended(weights: Weights, config: Any, start: str, names: LayerNames, x: str, mask: str) -> str:
    q, k, v = weights.projections(x, start + names.query, start + names.key, start + names.value)
    context = attend(weights.graph, q, k, v, mask, config.num_attention_heads, config.hidden_size)
    return weights.dense(context, start + names.attended)[0]


def _fed_forward(weights: Weights, config: Any, start: str, names: LayerNames, x: str) -> str:
    (wide,) = weights.dense(x, start + names.wide, activation=config.hidden_act)
    return weights.dense(wide, start + names.narrow)[0]


def _norm_last(weights: Weights, config: Any, start: str, names: LayerNames, x: str, mask: str) -> str:
    """A layer whose halves end with a norm."""
    graph, eps = weights.graph, config.layer_norm_eps
    x = graph.node("Add", _attended(weights, config, start, names, x, mask), x)
    x = weights.norm(x, start + names.attended_norm, eps)
    x = graph.node("Add", _fed_forward(weights, config, start, names, x), x)
    return weights.norm(x, start + names.output_norm, eps)


def _norm_first(weights: Weights, config: Any, start: str, names: LayerNames, x: str, mask: str) -> str:
    """A layer whose halves begin with a norm."""
    graph, eps = weights.graph, config.layer_norm_eps
    normed = weights.norm(x, start + names.attended_norm, eps)
    x = graph.node("Add", _attended(weights, config, start, names, normed, mask), x)
    normed = weights.norm(x, start + names.output_norm, eps)
    return graph.node("Add", _fed_forward(weights, config, start, names, normed), x)
