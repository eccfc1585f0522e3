"""Which estimator reads which checkpoint."""

# Heads, and who reads them.
READERS = {
    "XLMRobertaForMaskedLM": "XLMRobertaMaskedLM",
    "XLMWithLMHeadModel": "XLMMaskedLM",
    "XLMRobertaForTokenClassification": "XLMRobertaTokenClassifier",
    "XLMRobertaForQuestionAnswering": "XLMRobertaQuestionAnswerer",
    "XLMRobertaForMultipleChoice": "XLMRobertaMultipleChoiceClassifier",
}
XLM_ESTIMATORS = ("XLMClassifier", "XLMMaskedLM", "XLMVectorizer")


def other_family(name: str, model_type: str) -> str:
    """What to say of a checkpoint that belongs to the other family of estimators."""
    if model_type == "xlm":
        twin = name.replace("XLMRoberta", "XLM")
        use = twin if twin in XLM_ESTIMATORS else f"one of {', '.join(XLM_ESTIMATORS)}"
        return f"tells of an older XLM (model_type 'xlm'), which {name} does not read: use {use}"
    return f"tells of no older XLM (model_type {model_type!r}), which {name} reads: use {name.replace('XLM', 'XLMRoberta')}"
