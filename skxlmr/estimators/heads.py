"""One record per task: which module it needs, what Hugging Face calls it, and how messages and model cards describe it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from skxlmr.nn import FAMILIES, family_of
from skxlmr.nn.config import PUBLISHED_AS
from skxlmr.utils._errors import CheckpointError

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule


@dataclass(frozen=True, kw_only=True)
class Head:
    """What an estimator puts on the encoder.

    Attributes
    ----------
    estimator : str
        The estimator with this head, which also opens checkpoints with it.
    task : str
        The end of Hugging Face's names of its modules, such as ``"ForSequenceClassification"``. The family of the checkpoint
        has the module (:data:`skxlmr.nn.FAMILIES`).
    new : {"always", "if missing", "never"}
        When a first fit starts the head from scratch.
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
    """

    estimator: str
    task: str
    new: Literal["always", "if missing", "never"] = "never"
    reads: str = "texts"
    bidirectional: str | None = None
    pipeline_tag: str
    metric: str | None = None
    score: str = ""

    def module(self, config: Any) -> type[TaskModule]:
        """The encoder with this head, in the family of the config."""
        return family_of(config).modules[self.task]

    def new_parts(self, config: Any) -> tuple[str, ...]:
        """Submodules that a first fit starts from scratch, whatever the checkpoint has."""
        return self.module(config).head_parts if self.new == "always" else ()

    def optional_parts(self, config: Any) -> tuple[str, ...]:
        """Submodules that a first fit starts from scratch where the checkpoint lacks them."""
        module = self.module(config)
        return module.optional_parts + (module.head_parts if self.new == "if missing" else ())

    @property
    def auto_class(self) -> str:
        """The class of ``transformers`` that opens a saved folder."""
        return "AutoModel" + self.task.removeprefix("Model")


MODEL = Head(estimator="XLMRobertaVectorizer", task="Model", pipeline_tag="feature-extraction")
EMBEDDING = replace(
    MODEL,
    estimator="XLMRobertaEmbedder",
    score="accuracy of the nearest class or of retrieval, Spearman's correlation, or cosine, by what was learnt",
)
CLASSIFICATION = Head(
    estimator="XLMRobertaClassifier",
    task="ForSequenceClassification",
    new="always",
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
    new="never",
    bidirectional=None,
    pipeline_tag="zero-shot-classification",
    metric=None,
    score="",
)
TOKEN_CLASSIFICATION = Head(
    estimator="XLMRobertaTokenClassifier",
    task="ForTokenClassification",
    new="always",
    reads="the words of a text",
    pipeline_tag="token-classification",
    metric="f1",
    score="F1 of entities; accuracy of words for plain tags",
)
QUESTION_ANSWERING = Head(
    estimator="XLMRobertaQuestionAnswerer",
    task="ForQuestionAnswering",
    new="always",
    reads="answers in a text",
    pipeline_tag="question-answering",
    metric="f1",
    score="token F1",
)
MULTIPLE_CHOICE = replace(
    CLASSIFICATION,
    estimator="XLMRobertaMultipleChoiceClassifier",
    task="ForMultipleChoice",
    reads="choices",
    pipeline_tag="multiple-choice",
)
MASKED_LM = Head(
    estimator="XLMRobertaMaskedLM",
    task="ForMaskedLM",
    new="if missing",
    reads="masks",
    bidirectional="the tokens after a mask as well as those before it",
    pipeline_tag="fill-mask",
    score="minus the mean loss per predicted token, in nats",
)
DIALOGUE_LM = replace(
    MASKED_LM,
    estimator="XLMRobertaDialogueLM",
    bidirectional=CLASSIFICATION.bidirectional,
    pipeline_tag="feature-extraction",
    score="minus the mean loss",
)
CAUSAL_LM = Head(
    estimator="XLMRobertaCausalLM",
    task="ForCausalLM",
    new="if missing",
    reads="the next token",
    pipeline_tag="text-generation",
    score="mean log-likelihood per token, in nats",
)
XLM_MODEL = replace(MODEL, estimator="XLMVectorizer")
XLM_CLASSIFICATION = replace(CLASSIFICATION, estimator="XLMClassifier", bidirectional=None)
XLM_MASKED_LM = replace(MASKED_LM, estimator="XLMMaskedLM", bidirectional=None)
HEADS = (
    *(MODEL, CLASSIFICATION, REGRESSION, ENTAILMENT, TOKEN_CLASSIFICATION, QUESTION_ANSWERING, MULTIPLE_CHOICE),
    *(MASKED_LM, DIALOGUE_LM, CAUSAL_LM, EMBEDDING, XLM_MODEL, XLM_CLASSIFICATION, XLM_MASKED_LM),
)


def reader_of(architecture: str, like: Head) -> str | None:
    """The estimator, of the same kind as another, that opens a checkpoint with this head; None if there is none."""
    # an estimator that only returns features opens any checkpoint, and ignores its head
    heads = (head for head in HEADS if head.pipeline_tag != "feature-extraction" and _prefix(head) == _prefix(like))
    return next((head.estimator for head in heads if _is_of(architecture, head)), None)


def _prefix(head: Head) -> str:
    """What the names of the estimators of a family begin with."""
    return "XLMRoberta" if head.estimator.startswith("XLMRoberta") else "XLM"


def _is_of(architecture: str, head: Head) -> bool:
    ours = {family.modules.prefix + head.task for family in FAMILIES.values()}
    return architecture.endswith(head.task) or any(PUBLISHED_AS.get(name) == architecture for name in ours)


def check_architecture(config: dict[str, Any], file: Path, head: Head) -> None:
    """Check that a checkpoint which names its architecture has this head.

    Families differ in the first part of the name, so only its end is compared.

    Raises
    ------
    CheckpointError
        If it is a head of another task; names the estimator that reads it.
    """
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        return
    named = str(architectures[0])[:80]
    if _is_of(named, head):
        return
    reader = reader_of(named, head)
    use = f"{head.estimator}(checkpoint).fit trains one" if reader is None else f"use {reader}.from_checkpoint"
    article = "an" if named[:1] in set("AEIOX") else "a"
    raise CheckpointError(file, f"describes {article} {named}, which has no head for {head.reads}: {use}")
