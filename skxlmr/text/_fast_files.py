"""From ``tokenizer.json``, or ``vocab.json`` and ``merges.txt``, to what the `tokenizers` package is given."""

import copy
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers

from skxlmr.text._special import AddedToken, TokenizerSettings
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_bytes, read_json

MOST_IDS = 10**7
MOST_VALUES = 4_000_000  # of a JSON file: a million pieces with their scores are some three
MOST_MERGES = 500_000
LONGEST_TOKEN = 1024  # bytes: the package's tree of pieces is as deep as the longest, and taken apart by recursion
MOST_BYTES = 16 * 2**20  # of merges.txt
_PROBES = [
    "",
    "Hello worlds",
    " <s>\0\n",
    "γνῶθι σεαυτόν",
    "漢字\u3000①",
    "\U0001f469\u200d\ufffd",
]  # a broken file shows here
_OUTSIDE = "\uffff \n"  # no text keeps this together, so no text spells what it is put around


def read_vocab(file: Path) -> dict[str, int]:
    """Read ``vocab.json``; CheckpointError unless it maps tokens to distinct ids."""
    vocab = read_json(file, MOST_VALUES)
    _check_ids(file, vocab)
    return vocab


def read_merges(file: Path) -> list[tuple[str, str]]:
    """Read the pairs of ``merges.txt``, most frequent first; CheckpointError if a line is no pair.

    A third column (fastBPE's counts) is allowed, a first line ``#version`` skipped.
    """
    try:
        text = read_bytes(file, MOST_BYTES).decode("utf-8")
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(file, f"expected text in UTF-8, found something else ({error})") from error
    merges: list[tuple[str, str]] = []
    for i, line in enumerate(io.StringIO(text, newline="\n")):
        line = line.rstrip("\r\n")
        parts = [part for part in line.split(" ") if part]
        if not parts or line.startswith("#version"):
            continue
        if len(parts) not in (2, 3):
            raise CheckpointError(file, f"expected two tokens in line {i + 1}, found {line!r:.80}")
        if len(merges) == MOST_MERGES:
            raise CheckpointError(file, f"expected at most {MOST_MERGES} pairs, found more")
        merges.append((parts[0], parts[1]))
    return merges


def byte_level_json(vocab: dict[str, int], merges: list[tuple[str, str]], add_prefix_space: bool) -> dict[str, Any]:
    """Return the ``tokenizer.json`` of a RoBERTa checkpoint that has ``vocab.json`` and ``merges.txt`` only."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}
    special = [token for token in ("<s>", "</s>") if token in vocab]
    processor = {"type": "RobertaProcessing", "trim_offsets": True, "add_prefix_space": add_prefix_space}
    if len(special) == 2:
        processor |= {"cls": ["<s>", vocab["<s>"]], "sep": ["</s>", vocab["</s>"]]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": processor if len(special) == 2 else None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "vocab": vocab,
            "merges": [f"{left} {right}" for left, right in merges],
        },
    }


def vocabulary_of(file: Path, content: dict[str, Any]) -> dict[str, int]:
    """Return the vocabulary of a ``tokenizer.json``; CheckpointError if its model is none of the family's."""
    model = content.get("model")
    if not isinstance(model, dict):
        raise CheckpointError(file, f"expected an object as model, found {model!r:.80}")
    vocab = model.get("vocab")
    kind = model.get("type", "Unigram" if isinstance(vocab, list) else "BPE" if "merges" in model else None)
    if kind == "Unigram" and isinstance(vocab, list):
        pairs = [entry for entry in vocab if isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str)]
        if len(pairs) != len(vocab) or not vocab:
            raise CheckpointError(file, "expected pieces with their scores as vocab of the model, found something else")
        _check_lengths(file, [piece for piece, _ in pairs])
        return {piece: i for i, (piece, _) in enumerate(pairs)}
    if kind == "BPE" and isinstance(vocab, dict):
        if model.get("dropout"):
            raise CheckpointError(
                file, "expected a model without dropout, whose ids are the same every time, found dropout"
            )
        _check_ids(file, vocab)
        return vocab
    raise CheckpointError(
        file, f"expected a Unigram or BPE model, found {kind!r:.80} with a vocab of {type(vocab).__name__}"
    )


def added_tokens_of(file: Path, content: dict[str, Any]) -> dict[int, AddedToken]:
    """Return the added tokens of a ``tokenizer.json`` by their ids."""
    added: dict[int, AddedToken] = {}
    for entry in content.get("added_tokens") or []:
        flags = ("lstrip", "rstrip", "single_word", "special")
        if not (
            isinstance(entry, dict)
            and isinstance(entry.get("content"), str)
            and isinstance(entry.get("id"), int)
            and 0 <= entry["id"] < MOST_IDS
            and all(isinstance(entry.get(flag, False), bool) for flag in flags)
        ):
            raise CheckpointError(file, f"expected added tokens with content, id and flags, found {entry!r:.80}")
        added[entry["id"]] = AddedToken(entry["content"], **{flag: entry.get(flag, False) for flag in flags})
    _check_lengths(file, [token.content for token in added.values()])
    return added


def with_tokens(content: dict[str, Any], tokens: Mapping[int, AddedToken], literal: bool) -> dict[str, Any]:
    """Return the file's content with these added tokens, and without what the library does itself.

    If `literal`, no text can spell a special token: a Unigram model would find them in its vocabulary.
    """
    content = copy.copy(content)
    content |= {"truncation": None, "padding": None, "post_processor": None}
    normalized = {
        entry["content"]: entry.get("normalized", False)
        for entry in content.get("added_tokens") or []
        if "content" in entry
    }
    hidden = {token.content: hide(token.content) for token in tokens.values() if literal and token.special}
    content["added_tokens"] = [
        {"id": i}
        | token.to_dict()
        | {"content": hidden.get(token.content, token.content), "normalized": normalized.get(token.content, False)}
        for i, token in sorted(tokens.items())
    ]
    model = content["model"]
    if hidden and isinstance(model["vocab"], list):
        content["model"] = model | {"vocab": [[hidden.get(piece, piece), score] for piece, score in model["vocab"]]}
    elif hidden:
        vocab = {hidden.get(piece, piece): i for piece, i in model["vocab"].items()}
        unknown = model.get("unk_token")
        content["model"] = model | {"vocab": vocab, "unk_token": hidden.get(unknown, unknown) if unknown else unknown}
    return content


def hide(token: str) -> str:
    """Return a name for `token` that no text spells."""
    return f"{_OUTSIDE}{token}{_OUTSIDE}"


def with_prefix_space(content: dict[str, Any]) -> dict[str, Any] | None:
    """Return the content such that a first word is read as any other word; None if it is so already."""
    content = copy.deepcopy({key: content[key] for key in content if key != "model"}) | {"model": content["model"]}
    changed = False
    pre_tokenizer = content.get("pre_tokenizer") or {}
    for part in pre_tokenizer.get("pretokenizers") or [pre_tokenizer]:
        if isinstance(part, dict) and part.get("type") == "ByteLevel" and not part.get("add_prefix_space"):
            part["add_prefix_space"] = changed = True
    return content if changed else None


def load(file: Path, content: dict[str, Any], literal: bool) -> tokenizers.Tokenizer:
    """Give a file's content to the `tokenizers` package; CheckpointError if it refuses."""
    tokenizer = guarded(file, tokenizers.Tokenizer.from_str, json.dumps(content))
    tokenizer.encode_special_tokens = literal
    guarded(file, tokenizer.encode_batch, _PROBES)
    for token in content["added_tokens"]:
        found = tokenizer.token_to_id(token["content"])
        if found != token["id"]:
            raise CheckpointError(
                file, f"expected the added token {token['content']!r:.80} at id {found}, found {token['id']}"
            )
    return tokenizer


def check_layout(file: Path, content: dict[str, Any], start: int, separator: int) -> None:
    """Raise unless the file's own post-processor lays texts out as XLM-R and RoBERTa do."""
    a, b = MOST_IDS, MOST_IDS + 1
    model = {"type": "WordLevel", "vocab": {"a": a, "b": b}, "unk_token": "a"}
    bare: dict[str, Any] = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
    }
    bare |= {"pre_tokenizer": None, "decoder": None, "model": model, "post_processor": content.get("post_processor")}
    tokenizer = guarded(file, tokenizers.Tokenizer.from_str, json.dumps(bare))
    found = guarded(file, lambda: [tokenizer.encode("a").ids, tokenizer.encode("a", "b").ids])
    if found != [[start, a, separator], [start, a, separator, separator, b, separator]]:
        shown = [" ".join({a: "A", b: "B"}.get(i, str(i)) for i in ids) for ids in found]
        raise CheckpointError(
            file,
            f"expected the layout <s> A </s> and <s> A </s></s> B </s>, {start} A {separator} and {start} A {separator} "
            f"{separator} B {separator} in ids; found {shown[0]:.100} and {shown[1]:.100}",
        )


def guarded(file: Path, function, *arguments):
    """Call the `tokenizers` package; whatever it raises on a broken file becomes a CheckpointError.

    It raises plain Exception, and PanicException, which is none, from the Rust code: neither has a narrower name.
    """
    try:
        return function(*arguments)
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise CheckpointError(file, f"the tokenizers package cannot use it ({str(error)[:200]})") from error


def merged_settings(settings: TokenizerSettings, own: Mapping[int, AddedToken]) -> TokenizerSettings:
    """Add a ``tokenizer.json``'s own added tokens to those that ``tokenizer_config.json`` lists, which count more."""
    listed = {token.content for token in settings.added.values()}
    special = {token.content for token in (*settings.roles.values(), *settings.additional) if token.special}
    added = {i: token for i, token in own.items() if token.content not in listed}
    added |= settings.added
    added = {i: replace(token, special=token.special or token.content in special) for i, token in added.items()}
    flags = {token.content: token for token in added.values()}  # a role is often named by its content alone
    roles = {role: flags.get(token.content, token) for role, token in settings.roles.items()}
    return TokenizerSettings(settings.options, roles, settings.additional, added)


def _check_lengths(file: Path, tokens: Iterable[str]) -> None:
    for token in tokens:
        if 4 * len(token) > LONGEST_TOKEN and (n := len(token.encode())) > LONGEST_TOKEN:
            raise CheckpointError(file, f"has a token of {n} bytes, {token!r:.80}, expected at most {LONGEST_TOKEN}")


def _check_ids(file: Path, vocab: Mapping[str, Any]) -> None:
    _check_lengths(file, vocab)
    for token, i in vocab.items():
        if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < MOST_IDS:
            raise CheckpointError(
                file, f"expected an id within 0 ... {MOST_IDS - 1} for {token!r:.80}, found {i!r:.80}"
            )
    if not vocab or len(set(vocab.values())) != len(vocab):
        raise CheckpointError(
            file, f"expected tokens with distinct ids, found {len(vocab)} tokens with shared ids or none"
        )
