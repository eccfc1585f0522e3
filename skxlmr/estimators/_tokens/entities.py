"""Entities from the class probabilities of a text's tokens, read as the pipeline of ``transformers`` reads them.

Shape legend: n tokens of a text, m units (tokens, or words) whose tags are chosen, K classes.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from skxlmr.metrics._schemes import split_tag
from skxlmr.utils._words import separates_words, trim

AGGREGATIONS = ("none", "simple", "first", "average", "max", "word")


def find_entities(
    text: str,
    places_n2: np.ndarray,
    is_unknown_n: np.ndarray,
    proba_nK: np.ndarray,
    labels: Sequence[str],
    *,
    scheme: str,
    aggregation: str,
    choose: Callable[[np.ndarray], np.ndarray],
    ignore_labels: Collection[str],
) -> list[dict[str, Any]]:
    """Entities of one text.

    Parameters
    ----------
    text : str
    places_n2 : ndarray of shape (n_tokens, 2)
        Where each token begins and ends, with ``"word"`` each word.
    is_unknown_n : ndarray of bool
        Which tokens are unknown; an unknown token begins a word.
    proba_nK : ndarray of shape (n_tokens, n_classes)
    labels : sequence of str
        Name of each class.
    scheme : str
        What their prefixes mean.
    aggregation : {"none", "simple", "first", "average", "max", "word"}
    choose : callable
        Class of each unit, (m,), from scores (m, K).
    ignore_labels : collection of str
        Labels that are left out.

    Returns
    -------
    list of dict
    """
    starts, ends = places_n2.T.tolist()
    # a token that shows no character of the text (the mark of the first word) stands for the character after it
    ends = [min(start + 1, len(text)) if start == end else end for start, end in zip(starts, ends, strict=True)]
    units = [[i] for i in range(len(starts))]
    if aggregation in ("first", "average", "max"):
        units = _words(text, starts, is_unknown_n)
    if not units:
        return []
    scores_mK = np.stack([_unit_scores(proba_nK[unit], aggregation) for unit in units])
    codes = choose(scores_mK)
    chosen = [labels[code] for code in codes]
    scores = scores_mK[np.arange(len(units)), codes]

    groups = _groups([_parts(label, scheme) for label in chosen], merge=aggregation != "none")
    found = []
    for group in groups:
        first, last = units[group[0]][0], units[group[-1]][-1]
        label = chosen[group[0]] if aggregation == "none" else _parts(chosen[group[0]], scheme)[1]
        if label in ignore_labels or chosen[group[0]] in ignore_labels:
            continue
        start, end = _shown(text, starts[first], ends[last])
        entity = {"entity": label} if aggregation == "none" else {"entity_group": label}
        entity |= {"score": float(scores[group].mean()), "word": text[start:end], "start": start, "end": end}
        if aggregation == "none":
            entity["index"] = first + 1  # the special token before the text has index 0
        found.append(entity)
    return found


def _words(text: str, starts: list[int], is_unknown_n: np.ndarray) -> list[list[int]]:
    """Tokens of each word: a token continues the word before it unless a space or an unknown token separates them."""
    words: list[list[int]] = []
    for i, start in enumerate(starts):
        at_border = start == 0 or any(map(separates_words, text[start - 1 : start + 1])) or is_unknown_n[i]
        if at_border or not words:
            words.append([i])
        else:
            words[-1].append(i)
    return words


def _unit_scores(proba_nK: np.ndarray, aggregation: str) -> np.ndarray:
    if aggregation == "average":
        return proba_nK.mean(0)
    if aggregation == "max":
        return proba_nK[proba_nK.max(1).argmax()]
    return proba_nK[0]


def _parts(label: str, scheme: str) -> tuple[str, str]:
    """Meaning of the prefix, and type; a label without a prefix continues an entity of the same label."""
    if scheme in ("BILOU", "BMES"):
        return split_tag(label, scheme)
    return (label[0], label[2:]) if label[:1] in "BIES" and label[1:2] == "-" else ("I", label)


def _groups(parts: list[tuple[str, str]], merge: bool) -> list[list[int]]:
    """Neighbours of one type, separated where a tag begins or ends an entity."""
    groups: list[list[int]] = []
    before = ("", "")
    for i, (prefix, type_) in enumerate(parts):
        if merge and i and type_ == before[1] and prefix not in "BS" and before[0] not in "ES":
            groups[-1].append(i)
        else:
            groups.append([i])
        before = (prefix, type_)
    return groups


def _shown(text: str, start: int, end: int) -> tuple[int, int]:
    """The same part without what is not seen at its ends; a mark of a word's beginning stands for the character after it."""
    shown_start, shown_end = trim(text, start, end)
    if shown_start < shown_end:
        return shown_start, shown_end
    after, _ = trim(text, end, len(text))
    return trim(text, after, after + 1) if after < len(text) else (start, end)
