"""Open a checkpoint as the estimator that it is for."""

import os
from typing import Any

import skxlmr.estimators
from skxlmr.checkpoints import StoredModel, read_model, resolve_checkpoint
from skxlmr.estimators._core.output_labels import read_head
from skxlmr.estimators._xlm.masked_lm import XLMMaskedLM
from skxlmr.estimators.heads import CLASSIFICATION, MODEL, REGRESSION, XLM_MODEL, reader_of
from skxlmr.nn import family_of
from skxlmr.persistence._description import FILE
from skxlmr.persistence._load import load
from skxlmr.utils._errors import CheckpointError


def estimator_of(checkpoint: str | os.PathLike[str]) -> Any:
    """The estimator that a saved folder holds, or that reads the head which ``config.json`` names.

    Without a head it is a vectorizer.

    Raises
    ------
    CheckpointError
        If the checkpoint cannot be read, or no estimator reads its head.
    ValueError
        If it has embeddings of languages: then only an estimator knows the language of the texts.
    """
    folder = resolve_checkpoint(checkpoint)
    if (folder / FILE).is_file():
        return load(checkpoint)
    stored = read_model(folder)
    if getattr(stored.config, "has_lang_embeddings", False):
        raise ValueError(
            "the checkpoint has embeddings of languages, and does not say which one the texts have: pass an estimator with "
            "lang, such as XLMVectorizer(checkpoint, lang='de').fit(texts)"
        )
    kind = getattr(skxlmr.estimators, _name(stored))
    if not hasattr(kind, "from_checkpoint"):
        estimator = kind(os.fspath(checkpoint))
        estimator._open_at_first_use()
        return estimator
    causal = {"objective": "clm"} if kind is XLMMaskedLM and getattr(stored.config, "causal", False) else {}
    return kind.from_checkpoint(os.fspath(checkpoint), **causal)


def _name(stored: StoredModel) -> str:
    """Name of the estimator."""
    file, architectures = stored.model_folder / "config.json", stored.raw.get("architectures")
    family = family_of(stored.config)
    features = MODEL if family.estimators == "XLMRoberta" else XLM_MODEL
    named = str(architectures[0])[:80] if isinstance(architectures, list) and architectures else ""
    if (
        not named
        or (named.endswith("Model") and not named.endswith("HeadModel"))
        or stored.sentence_encoder() is not None
    ):
        return features.estimator
    reader = reader_of(named, features)
    if reader is None:
        raise CheckpointError(
            file, f"describes {named}, a head that no estimator reads: pass an estimator, such as {features.estimator}"
        )
    if reader == CLASSIFICATION.estimator and read_head(stored.raw, file, CLASSIFICATION)[0] == "regression":
        return REGRESSION.estimator
    return reader
