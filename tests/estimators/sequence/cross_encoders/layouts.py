"""Pairs of texts, layouts of cross-encoders as published, and what tests ask of the regressor."""

from skxlmr import XLMRobertaRegressor
from tests.cross_encoders import IDENTITY, SCORES, SIGMOID
from tests.tiny import sentences

LONG = " ".join(sentences(9))
PAIRS = [
    *zip(sentences(6), sentences(6, seed=1), strict=True),
    ("ΣΑΣ Дом HOUSE", "the Red HOUSE"),
    (LONG, "дом"),
    ("дом", LONG),
    (LONG, LONG),
    ("дом", ""),
]


def says(activation=SIGMOID, prompts=(), default=None, **more):
    """``config_sentence_transformers.json`` of a cross-encoder."""
    return {"prompts": dict(prompts), "default_prompt_name": default, "activation_fn": activation, **more}


QUERY = {"query": "river: ", "document": "house: "}

# One row per layout: what the folder has, and what its activation is
EQUAL = {
    "bge-reranker-v2-m3": ({}, "sigmoid"),
    "num_labels, no labels": ({"id2label": None, "label2id": None, "num_labels": 1}, "sigmoid"),
    "the label's name is a number": ({"id2label": {"0": 0}}, "sigmoid"),
    "mmarco-mMiniLMv2": ({"sbert_ce_default_activation_function": IDENTITY}, "identity"),
    "old key, sigmoid": ({"sbert_ce_default_activation_function": SIGMOID}, "sigmoid"),
    "old key, null": ({"sbert_ce_default_activation_function": None}, "sigmoid"),
    "new key": ({"sentence_transformers": {"activation_fn": IDENTITY, "version": "4.1.0"}}, "identity"),
    "new key, sigmoid": ({"sentence_transformers": {"activation_fn": SIGMOID, "version": "5.0.0"}}, "sigmoid"),
    "new key, short name": ({"sentence_transformers": {"activation_fn": "torch.nn.Identity"}}, "identity"),
    "new key before the old one": (
        {"sentence_transformers": {"activation_fn": IDENTITY}, "sbert_ce_default_activation_function": SIGMOID},
        "identity",
    ),
    "new key that is null": (
        {"sentence_transformers": {"activation_fn": None}, "sbert_ce_default_activation_function": IDENTITY},
        "sigmoid",
    ),
    "new key without an activation": (
        {"sentence_transformers": {"version": "4.1.0"}, "sbert_ce_default_activation_function": IDENTITY},
        "identity",
    ),
    "a key and a regression": (
        {"problem_type": "regression", "sentence_transformers": {"activation_fn": SIGMOID}},
        "sigmoid",
    ),
    "several outputs": ({"n_outputs": 3, "problem_type": "regression"}, "identity"),
    "tokenizer of short rows": ({"max_length": 12}, "sigmoid"),
    "modules": ({"own": says(IDENTITY)}, "identity"),
    "modules, sigmoid": ({"own": says(SIGMOID, keep_in_fp32_modules=[])}, "sigmoid"),
    "modules before config.json": (
        {"own": says(SIGMOID), "sentence_transformers": {"activation_fn": IDENTITY}},
        "sigmoid",
    ),
    "modules that leave it to config.json": (
        {"own": says(None), "sentence_transformers": {"activation_fn": IDENTITY}},
        "identity",
    ),
    "max_seq_length": ({"own": says(), "settings": {**SCORES, "max_seq_length": 16}}, "sigmoid"),
    "length of the processor": (
        {"own": says(), "settings": {**SCORES, "processor_kwargs": {"model_max_length": 20}}, "max_length": 12},
        "sigmoid",
    ),
    "modules, length of the tokenizer": ({"own": says(), "max_length": 14}, "sigmoid"),
    "default prompt": ({"own": says(IDENTITY, QUERY, "query")}, "identity"),
    "default prompt, lower case": (
        {"own": says(IDENTITY, {"query": "RIVER Σ: "}, "query"), "settings": {**SCORES, "do_lower_case": True}},
        "identity",
    ),
    "prompts, none by default": ({"own": says(SIGMOID, QUERY)}, "sigmoid"),
    "lower case": ({"own": says(), "settings": {**SCORES, "do_lower_case": True}}, "sigmoid"),
    "settings of features": (
        {"own": says(IDENTITY, QUERY, "query", model_type="SentenceTransformer"), "settings": {"max_seq_length": 8}},
        "sigmoid",
    ),
}


def ours(folder, kind=XLMRobertaRegressor, **params):
    return kind.from_checkpoint(folder, dtype="float32", device="cpu", **params)
