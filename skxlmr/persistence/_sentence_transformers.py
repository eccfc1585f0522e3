"""Files with which ``sentence-transformers`` computes the same features as a saved estimator."""

import json
from typing import Any, TypeGuard

from skxlmr.estimators import XLMRobertaMaskedLM, XLMRobertaVectorizer
from skxlmr.estimators._core.estimator import Estimator

# What each pooling is called there
POOLINGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}
MODULES = "modules.json"
TRANSFORMER = "sentence_bert_config.json"
POOLING = "1_Pooling/config.json"


def sentence_transformers_files(estimator: Estimator) -> dict[str, str]:
    """Content of the files by name; empty if its ``encode`` could not equal our ``transform``."""
    if not _is_sentence_encoder(estimator):
        return {}
    parts = [("", "Transformer"), ("1_Pooling", "Pooling")]
    if getattr(estimator, "normalize", False):
        parts.append(("2_Normalize", "Normalize"))
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(parts)
    ]
    pooling: dict[str, Any] = {"word_embedding_dimension": estimator.config_.hidden_size}
    pooling |= {key: name == estimator.pooling for name, key in POOLINGS.items()}
    transformer = {"max_seq_length": estimator._limit(), "do_lower_case": False}
    files = {MODULES: modules, TRANSFORMER: transformer, POOLING: pooling}
    return {name: json.dumps(content, indent=2) + "\n" for name, content in files.items()}


def _is_sentence_encoder(estimator: Estimator) -> TypeGuard[XLMRobertaVectorizer | XLMRobertaMaskedLM]:
    """Whether the features are one pooled vector of the last layer of single, cut texts."""
    if getattr(estimator, "n_features_in_", 1) != 1:
        return False
    if type(estimator) is XLMRobertaVectorizer:
        last = [estimator.config_.num_hidden_layers]
        return estimator.pooling in POOLINGS and estimator._layers() == last and estimator.long_text == "truncate"
    return type(estimator) is XLMRobertaMaskedLM
