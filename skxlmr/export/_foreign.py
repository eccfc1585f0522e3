"""Folders with an ONNX graph that another tool wrote: what lies where, and which estimator reads it."""

import os
from inspect import signature
from pathlib import Path
from typing import Any

import skxlmr.estimators
from skxlmr.checkpoints import VOCABULARIES, StoredModel, identity, read_config
from skxlmr.estimators._core.output_labels import output_labels
from skxlmr.estimators._sequence.zero_shot import XLMRobertaZeroShotClassifier
from skxlmr.estimators.heads import CLASSIFICATION, REGRESSION, XLM_CLASSIFICATION, reader_of
from skxlmr.inference import OnnxModule
from skxlmr.nn import config_of, family_of
from skxlmr.utils._errors import CheckpointError, blaming

CONFIG = "config.json"


def read_foreign(folder: Path, beside: Path) -> StoredModel:
    """The model that a folder describes; ``beside`` is the folder of the graph, in it or the same.

    Raises
    ------
    CheckpointError
        If there is no ``config.json`` or no tokenizer, or the config is broken or that of an unknown model.
    """
    places = [folder, beside]
    described = next((place for place in places if (place / CONFIG).is_file()), None)
    if described is None:
        raise CheckpointError(folder / CONFIG, "no such file, and none beside the graph")
    with_vocabulary = next((p for p in places if any((p / name).is_file() for name in VOCABULARIES)), None)
    if with_vocabulary is None:
        raise CheckpointError(
            folder, f"holds no tokenizer: expected {' or '.join(VOCABULARIES)}, here or beside the graph"
        )
    raw = read_config(described)
    with blaming(described / CONFIG, "{}", ValueError):
        config = config_of(raw)
    place = "" if with_vocabulary == folder else os.path.relpath(with_vocabulary, folder)
    return StoredModel(folder, raw, config, place, identity(folder))


def adopted(stored: StoredModel, module: OnnxModule, kind: Any, params: dict[str, Any]) -> Any:
    """An estimator with the folder's config, tokenizer and meaning of the outputs, but no module yet.

    Raises
    ------
    CheckpointError, ValueError
        If no estimator reads the graph, or the one that was asked for does not.
    """
    if kind is None:
        kind = getattr(skxlmr.estimators, _estimator_of(stored, module, params.get("problem_type")))
    # what `from_checkpoint` takes besides the parameters
    of_the_head = list(signature(kind._adopt).parameters)[3:] if hasattr(kind, "_adopt") else []
    told = {name: params[name] for name in of_the_head if name in params}
    params = {name: value for name, value in params.items() if name not in told}
    checkpoint: Any = str(stored.folder)
    estimator = kind(checkpoint, **params)
    estimator._validate_params()
    estimator._take(stored)
    file = stored.model_folder / CONFIG
    if isinstance(estimator, XLMRobertaZeroShotClassifier):
        estimator._take_own(stored)
        estimator.classes_ = estimator._candidates(None)
        estimator._read_labels(output_labels(stored.raw, file))
        estimator._check_hypotheses()
    elif hasattr(estimator, "_adopt"):
        estimator._adopt(stored, file, **told)
    estimator._limit()
    return estimator


def _estimator_of(stored: StoredModel, module: OnnxModule, problem_type: str | None) -> str:
    """Name of the estimator that reads the graph's outputs."""
    prefix, outputs = family_of(stored.config).estimators, module.outputs
    if "logits" not in outputs and "start_logits" not in outputs:
        return f"{prefix}Vectorizer"
    named = stored.raw.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else ""
    like = CLASSIFICATION if prefix == "XLMRoberta" else XLM_CLASSIFICATION
    reader = reader_of(architecture, like)
    if reader is None:
        found = f"names {architecture!r:.80}" if architecture else "names no architecture"
        raise CheckpointError(
            stored.model_folder / CONFIG,
            f"{found}, so that nobody knows what the graph's {', '.join(outputs)} are: pass estimator=, such as "
            f"estimator=skxlmr.{like.estimator}",
        )
    if reader == CLASSIFICATION.estimator and _is_regression(stored.raw, stored.model_folder / CONFIG, problem_type):
        return REGRESSION.estimator
    return reader


def _is_regression(raw: dict[str, Any], file: Path, problem_type: str | None) -> bool:
    """Whether outputs of a sequence are numbers, as the reference reads ``config.json``."""
    said = problem_type or raw.get("problem_type")
    return said == "regression" or (said is None and len(output_labels(raw, file)) == 1)
