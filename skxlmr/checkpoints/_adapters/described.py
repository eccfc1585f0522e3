"""What ``config.json`` would say of a base model with its adapter merged."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from skxlmr.checkpoints._adapters import tensors as kinds
from skxlmr.checkpoints._adapters.config import Lora
from skxlmr.checkpoints._adapters.names import Names
from skxlmr.checkpoints._adapters.tensors import AdapterTensors
from skxlmr.checkpoints._adapters.whole import is_saved
from skxlmr.checkpoints._folder import read_config
from skxlmr.checkpoints._layout import CONFIG, DESCRIPTION
from skxlmr.nn import config_of
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import read_json
from skxlmr.utils._imports.later import torch

# What an adapter folder's own config.json decides; the rest is the base model's
OF_OUTPUTS = {"id2label", "label2id", "num_labels", "problem_type", "is_decoder"}
OF_OUTPUTS |= {"sentence_transformers", "sbert_ce_default_activation_function"}
LABELS = ("id2label", "label2id", "num_labels")
MAY_DIFFER = {"vocab_size", "tie_word_embeddings", "is_decoder", "initializer_range"}
MAY_DIFFER |= {"hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"}  # a fit takes the base's
SAVED = "adapter"  # what skxlmr.json calls it
CLASSES = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
    "CAUSAL_LM": "ForCausalLM",
    "FEATURE_EXTRACTION": "Model",
}
# A row for each label; the first that is there counts
OF_LABELS = ("classifier.out_proj.weight", "classifier.weight", "sequence_summary.summary.weight")


def described(folder: Path, lora: Lora, base: dict[str, Any], adapter: AdapterTensors, names: Names) -> dict[str, Any]:
    """Content of the ``config.json`` of the merged model.

    Parameters
    ----------
    folder : Path
        The adapter's, whose own ``config.json``, if it has one, says what the outputs mean; else what ``save`` wrote of it.
    lora : Lora
        The adapter.
    base : dict
        Content of the base model's ``config.json``.
    adapter : AdapterTensors
        What the adapter's file holds.
    names : Names
        Of the modules.

    Returns
    -------
    dict

    Raises
    ------
    CheckpointError
        If the folder's own ``config.json`` is broken, or describes another model than the base.
    """
    raw = dict(base)
    own, place = _own(folder, base)
    raw.update({key: own[key] for key in OF_OUTPUTS if key in own})
    if any(key in own for key in LABELS):
        raw = {key: value for key, value in raw.items() if key not in LABELS or key in own}
    raw.pop("architectures", None)
    if architecture := _architecture(lora, base, own):
        raw["architectures"] = [architecture]
    heads = [adapter.whole[name] for name in OF_LABELS if name in adapter.whole]
    if heads and not str(architecture).endswith("ForMultipleChoice"):
        raw = _with_labels(raw, len(heads[0]), place if own else None)
    words = adapter.adapted.get(names.words, {}).get(kinds.WEIGHT, adapter.whole.get(f"{names.words}.weight"))
    if words is not None and words.ndim:
        raw["vocab_size" if "vocab_size" in raw or "n_words" not in raw else "n_words"] = len(words)
    if is_untied(lora, base, adapter, names):
        raw["tie_word_embeddings"] = False
    return raw


def is_untied(lora: Lora, base: dict[str, Any], adapter: AdapterTensors, names: Names) -> bool:
    """Whether word embeddings and the projection on the vocabulary were one matrix, and are two after the training."""
    tied = base.get("tie_word_embeddings", True) is not False
    if not tied or adapter.is_bare or lora.task_type not in (None, "CAUSAL_LM"):
        return False
    name = f"{names.words}.weight"
    words, decoder = (
        adapter.whole.get(name),
        adapter.whole.get(names.decoder),
    )
    if words is not None and decoder is not None:  # both are there after a change of the vocabulary
        return words.shape != decoder.shape or not torch.equal(words, decoder)
    if words is not None:
        return is_saved(lora, names, name)
    is_resized = kinds.WEIGHT in adapter.adapted.get(names.words, {})
    return decoder is not None and not is_resized


def _own(folder: Path, base: dict[str, Any]) -> tuple[dict[str, Any], Path]:
    """What the folder itself says of its model, and the file that says it."""
    file = folder / CONFIG
    if not file.is_file():
        return _saved(folder / DESCRIPTION), folder / DESCRIPTION
    own = read_config(folder)
    if "model_type" in own:
        with blaming(file, "{}", ValueError):
            found = config_of(own)
        expected = config_of(base)
        for name in ("model_type", *(item.name for item in fields(expected) if item.compare)):
            if name not in MAY_DIFFER and getattr(found, name, None) != getattr(expected, name):
                values = f"{getattr(found, name, None)!r:.80}, but {getattr(expected, name)!r:.80} in the base model"
                raise CheckpointError(file, f"{name} is {values}: it describes another one")
    return own, file


def _saved(file: Path) -> dict[str, Any]:
    """What ``save`` wrote of the outputs: a ``config.json`` would hide the base model from ``transformers``."""
    if not file.is_file():
        return {}
    about = read_json(file).get(SAVED)
    said = about.get("config", {}) if isinstance(about, dict) else {}
    if not isinstance(said, dict):
        raise CheckpointError(file, f"expected an object as {SAVED}.config, found {said!r:.80}")
    return said


def _architecture(lora: Lora, base: dict[str, Any], own: dict[str, Any]) -> str | None:
    """Name of the class of the adapted model, if it is known."""
    if lora.base_class is not None:
        return lora.base_class
    named = [config.get("architectures") for config in (own, base)]
    first = [each[0] for each in named if isinstance(each, list) and each and isinstance(each[0], str)]
    if lora.task_type in CLASSES:
        family = re.match(r"\w*?(?=For[A-Z]|With|Model|$)", first[-1]) if first else None
        return family.group() + CLASSES[lora.task_type] if family and family.group() else None
    return None if lora.saved or not first else first[0]


def _with_labels(raw: dict[str, Any], n_labels: int, own: Path | None) -> dict[str, Any]:
    """The same with as many labels as the trained head has outputs; those of the base's head may have been others."""
    labels = raw.get("id2label")
    n_named = len(labels) if isinstance(labels, dict) else raw.get("num_labels", 2)
    if n_named == n_labels:
        return raw
    if own is not None and isinstance(labels, dict):
        raise CheckpointError(own, f"id2label has {n_named} labels, but the head of the adapter has {n_labels} outputs")
    return {key: value for key, value in raw.items() if key not in LABELS} | {"num_labels": n_labels}
