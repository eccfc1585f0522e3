"""Which estimator reads which checkpoint."""

from pathlib import Path
from typing import Any

from skxlmr.utils._errors import CheckpointError

# Heads, and who reads them.
READERS = {
    "XLMRobertaForSequenceClassification": "XLMRobertaClassifier",
    "XLMRobertaForMaskedLM": "XLMRobertaMaskedLM",
    "XLMWithLMHeadModel": "XLMMaskedLM",
    "XLMRobertaForTokenClassification": "XLMRobertaTokenClassifier",
    "XLMRobertaForQuestionAnswering": "XLMRobertaQuestionAnswerer",
    "XLMRobertaForMultipleChoice": "XLMRobertaMultipleChoiceClassifier",
}
# Names of the submodules that are heads: a checkpoint may hold them where the estimator's module has none.
HEAD_PARTS = ("lm_head", "classifier", "qa_outputs", "roberta.pooler", "pred_layer", "sequence_summary", "logits_proj")
# What a head reads, by the end of its name: the models of one architecture (RoBERTa, CamemBERT, ...) differ in the beginning.
OF_WHAT = {
    "ForSequenceClassification": "whole texts",
    "ForTokenClassification": "the words of a text",
    "ForQuestionAnswering": "answers in a text",
    "ForMultipleChoice": "choices",
}
FIRST_TOKEN = "the first token, which sees no other there"  # why an estimator does not read a causal model
XLM_ESTIMATORS = ("XLMClassifier", "XLMMaskedLM", "XLMVectorizer")


def other_family(name: str, model_type: str) -> str:
    """What to say of a checkpoint that belongs to the other family of estimators."""
    if model_type == "xlm":
        twin = name.replace("XLMRoberta", "XLM")
        use = twin if twin in XLM_ESTIMATORS else f"one of {', '.join(XLM_ESTIMATORS)}"
        return f"tells of an older XLM (model_type 'xlm'), which {name} does not read: use {use}"
    return f"tells of no older XLM (model_type {model_type!r}), which {name} reads: use {name.replace('XLM', 'XLMRoberta')}"


def check_head(config: dict[str, Any], file: Path, head: str) -> None:
    """Look whether a checkpoint that names its architecture has this head, one of ``OF_WHAT``.

    Raises
    ------
    CheckpointError
        If it is of another task; names the estimator that reads it.
    """
    architectures = config.get("architectures")
    if isinstance(architectures, list) and architectures:
        named = str(architectures[0])[:80]
        if not named.endswith(head):
            reader = f"use {READERS[named]}.from_checkpoint" if named in READERS else "it needs fit"
            raise CheckpointError(file, f"tells of a {named}, which has no head for {OF_WHAT[head]}: {reader}")
