"""One record per task: the module with its head, what Hugging Face calls it, and how messages and model cards describe it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skxlmr import nn
from skxlmr.nn import TaskModule
from skxlmr.utils._errors import CheckpointError

_FIRST_TOKEN = "the first token, which sees no other token in such a model"


@dataclass(frozen=True, kw_only=True)
class Head:
    """What an estimator puts on the encoder.

    Attributes
    ----------
    estimator : str
        The estimator with this head, which also opens checkpoints with it.
    architecture : str
        What ``config.json`` calls a model with this head (``architectures``).
    module : type of TaskModule
        The encoder with the head.
    parts : tuple of str
        Submodules that belong to the head, not to the encoder.
    new_part : str or None
        The submodule that a first fit starts from scratch.
    optional_parts : tuple of str
        Submodules that start from scratch where the checkpoint lacks them.
    reads : str
        What it makes predictions for, in the error about a checkpoint without it.
    bidirectional : str or None
        What it reads that a causal model lacks, in the error about such a model. None if it can read one.
    pipeline_tag : str
        Its task on the Hugging Face hub.
    auto_class : str
        The class of ``transformers`` that opens a saved folder.
    metric : str or None
        The hub's name of the validation score, if it has one.
    score : str
        What the validation score is, for the model card.
    """

    estimator: str
    architecture: str
    module: type[TaskModule]
    parts: tuple[str, ...] = ()
    new_part: str | None = None
    optional_parts: tuple[str, ...] = ()
    reads: str = "texts"
    bidirectional: str | None = None
    pipeline_tag: str
    auto_class: str
    metric: str | None = None
    score: str = ""


def _sequence_head(estimator: str, **about: Any) -> Head:
    """The head on the first token's vector, which several estimators share."""
    common: dict[str, Any] = {
        "architecture": "XLMRobertaForSequenceClassification",
        "module": nn.XLMRobertaForSequenceClassification,
        "parts": ("classifier",),
        "new_part": "classifier",
        "reads": "whole texts",
        "bidirectional": _FIRST_TOKEN,
        "pipeline_tag": "text-classification",
        "auto_class": "AutoModelForSequenceClassification",
    }
    return Head(estimator=estimator, **common | about)


_ACCURACY: dict[str, Any] = {"metric": "accuracy", "score": "share of the rows that are right"}
_MASKED_SCORE = "minus the mean loss per predicted token, in nats"

MODEL = Head(
    estimator="XLMRobertaVectorizer",
    architecture="XLMRobertaModel",
    module=nn.XLMRobertaModel,
    parts=("roberta.pooler",),
    pipeline_tag="feature-extraction",
    auto_class="AutoModel",
)
CLASSIFICATION = _sequence_head("XLMRobertaClassifier", **_ACCURACY)
REGRESSION = _sequence_head("XLMRobertaRegressor", metric="r_squared", score="R²")
ENTAILMENT = _sequence_head(
    "XLMRobertaZeroShotClassifier", new_part=None, bidirectional=None, pipeline_tag="zero-shot-classification"
)
TOKEN_CLASSIFICATION = Head(
    estimator="XLMRobertaTokenClassifier",
    architecture="XLMRobertaForTokenClassification",
    module=nn.XLMRobertaForTokenClassification,
    parts=("classifier",),
    new_part="classifier",
    reads="the words of a text",
    pipeline_tag="token-classification",
    auto_class="AutoModelForTokenClassification",
    metric="f1",
    score="F1 of entities; accuracy of words for plain tags",
)
QUESTION_ANSWERING = Head(
    estimator="XLMRobertaQuestionAnswerer",
    architecture="XLMRobertaForQuestionAnswering",
    module=nn.XLMRobertaForQuestionAnswering,
    parts=("qa_outputs",),
    new_part="qa_outputs",
    reads="answers in a text",
    pipeline_tag="question-answering",
    auto_class="AutoModelForQuestionAnswering",
    metric="f1",
    score="token F1",
)
MULTIPLE_CHOICE = Head(
    estimator="XLMRobertaMultipleChoiceClassifier",
    architecture="XLMRobertaForMultipleChoice",
    module=nn.XLMRobertaForMultipleChoice,
    parts=("classifier", "roberta.pooler"),
    new_part="classifier",
    optional_parts=("roberta.pooler",),
    reads="choices",
    bidirectional=_FIRST_TOKEN,
    pipeline_tag="multiple-choice",
    auto_class="AutoModelForMultipleChoice",
    **_ACCURACY,
)
MASKED_LM = Head(
    estimator="XLMRobertaMaskedLM",
    architecture="XLMRobertaForMaskedLM",
    module=nn.XLMRobertaForMaskedLM,
    parts=("lm_head",),
    reads="masks",
    bidirectional="the tokens after a mask as well as those before it",
    pipeline_tag="fill-mask",
    auto_class="AutoModelForMaskedLM",
    score=_MASKED_SCORE,
)
DIALOGUE_LM = Head(
    estimator="XLMRobertaDialogueLM",
    architecture="XLMRobertaForMaskedLM",
    module=nn.XLMRobertaForMaskedLM,
    parts=("lm_head",),
    optional_parts=("lm_head",),
    bidirectional=_FIRST_TOKEN,
    pipeline_tag="feature-extraction",
    auto_class="AutoModelForMaskedLM",
    score="minus the mean loss",
)
CAUSAL_LM = Head(
    estimator="XLMRobertaCausalLM",
    architecture="XLMRobertaForCausalLM",
    module=nn.XLMRobertaForCausalLM,
    parts=("lm_head",),
    reads="the next token",
    pipeline_tag="text-generation",
    auto_class="AutoModelForCausalLM",
    score="mean log-likelihood per token, in nats",
)
XLM_MODEL = Head(
    estimator="XLMVectorizer",
    architecture="XLMModel",
    module=nn.XLMModel,
    pipeline_tag="feature-extraction",
    auto_class="AutoModel",
)
XLM_CLASSIFICATION = Head(
    estimator="XLMClassifier",
    architecture="XLMForSequenceClassification",
    module=nn.XLMForSequenceClassification,
    parts=("sequence_summary", "logits_proj"),
    new_part="sequence_summary",
    reads="whole texts",
    pipeline_tag="text-classification",
    auto_class="AutoModelForSequenceClassification",
    **_ACCURACY,
)
XLM_MASKED_LM = Head(
    estimator="XLMMaskedLM",
    architecture="XLMWithLMHeadModel",
    module=nn.XLMForMaskedLM,
    parts=("pred_layer",),
    reads="masks",
    pipeline_tag="fill-mask",
    auto_class="AutoModelForMaskedLM",
    score=_MASKED_SCORE,
)
HEADS = (
    *(MODEL, CLASSIFICATION, REGRESSION, ENTAILMENT, TOKEN_CLASSIFICATION, QUESTION_ANSWERING, MULTIPLE_CHOICE),
    *(MASKED_LM, DIALOGUE_LM, CAUSAL_LM, XLM_MODEL, XLM_CLASSIFICATION, XLM_MASKED_LM),
)
PARTS = tuple(dict.fromkeys(part for head in HEADS for part in head.parts))  # of any head


def reader_of(architecture: str) -> str | None:
    """The estimator that opens a checkpoint with this head, None if there is none."""
    # an estimator that only returns features opens any checkpoint, and ignores its head
    heads = (head for head in HEADS if head.pipeline_tag != "feature-extraction")
    return next((head.estimator for head in heads if head.architecture == architecture), None)


def check_architecture(config: dict[str, Any], file: Path, head: Head) -> None:
    """Check that a checkpoint which names its architecture has this head.

    Models with this encoder (RoBERTa, CamemBERT, ...) differ in the first part of the name, so only its end is compared.

    Raises
    ------
    CheckpointError
        If it is a head of another task; names the estimator that reads it.
    """
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        return
    named = str(architectures[0])[:80]
    if named.endswith(head.architecture[head.architecture.index("For") :]):
        return
    reader = reader_of(named)
    use = "fit trains one" if reader is None else f"use {reader}.from_checkpoint"
    raise CheckpointError(file, f"describes a {named}, which has no head for {head.reads}: {use}")
