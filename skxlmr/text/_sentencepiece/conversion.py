"""The ``tokenizer.json`` that stands for XLM-R's SentencePiece model."""

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from skxlmr.text._sentencepiece.model_file import charsmap_of
from skxlmr.text._special_tokens import AddedToken

_METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}


def tokenizer_json(
    proto: bytes,
    vocab: Sequence[tuple[str, float]],
    tokens: Mapping[int, AddedToken],
    start: tuple[str, int],
    separator: tuple[str, int],
    unk_id: int,
) -> dict[str, Any]:
    """Return the content of the file, as ``transformers`` converts the model.

    Parameters
    ----------
    proto : bytes
        Content of the ``.model`` file.
    vocab : sequence of (str, float)
        Each id's piece and score.
    tokens : mapping of int to AddedToken
        Special and added tokens by id.
    start, separator : (str, int)
        The token before a text and the one after it, two of which stand between the texts of a pair.
    unk_id : int
        Id of the unknown token.
    """
    charsmap = base64.b64encode(charsmap_of(proto)).decode()
    first, last = _token(start[0]), _token(separator[0])
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i, **token.to_dict()} for i, token in sorted(tokens.items())],
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap} if charsmap else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, _METASPACE]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [first, _text("A"), last],
            "pair": [first, _text("A"), last, last, _text("B"), last],
            "special_tokens": {
                token: {"id": token, "ids": [i], "tokens": [token]} for token, i in dict([start, separator]).items()
            },
        },
        "decoder": _METASPACE,
        "model": {"type": "Unigram", "unk_id": unk_id, "vocab": list(map(list, vocab)), "byte_fallback": False},
    }


def _token(content: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": content, "type_id": 0}}


def _text(name: str) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": 0}}
