"""Texts, parts of layouts, and what tests of sentence encoders ask of vectorizers."""

from skxlmr import XLMRobertaVectorizer
from tests.sentence_encoders import OLD, dense
from tests.tiny import sentences

TEXTS = [*sentences(6), "ΣΑΣ Дом HOUSE", "the", "", "  two  spaces ", " ".join(sentences(9))]  # the last one is long
QUERY = {"prompts": {"query": "query: ", "passage": "passage: "}, "default_prompt_name": None}
LABSE = [("Dense", dense()), ("Normalize", {})]
NORMALIZE = [("Normalize", {})]
NEW_SETTINGS = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
}


def says(default, **more):
    return {"prompts": {"query": "river: "}, "default_prompt_name": default, "similarity_fn_name": "cosine", **more}


def module(kind, path="1_Pooling"):
    return [
        {"idx": 0, "name": "0", "path": "", "type": f"{OLD}.Transformer"},
        {"idx": 1, "name": "1", "path": path, "type": kind},
    ]


def ours(folder, **params):
    return XLMRobertaVectorizer(folder, dtype="float32", device="cpu", **params)


def resolved(vectorizer):
    return vectorizer.pooling_, vectorizer.normalize_, vectorizer.prompt_, vectorizer.max_length_
