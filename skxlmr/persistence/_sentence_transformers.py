"""What a saved estimator's folder says of a sentence encoder or cross-encoder, for other tools and for ``load``."""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING

from skxlmr.checkpoints import OUTPUT_LAYERS, CrossEncoder, Tensors, output_layer_files, sentence_files
from skxlmr.estimators import (
    XLMRobertaEmbedder,
    XLMRobertaMaskedLM,
    XLMRobertaRegressor,
    XLMRobertaVectorizer,
    XLMRobertaZeroShotClassifier,
)
from skxlmr.estimators._core.estimator import Estimator
from skxlmr.estimators._sequence.sequence_classifier import SequenceClassifier
from skxlmr.estimators._vectors.transformer import Transformer
from skxlmr.nn.sentence import SentenceEncoder
from skxlmr.utils._warnings import outside_stacklevel

if TYPE_CHECKING:
    import torch

WEIGHTS = "sentence."  # what the names of the weights of its further layers begin with in the module
CROSS_ENCODERS = (XLMRobertaRegressor, XLMRobertaZeroShotClassifier, SequenceClassifier)
READERS = (Transformer, *CROSS_ENCODERS)  # of the files of sentence-transformers


def sentence_encoder_of(estimator: Estimator) -> tuple[SentenceEncoder | None, bool]:
    """What the folder says of how vectors of texts are made, and whether ``encode`` there then equals our ``transform``."""
    if not isinstance(estimator, Transformer):
        return None, False
    if type(estimator) not in (XLMRobertaVectorizer, XLMRobertaEmbedder, XLMRobertaMaskedLM):
        return estimator._said, False
    return estimator._sentence_encoder_to_save()


def warn_of_another_length(
    folder: str | os.PathLike[str], estimator: Estimator, encoder: SentenceEncoder | None, is_equal: bool
) -> None:
    """Say that others scale the vectors and then cut them, where the estimator does it the other way round."""
    if is_equal or encoder is None or encoder is getattr(estimator, "_said", None):
        return
    warnings.warn(
        f"vectors are cut to {encoder.truncate_dim} features and then scaled to unit length, which {folder} can only say "
        "the other way round: load gives them as they are; others that open the folder get vectors of the same directions, "
        "and of unit length with XLMRobertaVectorizer(folder, normalize=True) or encode(..., normalize_embeddings=True)",
        UserWarning,
        stacklevel=outside_stacklevel(),
    )


def cross_encoder_of(estimator: Estimator) -> CrossEncoder | None:
    """What the folder says of how a cross-encoder reads texts and what becomes of its outputs."""
    return estimator._cross_encoder_to_save() if isinstance(estimator, CROSS_ENCODERS) else None


def sentence_encoder_files(
    estimator: Estimator, encoder: SentenceEncoder | None, weights: Tensors, dtype: torch.dtype | str | None
) -> dict[str, str | bytes]:
    """Content of the files beside the model, by name; their weights are taken out of ``weights``."""
    further = _taken(weights, WEIGHTS)
    outputs = {name: taken for name in OUTPUT_LAYERS if (taken := _taken(weights, f"{name}."))}
    files = {} if encoder is None else sentence_files(encoder, estimator.config_.hidden_size, further, dtype)
    return files | output_layer_files(outputs, dtype)


def _taken(weights: Tensors, start: str) -> Tensors:
    """Take the tensors out whose names begin like this, and return them under the rest of their names."""
    return {name.removeprefix(start): weights.pop(name) for name in list(weights) if name.startswith(start)}
