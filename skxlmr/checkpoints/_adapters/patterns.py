"""Which modules an adapter adapts, as peft matches their names; regular expressions of files are bounded before they run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from skxlmr.utils._errors import CheckpointError, blaming

if TYPE_CHECKING:
    from skxlmr.checkpoints._adapters.config import Lora

LONGEST_NAME = 100  # of a module; the longest of these models has 50 characters
MOST_STEPS = 2e5  # of all expressions of a file over one name
_LENGTH = 64  # for the bound
# A character, an escape, a class, or the opening of a group that only groups
_PART = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\(\?:|\(\?P<\w+>|\(\?|.", re.DOTALL)
_BRACES = re.compile(r"\{\d*,?\d*\}")
INSTEAD = "list the names of the modules instead"
Number = TypeVar("Number", int, float)


def check_cost(file: Path, expressions: Iterable[str], keys: Iterable[str]) -> None:
    """Refuse regular expressions that could take forever.

    ``keys`` are those of ``rank_pattern`` and ``alpha_pattern``, before which any prefix may stand.
    """
    steps = 0.0
    for pattern, n_more in [*((each, 0) for each in expressions), *((each, 1) for each in keys)]:
        with blaming(
            file, f"{pattern!r:.80} is not a regular expression ({{}})", re.error, OverflowError, RecursionError
        ):
            if len(pattern) > 10_000:
                raise CheckpointError(file, f"the regular expression {pattern!r:.80} is too long: {INSTEAD}")
            re.compile(pattern)
        steps += _steps(file, pattern, n_more)
        if steps > MOST_STEPS:
            reason = f"the regular expression {pattern!r:.80} could take too long: {INSTEAD}"
            raise CheckpointError(file, reason)


def _steps(file: Path, pattern: str, n_repeats: int) -> float:
    """Bound of the ways in which a search can go: of the repeats over the characters of a name, and of the choices.

    It holds because only single characters are repeated.
    """
    choices, before, place = 1.0, "", 0
    options = [1]  # of the groups that are open
    while place < len(pattern):
        braces = _BRACES.match(pattern, place)
        single = _PART.match(pattern, place)
        assert single is not None, "it matches any character"
        part = braces.group() if braces and before else single.group()
        place += len(part)
        if part in "*+" or (braces and part == braces.group() and before):
            if before == ")":
                reason = f"the regular expression {pattern!r:.80} repeats a group, which could take forever: {INSTEAD}"
                raise CheckpointError(file, reason)
            n_repeats += before not in ("*", "+")
        elif part == "?":
            choices *= 1 if before in ("*", "+") else 2
        elif part == "(?" or (part[0] == "\\" and part[1:].isalnum() and part[1] not in "wWdDsSbBAZ"):
            reason = f"the regular expression {pattern!r:.80} has a construct that is not read here: {INSTEAD}"
            raise CheckpointError(file, reason)
        elif part.startswith("("):
            options.append(1)
        elif part == "|":
            options[-1] += 1
        elif part == ")" and len(options) > 1:
            choices *= options.pop()
        before = part
    choices *= math.prod(options)
    return choices * _LENGTH**n_repeats / math.factorial(n_repeats) if n_repeats < 9 else math.inf


def matches(lora: Lora, name: str) -> bool:
    """Whether peft adapts the module of this name; it does not where the whole module was trained."""
    if isinstance(lora.excluded, str):
        if re.fullmatch(lora.excluded, name):
            return False
    elif ends_with(name, lora.excluded):
        return False
    if any(re.match(rf"(^|.*\.){re.escape(saved)}($|\..*)", name) for saved in lora.saved):
        return False
    if isinstance(lora.targets, str):
        return re.fullmatch(lora.targets, name) is not None
    if name in lora.targets:
        return True
    return ends_with(name, lora.targets) and (not lora.layers or _layer_of(lora, name) in lora.layers)


def ends_with(name: str, ends: tuple[str, ...]) -> bool:
    """Whether a module's name is one of these, or ends with one after a dot."""
    return name in ends or name.endswith(tuple(f".{end}" for end in ends))


def _layer_of(lora: Lora, name: str) -> int | None:
    """Number of the layer in a name: the first one, or the first after one of the patterns."""
    found = None
    if not lora.layers_pattern:
        found = re.match(r".*?\.[^.]*\.(?P<idx>\d+)\.", name)
    for pattern in lora.layers_pattern:
        found = found or re.match(rf"(?:^|.*?\.){re.escape(pattern)}\.(?P<idx>\d+)\.", name)
    return int(found["idx"]) if found else None


def value_of(patterns: Mapping[str, Number], name: str, default: Number) -> Number:
    """The value of the first pattern that matches the end of a module's name."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", name):
            return value
    return patterns.get(name, default)
