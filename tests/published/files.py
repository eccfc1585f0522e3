"""Contents of files that many published folders share."""

from typing import Any

from tests.published.stand_ins import WIDTH
from tests.published.vocabularies import MASK, special_tokens, tokenizer_config

TOKENIZER = {"tokenizer_config.json": tokenizer_config(), "special_tokens_map.json": special_tokens(MASK)}
MODULES = "sentence_transformers.models"
VERSIONS = {"__version__": {"sentence_transformers": "2.2.2", "transformers": "4.33.0", "pytorch": "2.1.2+cu121"}}
NORMALIZE = {"2_Normalize": {}}


def labels(*names: str) -> dict[str, Any]:
    return {"id2label": {str(i): name for i, name in enumerate(names)}, "label2id": {n: i for i, n in enumerate(names)}}


def pooling(word: str, **more: Any) -> dict[str, Any]:
    """``1_Pooling/config.json`` with a flag for each of the first four poolings."""
    flags = {"cls_token": "cls", "mean_tokens": "mean", "max_tokens": "max", "mean_sqrt_len_tokens": "mean_sqrt"}
    named = {f"pooling_mode_{flag}": word == value for flag, value in flags.items()}
    return {"word_embedding_dimension": WIDTH, **named, **more}


LATER = {"pooling_mode_weightedmean_tokens": False, "pooling_mode_lasttoken": False}  # flags of version 2.2
LATEST = LATER | {"include_prompt": True}  # and of 2.4


def encoder(*kinds: str, pooling: dict[str, Any], **files: Any) -> dict[str, Any]:
    """The files of a sentence encoder; ``files`` by name without the ending."""
    places = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds, 1))]
    listed = [
        {"idx": i, "name": str(i), "path": place, "type": f"{MODULES}.{kind}"}
        for i, (place, kind) in enumerate(zip(places, ["Transformer", *kinds], strict=True))
    ]
    return {"modules.json": listed, "1_Pooling/config.json": pooling} | {f"{n}.json": c for n, c in files.items()}


def length(max_seq_length: int) -> dict[str, Any]:
    return {"max_seq_length": max_seq_length, "do_lower_case": False}
