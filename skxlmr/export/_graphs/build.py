"""The whole graph of a model: encoder, head, vector of a text."""

from typing import Any

from skxlmr.export._graphs.encoders import ROWS, encode
from skxlmr.export._graphs.features import Features, add_features
from skxlmr.export._graphs.heads import HEADS, add_word_logits
from skxlmr.export._graphs.precisions.weights import Weights
from skxlmr.export._graphs.xlm import encode_xlm


def build(
    weights: Weights, config: Any, task: str | None, features: Features | None, takes_positions: bool = False
) -> None:
    """Fill the graph of the weights.

    Parameters
    ----------
    weights : Weights
        Of an empty graph.
    config : config of a family
    task : str or None
        The head, by the end of Hugging Face's names: a key of ``HEADS``. It adds ``logits``, or ``start_logits`` and
        ``end_logits``.
    features : Features or None
        How vectors of texts are made. They add ``last_hidden_state`` (N, S, D), the token vectors of the highest layer that
        they need, and ``sentence_embedding`` (N, features).
    takes_positions : bool
        Whether the positions of tokens are an input; for the original XLM, whose second texts may count their own.
    """
    has_words = task is not None and HEADS[task] is add_word_logits
    weights.projects_words = has_words and config.tie_word_embeddings
    n_layers = config.num_hidden_layers
    if task is None and features is not None:
        n_layers = max(features.layers)
    if config.model_type == "xlm":
        encoded = encode_xlm(weights, config, n_layers, takes_positions)
    else:
        encoded = encode(weights, config, n_layers)
    if task is not None:
        HEADS[task](weights, config, encoded)
    if features is not None:
        weights.graph.output("last_hidden_state", encoded.last, (*ROWS, config.hidden_size))
        weights.graph.output(
            "sentence_embedding", add_features(weights, config, encoded, features), ("batch", "features")
        )
