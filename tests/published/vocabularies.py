"""Tokenizer files as published folders have them, around tiny vocabularies."""

import base64
import json
from functools import cache

from sentencepiece import sentencepiece_model_pb2

from tests.tiny import train, xlm_tokenizer

SPECIAL = {"bos": "<s>", "eos": "</s>", "sep": "</s>", "cls": "<s>", "unk": "<unk>", "pad": "<pad>"}
MASK = {"content": "<mask>", "single_word": False, "lstrip": True, "rstrip": False, "normalized": True}
N_PIECES = 300
N_TOKENS = N_PIECES + 2  # <pad> and <mask> are no pieces
N_XLM_TOKENS = xlm_tokenizer().vocab_size


def sentencepiece(folder, fast=True):
    """``sentencepiece.bpe.model`` and, as most folders have it, its conversion by the hub's library."""
    (folder / "sentencepiece.bpe.model").write_bytes(train(vocab_size=N_PIECES))
    if fast:
        fast_only(folder)


def fast_only(folder):
    """``tokenizer.json`` alone."""
    (folder / "tokenizer.json").write_text(unigram(), encoding="utf-8")


@cache
def unigram():
    """``tokenizer.json`` of an XLM-R vocabulary, with the keys of the published ones."""
    proto = sentencepiece_model_pb2.ModelProto.FromString(train(vocab_size=N_PIECES))
    pieces = [(piece.piece, piece.score) for piece in proto.pieces][3:]
    vocab = [["<s>", 0.0], ["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], *map(list, pieces), ["<mask>", 0.0]]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    added = [{"id": i, "content": vocab[i][0], **plain} for i in range(4)]
    added.append({"id": len(vocab) - 1, **MASK, "special": True})
    spaces = {"type": "Metaspace", "replacement": "▁", "str_rep": "▁", "add_prefix_space": True}
    charsmap = base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode()

    def token(name):
        return {"SpecialToken": {"id": name, "type_id": 0}}

    def text(name):
        return {"Sequence": {"id": name, "type_id": 0}}

    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Precompiled", "precompiled_charsmap": charsmap},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, spaces]},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [token("<s>"), text("A"), token("</s>")],
            "pair": [token("<s>"), text("A"), token("</s>"), token("</s>"), text("B"), token("</s>")],
            "special_tokens": {
                name: {"id": name, "ids": [i], "tokens": [name]} for name, i in [("</s>", 2), ("<s>", 0)]
            },
        },
        "decoder": spaces,
        "model": {"type": "Unigram", "unk_id": 3, "vocab": vocab},
    }
    return json.dumps(content, ensure_ascii=False)


def special_tokens(mask="<mask>"):
    """``special_tokens_map.json``."""
    return {f"{name}_token": content for name, content in SPECIAL.items()} | {"mask_token": mask}


def tokenizer_config(model_max_length=512, **more):
    """``tokenizer_config.json`` as the tokenizer of XLM-R saved it for years."""
    mask = {**MASK, "__type": "AddedToken"}
    known = {"model_max_length": model_max_length, "special_tokens_map_file": None}
    return special_tokens(mask) | known | {"tokenizer_class": "XLMRobertaTokenizer", **more}


def byte_pairs(folder):
    """``vocab.json`` and ``merges.txt`` of the original XLM."""
    xlm_tokenizer().save(folder)
    (folder / "tokenizer_config.json").unlink()
