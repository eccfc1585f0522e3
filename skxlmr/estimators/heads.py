"""One record per task: the module with its head, what Hugging Face calls it, and how messages and model cards describe it."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from skxlmr import nn
from skxlmr.nn import TaskModule
from skxlmr.utils._errors import CheckpointError


@dataclass(frozen=True, kw_only=True)
class Head:
    """What an estimator puts on the encoder.

    Attributes
    ----------
    estimator : str
        The estimator with this head, which also opens checkpoints with it.
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
    metric : str or None
        The hub's name of the validation score, if it has one.
    score : str
        What the validation score is, for the model card.
    published_as : str or None
        Hugging Face's name of the module, if it is another one than ours.
    """

    estimator: str
    module: type[TaskModule]
    parts: tuple[str, ...] = ()
    new_part: str | None = None
    optional_parts: tuple[str, ...] = ()
    reads: str = "texts"
    bidirectional: str | None = None
    pipeline_tag: str
    metric: str | None = None
    score: str = ""
    published_as: str | None = None

    @property
    def architecture(self) -> str:
        """What ``config.json`` calls a model with this head (``architectures``)."""
        return self.published_as or self.module.__name__

    @property
    def auto_class(self) -> str:
        """The class of ``transformers`` that opens a saved folder."""
        return "AutoModel" + "".join(self.module.__name__.partition("For")[1:])


MODEL = Head(
    estimator="XLMRobertaVectorizer",
    module=nn.XLMRobertaModel,
    parts=("roberta.pooler",),
    pipeline_tag="feature-extraction",
)
CLASSIFICATION = Head(
    estimator="XLMRobertaClassifier",
    module=nn.XLMRobertaForSequenceClassification,
    parts=("classifier",),
    new_part="classifier",
    reads="whole texts",
    bidirectional="the first token, which sees no other token in such a model",
    pipeline_tag="text-classification",
    metric="accuracy",
    score="share of the rows that are right",
)
REGRESSION = replace(CLASSIFICATION, estimator="XLMRobertaRegressor", metric="r_squared", score="R²")
ENTAILMENT = replace(
    CLASSIFICATION,
    estimator="XLMRobertaZeroShotClassifier",
    new_part=None,
    bidirectional=None,
    pipeline_tag="zero-shot-classification",
    metric=None,
    score="",
)
TOKEN_CLASSIFICATION = Head(
    estimator="XLMRobertaTokenClassifier",
    module=nn.XLMRobertaForTokenClassification,
    parts=("classifier",),
    new_part="classifier",
    reads="the words of a text",
    pipeline_tag="token-classification",
    metric="f1",
    score="F1 of entities; accuracy of words for plain tags",
)
QUESTION_ANSWERING = Head(
    estimator="XLMRobertaQuestionAnswerer",
    module=nn.XLMRobertaForQuestionAnswering,
    parts=("qa_outputs",),
    new_part="qa_outputs",
    reads="answers in a text",
    pipeline_tag="question-answering",
    metric="f1",
    score="token F1",
)
MULTIPLE_CHOICE = replace(
    CLASSIFICATION,
    estimator="XLMRobertaMultipleChoiceClassifier",
    module=nn.XLMRobertaForMultipleChoice,
    parts=("classifier", "roberta.pooler"),
    optional_parts=("roberta.pooler",),
    reads="choices",
    pipeline_tag="multiple-choice",
)
MASKED_LM = Head(
    estimator="XLMRobertaMaskedLM",
    module=nn.XLMRobertaForMaskedLM,
    parts=("lm_head",),
    reads="masks",
    bidirectional="the tokens after a mask as well as those before it",
    pipeline_tag="fill-mask",
    score="minus the mean loss per predicted token, in nats",
)
DIALOGUE_LM = replace(
    MASKED_LM,
    estimator="XLMRobertaDialogueLM",
    optional_parts=("lm_head",),
    bidirectional=CLASSIFICATION.bidirectional,
    pipeline_tag="feature-extraction",
    score="minus the mean loss",
)
CAUSAL_LM = Head(
    estimator="XLMRobertaCausalLM",
    module=nn.XLMRobertaForCausalLM,
    parts=("lm_head",),
    reads="the next token",
    pipeline_tag="text-generation",
    score="mean log-likelihood per token, in nats",
)
XLM_MODEL = Head(estimator="XLMVectorizer", module=nn.XLMModel, pipeline_tag="feature-extraction")
XLM_CLASSIFICATION = replace(
    CLASSIFICATION,
    estimator="XLMClassifier",
    module=nn.XLMForSequenceClassification,
    parts=("sequence_summary", "logits_proj"),
    new_part="sequence_summary",
    bidirectional=None,
)
XLM_MASKED_LM = replace(
    MASKED_LM,
    estimator="XLMMaskedLM",
    module=nn.XLMForMaskedLM,
    parts=("pred_layer",),
    bidirectional=None,
    published_as="XLMWithLMHeadModel",
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
