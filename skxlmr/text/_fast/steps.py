"""Check the steps of a ``tokenizer.json``: none may run forever or fill the memory."""

import base64
import re
from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any

from skxlmr.text._charsmap import MOST_VALUE_BYTES, check_charsmap
from skxlmr.utils._errors import CheckpointError, blaming

MOST_STEPS = 32
MOST_GROWTH = 10_000  # factor by which a text may grow; XLM-R's steps allow 512
MOST_PATTERN = 100  # characters
# BERT's step puts spaces around a Chinese character, decomposes characters and turns them to lower case
_GROWTH = {
    "BertNormalizer": 3 * 4 * 3,
    "ByteLevel": 2,
    "Lowercase": 3,
    "NFC": 4,
    "NFD": 4,
    "NFKC": 18,
    "NFKD": 18,
    "Precompiled": MOST_VALUE_BYTES,
}
_CLASS = re.compile(r"\\[pP]\{[^}]*\}")  # of characters; it is no repetition
# One repetition at the end. Before something else, it is tried from every place of a text to the end of the text. ``\X`` is one
# too, and the least number of repetitions is tried everywhere.
_LINEAR = re.compile(r"[^(*+?{]*([*+?]|\{\d{0,2}(,\d{0,2})?\})?")


def check_steps(file: Path, content: dict[str, Any]) -> None:
    """Raise CheckpointError if a step could take more than linear time in a text, or make it very long.

    A pattern may have one repetition, at its end, and no groups: others can take quadratic or exponential time, and no such
    tokenizer needs them.
    """
    for parts in (("normalizer", "pre_tokenizer", "decoder"), ("post_processor",)):
        steps = list(_steps([content.get(part) for part in parts]))
        names = ", ".join(parts)
        if len(steps) > MOST_STEPS:
            raise CheckpointError(file, f"expected at most {MOST_STEPS} steps in {names}, found {len(steps)}")
        if prod(map(_growth, steps)) > MOST_GROWTH:
            raise CheckpointError(file, f"{names} can make a text more than {MOST_GROWTH} times as long")
        for step in steps:
            _check_pattern(file, step)
            charsmap = step.get("precompiled_charsmap")
            if isinstance(charsmap, str):
                with blaming(file, "its Precompiled normalizer cannot be used ({})", ValueError):
                    check_charsmap(base64.b64decode(charsmap))


def _steps(node: Any) -> Iterator[dict[str, Any]]:
    """Yield every object that has a type; `read_json` bounds the depth of nesting."""
    if isinstance(node, dict) and "type" in node:
        yield node
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _steps(child)


def _growth(step: dict[str, Any]) -> int:
    """Return the factor by which the step may lengthen a text."""
    texts = [value for key in ("content", "prepend") if isinstance(value := step.get(key), str)]
    special = step.get("special_tokens")
    parts = special.values() if isinstance(special, dict) else ()
    ids = [part.get("ids") for part in parts if isinstance(part, dict)]
    # how many ids one part of a template may stand for
    n_ids = max([1, *(len(each) for each in ids if isinstance(each, list))])
    templates = [n_ids * len(value) for key in ("single", "pair") if isinstance(value := step.get(key), list)]
    kind = step["type"]
    return max([_GROWTH.get(kind, 1) if isinstance(kind, str) else 1, 1 + sum(map(len, texts)), *templates])


def _check_pattern(file: Path, step: dict[str, Any]) -> None:
    pattern = step.get("pattern")
    expression = pattern.get("Regex") if isinstance(pattern, dict) else None
    literal = pattern.get("String") if isinstance(pattern, dict) else pattern
    for each in (expression, literal):
        if isinstance(each, str) and len(each) > MOST_PATTERN:
            raise CheckpointError(file, f"expected a pattern of at most {MOST_PATTERN} characters, found {each!r:.80}")
    if isinstance(expression, str) and (r"\X" in expression or not _LINEAR.fullmatch(_CLASS.sub("", expression))):
        reason = (
            f"expected a pattern with at most one repetition, at its end, and without groups, found {expression!r:.80}"
        )
        raise CheckpointError(file, reason)
