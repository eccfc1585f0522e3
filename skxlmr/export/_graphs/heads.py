"""The heads of all families: what a task makes of the token vectors.

Shape legend: N sequences, S tokens of a row, D hidden size, E outputs, V vocabulary.
"""

from typing import Any

import numpy as np

from skxlmr.export._graphs.encoders import ROWS, Encoded
from skxlmr.export._graphs.features import pooler
from skxlmr.export._graphs.pooling import first_token
from skxlmr.export._graphs.precisions.weights import Weights
from skxlmr.export._graphs.xlm import summary
from skxlmr.export._graphs.xlm_answers import add_answer_beams


def add_sequence_logits(weights: Weights, config: Any, encoded: Encoded) -> None:
    """Add ``logits`` (N, E) of whole texts."""
    graph, x = weights.graph, encoded.last
    with graph.scope("classifier"):
        if config.model_type == "xlm":
            logits = summary(weights, config, encoded)
        elif config.model_type == "bert":
            logits = weights.head(pooler(weights, config, x), "classifier")
        elif config.model_type == "distilbert":
            dense = weights.head(first_token(graph, x), "pre_classifier", "relu")
            logits = weights.head(dense, "classifier")
        else:
            dense = weights.head(first_token(graph, x), "classifier.dense", "tanh")
            logits = weights.head(dense, "classifier.out_proj")
    graph.output("logits", logits, ("batch", _n_outputs(weights, config)))


def _n_outputs(weights: Weights, config: Any) -> int:
    names = ("classifier.out_proj.weight", "classifier.weight", "sequence_summary.summary.weight")
    return next((weights.shapes[name][0] for name in names if name in weights), int(config.hidden_size))


def add_choice_logits(weights: Weights, config: Any, encoded: Encoded) -> None:
    """Add ``logits`` (N, 1), a score of each prompt with one of its choices."""
    graph = weights.graph
    if config.model_type == "distilbert":
        return add_sequence_logits(weights, config, encoded)
    with graph.scope("classifier"):
        if config.model_type == "xlm":
            logits = weights.head(summary(weights, config, encoded), "logits_proj")
        else:
            logits = weights.head(pooler(weights, config, encoded.last), "classifier")
    graph.output("logits", logits, ("batch", 1))


def add_token_logits(weights: Weights, config: Any, encoded: Encoded) -> None:
    """Add ``logits`` (N, S, E) of each token."""
    with weights.graph.scope("classifier"):
        logits = weights.head(encoded.last, "classifier")
    weights.graph.output("logits", logits, (*ROWS, weights.shapes["classifier.weight"][0]))


def add_answer_logits(weights: Weights, config: Any, encoded: Encoded) -> None:
    """Add ``start_logits`` and ``end_logits`` (N, S): that the answer starts at a token, and that it ends there.

    Of the original XLM's head that searches, add its beams.
    """
    graph = weights.graph
    if "qa_outputs.weight" not in weights:
        return add_answer_beams(weights, config, encoded)
    with graph.scope("qa_outputs"):
        both = weights.head(encoded.last, "qa_outputs")
        sides = [graph.node("Gather", both, graph.constant(side, np.int64), axis=2) for side in (0, 1)]
    for name, side in zip(("start_logits", "end_logits"), sides, strict=True):
        graph.output(name, side, ROWS)


def add_word_logits(weights: Weights, config: Any, encoded: Encoded) -> None:
    """Add ``logits`` (N, S, V) over the vocabulary."""
    graph, x, family = weights.graph, encoded.last, config.model_type
    with graph.scope("lm_head"):
        if family == "xlm":
            words, own, bias = "transformer.embeddings.weight", "pred_layer.proj.weight", "pred_layer.proj.bias"
        elif family == "bert":
            x = weights.head(x, "cls.predictions.transform.dense", config.hidden_act)
            x = weights.norm(x, "cls.predictions.transform.LayerNorm", config.layer_norm_eps)
            words, own = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"
            bias = "cls.predictions.bias"
        elif family == "distilbert":
            x = weights.head(x, "vocab_transform", config.hidden_act)
            x = weights.norm(x, "vocab_layer_norm", config.layer_norm_eps)
            words, own = "distilbert.embeddings.word_embeddings.weight", "vocab_projector.weight"
            bias = "vocab_projector.bias"
        else:
            x = weights.head(x, "lm_head.dense", "gelu")
            x = weights.norm(x, "lm_head.layer_norm", config.layer_norm_eps)
            words, own, bias = "roberta.embeddings.word_embeddings.weight", "lm_head.decoder.weight", "lm_head.bias"
        matrix = words if config.tie_word_embeddings else own
        logits = weights.vocabulary(x, matrix, bias)
    graph.output("logits", logits, (*ROWS, weights.shapes[matrix][0]))


HEADS = {
    "ForSequenceClassification": add_sequence_logits,
    "ForMultipleChoice": add_choice_logits,
    "ForTokenClassification": add_token_logits,
    "ForQuestionAnswering": add_answer_logits,
    "ForMaskedLM": add_word_logits,
    "ForCausalLM": add_word_logits,
}
