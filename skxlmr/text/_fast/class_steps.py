"""What the classes of RoBERTa, XLM-R and CamemBERT do to a text before the model, whatever a ``tokenizer.json`` says."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skxlmr.text._fast.tokenizer_json import BARE, guarded
from skxlmr.text._fast.wordpiece import INSTEAD
from skxlmr.utils._errors import CheckpointError

BYTE_LEVEL = "RobertaTokenizer"
# Single words: files of different ages treat white space at the ends of a text, and twice in a row, in different ways
_WORDS = ("House", "ÉTÉ", "e\u0301", "ﬁ", "Ａ", "İ", "漢字かな", "हिन्दी", "1234", "3.5", "don't", "a-b_c,")


def check_reading(file: Path, content: Mapping[str, Any], class_name: str, add_prefix_space: bool) -> None:
    """Raise CheckpointError if a class reads words otherwise than the file says; for the arguments see `other_reading`."""
    other = other_reading(file, content, class_name, add_prefix_space)
    if other is not None:
        word, found, expected = other
        reason = f"its normalizer and pre_tokenizer turn {word!r} into {found!r:.80}, and the class {class_name} into"
        obey = "and versions of transformers obey one or the other: ids would differ"
        raise CheckpointError(file, f"{reason} {expected!r:.80}, {obey}; {INSTEAD}")


def other_reading(
    file: Path, content: Mapping[str, Any], class_name: str, add_prefix_space: bool
) -> tuple[str, list[str], list[str]] | None:
    """Return a word that the file's steps turn into other parts than those that a class builds, and both; None if none is.

    Parameters
    ----------
    file : path
        Name of the file in errors.
    content : mapping
        Its ``normalizer`` and ``pre_tokenizer``.
    class_name : str
        ``RobertaTokenizer``, or another class, which reads what SentencePiece wrote.
    add_prefix_space : bool
        Whether the class puts a space before each text.
    """
    own = {part: content.get(part) for part in ("normalizer", "pre_tokenizer")}
    if class_name == BYTE_LEVEL:
        steps = {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}
        built: dict[str, Any] = {"normalizer": None, "pre_tokenizer": steps}
    else:
        scheme = "always" if add_prefix_space else "never"
        metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}
        split = {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]}
        built = {"normalizer": _charsmap(own["normalizer"]), "pre_tokenizer": split}
    if built == own:
        return None
    for word, ours, theirs in zip(_WORDS, _parts(file, own), _parts(file, built), strict=True):
        if ours != theirs:
            return word, ours, theirs
    return None


def _charsmap(normalizer: Any) -> Any:
    """The character map of SentencePiece, the only step of a normaliser that the classes keep; None if there is none."""
    steps = normalizer.get("normalizers", [normalizer]) if isinstance(normalizer, dict) else []
    maps = [step for step in steps if isinstance(step, dict) and step.get("type") == "Precompiled"]
    return maps[0] if maps else None


def _parts(file: Path, steps: dict[str, Any]) -> list[list[str]]:
    """What the steps make of each word."""
    import tokenizers

    model = {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}
    content = BARE | steps | {"decoder": None, "post_processor": None, "model": model}
    tokenizer = guarded(file, tokenizers.Tokenizer.from_str, json.dumps(content))
    normalizer, pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer

    def parts(word: str) -> list[str]:
        word = word if normalizer is None else normalizer.normalize_str(word)
        return [word] if pre_tokenizer is None else [part for part, _ in pre_tokenizer.pre_tokenize_str(word)]

    made: list[list[str]] = guarded(file, lambda: list(map(parts, _WORDS)))
    return made
