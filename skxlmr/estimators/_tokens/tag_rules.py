"""Tag schemes: which one the classes follow, and the most probable sequence of tags that keeps its rules.

Shape legend: n words of a row, K classes.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from skxlmr.metrics._schemes import CLOSED, PREFIXES, split_tag

# Far below any log-probability but finite: where no sequence is allowed, the one with the fewest violations is found.
_FORBIDDEN = -1e6


def detect_scheme(classes: Sequence[Any]) -> str:
    """The first of BIO, IOBES, BILOU and BMES that has all of the classes, else ``"plain"``."""
    entity_tags = [tag for tag in classes if tag != "O"]
    if not entity_tags or not all(isinstance(tag, str) and tag[1:2] == "-" and tag[2:] for tag in entity_tags):
        return "plain"
    prefixes = {tag[0] for tag in entity_tags}
    if prefixes <= set("BI"):
        return "BIO"
    return next((name for name in CLOSED if prefixes <= set(PREFIXES[name])), "plain")


def doubts(classes: Sequence[Any]) -> str | None:
    """Why classes that are read as plain may be meant as the tags of a scheme, if they look like it."""
    tags = [tag for tag in classes if isinstance(tag, str) and tag != "O"]
    if {"B", "I"} <= set(tags) and len("".join(tags)) == len(tags):
        return f"the tags {', '.join(map(repr, tags))} have no types (write 'B-X' for 'B')"
    if {"B", "I"} <= {tag[-1:] for tag in tags} and all(re.fullmatch(".+-[A-Z]", tag) for tag in tags):
        return (
            f"the prefix of {_some(tags)} stands at the end (write {f'{tags[0][-1]}-{tags[0][:-2]}'!r} for {tags[0]!r})"
        )
    like = [tag for tag in tags if re.match("[BI][-_:].", tag, re.IGNORECASE)]
    if not like:
        return None
    strays = [tag for tag in tags if not re.match("[A-Z]-.", tag)]
    if strays:
        return f"{_some(strays)} {'is' if len(strays) == 1 else 'are'} not of the form 'B-X', a prefix and a type"
    return f"no scheme has all of the prefixes {', '.join(sorted({tag[0] for tag in tags}))}"


def _some(tags: Sequence[str]) -> str:
    return ", ".join(map(repr, tags[:3])) + (", ..." if len(tags) > 3 else "")


class TagRules:
    """Which tags may begin a row, follow each other and end a row.

    Parameters
    ----------
    classes : sequence of str
    scheme : {"BIO", "IOB2", "IOBES", "BILOU", "BMES"}
        Under ``"BIO"`` any row is allowed where some type has an ``I-`` but no ``B-``, as in CoNLL-2003 (IOB1): with the rules
        of IOB2 such a type would never be found.

    Raises
    ------
    ValueError
        If the scheme is plain, which has no rules, or a class is not a tag of it.
    """

    def __init__(self, classes: Sequence[str], scheme: str):
        if scheme == "plain":
            raise ValueError(
                "constrained=True needs tags with a scheme, 'O' and 'B-...', 'I-...' and so on; found "
                f"{', '.join(map(repr, list(classes)[:5]))}"
            )
        parts = [split_tag(tag, scheme) for tag in classes]
        opens = [scheme in CLOSED and prefix in "BI" for prefix, _ in parts]  # more of the entity must follow
        begins = "OBSI" if scheme == "BIO" and _is_iob1(parts) else "OBS"
        self.first_K = np.array([0.0 if prefix in begins else _FORBIDDEN for prefix, _ in parts])
        self.last_K = np.array([_FORBIDDEN if open_ else 0.0 for open_ in opens])
        allowed_KK = [
            [(q in "IE" and p in "BI" and s == t) or (q in begins and not open_) for q, t in parts]
            for (p, s), open_ in zip(parts, opens, strict=True)
        ]
        self.next_KK = np.where(allowed_KK, 0.0, _FORBIDDEN)  # from, to

    def decode(self, log_proba_nK: np.ndarray) -> np.ndarray:
        """Classes of the most probable allowed row (Viterbi), (n,) int64."""
        n = len(log_proba_nK)
        best_n = np.zeros(n, np.int64)
        if not n:
            return best_n
        came_from_nK = np.zeros(log_proba_nK.shape, np.int64)
        score_K = self.first_K + log_proba_nK[0]
        for i in range(1, n):
            reached_KK = score_K[:, None] + self.next_KK
            came_from_nK[i] = reached_KK.argmax(0)
            score_K = reached_KK.max(0) + log_proba_nK[i]
        best_n[-1] = (score_K + self.last_K).argmax()
        for i in range(n - 1, 0, -1):
            best_n[i - 1] = came_from_nK[i, best_n[i]]
        return best_n


def _is_iob1(parts: Sequence[tuple[str, str]]) -> bool:
    """Whether some type has no ``B-`` to begin with, so that ``I-`` must be what begins entities."""
    types = {prefix: {type_ for p, type_ in parts if p == prefix} for prefix in "BIES"}
    return bool(types["I"] - types["B"]) and not types["E"] | types["S"]
