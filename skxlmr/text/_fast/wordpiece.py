"""BERT's WordPiece: ``vocab.txt``, and the options of the classes ``BertTokenizer`` and ``DistilBertTokenizer``."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skxlmr.text._bpe_files import MOST_BYTES, check_count, check_ids, check_lengths
from skxlmr.text._special_tokens import CONFIG_FILE, AddedToken, TokenizerSettings, checked_flag
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import read_bytes

WORDPIECE_FILE = "vocab.txt"
CLASSES = ("BertTokenizer", "DistilBertTokenizer")  # transformers gives them everything but the vocabulary
ROLES = {
    "sep_token": AddedToken("[SEP]"),
    "cls_token": AddedToken("[CLS]"),
    "unk_token": AddedToken("[UNK]"),
    "pad_token": AddedToken("[PAD]"),
    "mask_token": AddedToken("[MASK]"),
}
PREFIX, MOST_WORD_CHARACTERS = "##", 100
_NEEDED = ("cls_token", "sep_token", "unk_token")
_LONGEST_WORD = 256  # a word of n characters can take n ** 3 steps
_LONGEST_PREFIX = 16  # characters
INSTEAD = "if tokenizer.json is right, name PreTrainedTokenizerFast as tokenizer_class in tokenizer_config.json"


def read_vocabulary(file: Path) -> dict[str, int]:
    """Read ``vocab.txt``, one token a line; of a token that stands in several lines the last line counts.

    White space at the end of a line, the carriage return of Windows among it, is no part of the token, and no text can
    spell the token of a blank line.
    """
    content = read_bytes(file, MOST_BYTES)
    check_count(file, content.count(b"\n"))
    vocab: dict[str, int] = {}
    with blaming(file, "expected text in UTF-8, found something else ({})", UnicodeDecodeError):
        for i, line in enumerate(io.BytesIO(content)):  # line by line, since a million lines take much memory
            token = line.decode("utf-8").rstrip()
            if "\r" in token:
                reason = f"expected one token in line {i + 1}, found a carriage return within it: {token!r:.80}"
                raise CheckpointError(file, reason)
            if token:
                vocab[token] = i
    check_lengths(file, vocab)
    if not vocab:
        raise CheckpointError(file, "expected one token a line, found none")
    return vocab


def check_model(file: Path, model: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless this is a WordPiece model that reads every text, in a time that a long word bounds."""
    check_ids(file, model["vocab"])
    prefix, most = model.get("continuing_subword_prefix", PREFIX), model.get("max_input_chars_per_word", 100)
    unknown = model.get("unk_token", "[UNK]")
    if not isinstance(prefix, str) or len(prefix) > _LONGEST_PREFIX:
        reason = f"expected at most {_LONGEST_PREFIX} characters as continuing_subword_prefix, found {prefix!r:.80}"
        raise CheckpointError(file, reason)
    if type(most) is not int or not 0 <= most <= _LONGEST_WORD:
        reason = f"expected at most {_LONGEST_WORD} as max_input_chars_per_word, found {most!r:.80}"
        raise CheckpointError(file, reason)
    if not isinstance(unknown, str) or unknown not in model["vocab"]:
        raise CheckpointError(
            file, f"expected the unknown token {unknown!r:.80} in the vocabulary, and it is not there"
        )


def content_of(file: Path, vocab: Mapping[str, int], settings: TokenizerSettings) -> dict[str, Any]:
    """Return the ``tokenizer.json`` that stands for a ``vocab.txt``, before `as_class`."""
    start, end, unknown = ((settings.roles.get(role) or ROLES[role]).content for role in _NEEDED)
    missing = [token for token in (start, end, unknown) if token not in vocab]
    if missing:
        raise CheckpointError(file, f"expected the token {missing[0]!r:.80} on a line of its own, and it is not there")
    first, second = ({"Sequence": {"id": text, "type_id": i}} for i, text in enumerate("AB"))
    begin, middle = ({"SpecialToken": {"id": token, "type_id": 0}} for token in (start, end))
    last = {"SpecialToken": {"id": end, "type_id": 1}}
    tokens = {token: {"id": token, "ids": [vocab[token]], "tokens": [token]} for token in (start, end)}
    template = {"type": "TemplateProcessing", "single": [begin, first, middle], "special_tokens": tokens}
    model = {"type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": PREFIX}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": i} | token.to_dict() for i, token in settings.added.items()],
        "normalizer": {"type": "BertNormalizer", "clean_text": True},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": template | {"pair": [begin, first, middle, second, last]},
        "decoder": {"type": "WordPiece", "prefix": PREFIX, "cleanup": True},
        "model": model | {"max_input_chars_per_word": MOST_WORD_CHARACTERS, "vocab": dict(vocab)},
    }


def as_class(file: Path, content: dict[str, Any], settings: TokenizerSettings) -> dict[str, Any]:
    """Return the content as transformers' classes `CLASSES` read it: ``tokenizer_config.json`` decides about lower case.

    They take no more than the vocabulary and the options. Whatever else ``tokenizer.json`` says must be what they do.

    Raises
    ------
    CheckpointError
        If it is something else, or an option asks for what no version of them does alike.
    """
    options, folder, model = settings.options, file.parent, content.get("model")
    unknown = (settings.roles.get("unk_token") or ROLES["unk_token"]).content
    expected: list[tuple[str, Any, Any]] = [
        ("a normalizer of the type", _part(content, "normalizer", "type"), "BertNormalizer"),
        ("clean_text of the normalizer", _part(content, "normalizer", "clean_text"), True),
        ("a pre_tokenizer of the type", _part(content, "pre_tokenizer", "type"), "BertPreTokenizer"),
    ]
    if isinstance(model, dict):
        expected += [
            ("continuing_subword_prefix", model.get("continuing_subword_prefix", PREFIX), PREFIX),
            ("max_input_chars_per_word", model.get("max_input_chars_per_word", 100), MOST_WORD_CHARACTERS),
            ("unk_token", model.get("unk_token", unknown), unknown),
        ]
    for name, found, value in expected:
        if found != value:
            reason = f"expected {name} {value!r}, as the tokenizer's class has it, found {found!r:.80}; {INSTEAD}"
            raise CheckpointError(file, reason)
    for key, value in (("do_basic_tokenize", True), ("clean_text", True)):
        if checked_flag(folder, options, key, value) != value:
            reason = (
                f"{key} is false, which only early versions of transformers obeyed: ids would differ between versions"
            )
            raise CheckpointError(folder / CONFIG_FILE, reason)
    never_split, special = options.get("never_split") or [], {token.content for token in settings.roles.values()}
    special |= {token.content for token in (*ROLES.values(), *settings.additional, *settings.added.values())}
    if not isinstance(never_split, list) or not all(
        isinstance(token, str) and token in special for token in never_split
    ):
        reason = "expected special tokens as never_split, since only early versions of transformers obeyed it, found"
        raise CheckpointError(folder / CONFIG_FILE, f"{reason} {never_split!r:.80}")
    accents = options.get("strip_accents")
    normalizer = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": checked_flag(folder, options, "tokenize_chinese_chars", True),
        "strip_accents": None if accents is None else checked_flag(folder, options, "strip_accents", False),
        "lowercase": checked_flag(folder, options, "do_lower_case", True),
    }
    return content | {"normalizer": normalizer, "decoder": {"type": "WordPiece", "prefix": PREFIX, "cleanup": True}}


def _part(content: Mapping[str, Any], part: str, key: str) -> Any:
    step = content.get(part)
    return step.get(key) if isinstance(step, dict) else step
