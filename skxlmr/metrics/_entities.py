"""Entities in sequences of tags, and scores of predicted entities."""

from collections.abc import Iterable, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skxlmr.utils._sklearn import check_sample_weight
from skxlmr.utils._tables import plain

Tags = Sequence[Sequence[str]] | np.ndarray  # one tag per word, for each row
# Prefixes of each scheme. "BIO" is read leniently, as the CoNLL script does, with any of the four prefixes.
PREFIXES = {"BIO": "BIES", "IOB2": "BI", "IOBES": "BIES"}


def split_tag(tag: str, scheme: str = "BIO") -> tuple[str, str]:
    """Prefix and type of a tag: ``("B", "PER")``, and ``("O", "")`` outside of entities.

    Under ``"plain"``, any tag except ``"O"`` is a type, and neighbours of the same type form one entity.

    Raises
    ------
    ValueError
        If the scheme has no such tag.
    """
    if tag == "O":
        return "O", ""
    if scheme == "plain":
        return "I", tag
    if scheme not in PREFIXES:
        raise ValueError(f"scheme must be one of {', '.join([*PREFIXES, 'plain'])}; found {scheme!r}")
    if not isinstance(tag, str) or tag[1:2] != "-" or tag[0] not in PREFIXES[scheme] or not tag[2:]:
        expected = ", ".join(f"'{prefix}-...'" for prefix in PREFIXES[scheme])
        raise ValueError(f"{tag!r} is not a tag of the scheme {scheme!r}: expected 'O' or {expected}")
    return tag[0], tag[2:]


def entities(tags: Sequence[str], scheme: str = "BIO") -> list[tuple[str, int, int]]:
    """Entities of one row of tags.

    Parameters
    ----------
    tags : sequence of str
        One tag per word.
    scheme : {"BIO", "IOB2", "IOBES", "plain"}
        ``"BIO"`` is lenient: an entity begins at any tag that does not continue the previous one, as in the CoNLL script.
        ``"IOB2"`` and ``"IOBES"`` are strict: an entity begins with ``B-`` (or is a single ``S-``), and in IOBES it counts
        only if it ends with ``E-``. ``"plain"``: neighbours of the same type form one entity.

    Returns
    -------
    list of (type, start, end)
        Words ``start`` to ``end - 1``, in order.
    """
    found = []
    start: int | None = None
    prefix_before, type_before = "O", ""
    for i, tag in enumerate([*map(plain, tags), "O"]):
        prefix, type_ = split_tag(tag, scheme)
        if not (prefix in "IE" and type_ == type_before and prefix_before in "BI"):  # an entity ends before this word
            if start is not None and (scheme != "IOBES" or prefix_before in "ES"):
                found.append((type_before, start, i))
            begins = prefix in "BS" or (scheme in ("BIO", "plain") and prefix in "IE")
            start = i if begins else None
        prefix_before, type_before = prefix, type_
    return found


def precision_recall_f1(
    true: Sequence[Iterable[tuple[Any, ...]]],
    predicted: Sequence[Iterable[tuple[Any, ...]]],
    sample_weight: ArrayLike | None = None,
) -> tuple[float, float, float]:
    """Micro-averaged precision, recall and F1 of the items found in each row; 0 if the denominator is 0."""
    n_true = n_predicted = n_common = 0.0
    for true_row, predicted_row, weight in zip(true, predicted, _weights(sample_weight, true), strict=True):
        true_set, predicted_set = set(true_row), set(predicted_row)
        n_true, n_predicted = n_true + weight * len(true_set), n_predicted + weight * len(predicted_set)
        n_common += weight * len(true_set & predicted_set)
    precision = n_common / n_predicted if n_predicted else 0.0
    recall = n_common / n_true if n_true else 0.0
    return precision, recall, 2 * n_common / (n_true + n_predicted) if n_common else 0.0


def entity_precision_recall_f1(
    y_true: Tags, y_pred: Tags, *, scheme: str = "BIO", sample_weight: ArrayLike | None = None
) -> tuple[float, float, float]:
    """Precision, recall and F1 of entities: an entity is right if its type and both its ends are.

    Parameters
    ----------
    y_true, y_pred : sequence of sequence of str
        For each row, one tag per word.
    scheme : {"BIO", "IOB2", "IOBES", "plain"}
        How tags are read; see Notes.
    sample_weight : array-like of shape (n_rows,), optional
        An entity has the weight of its row.

    Returns
    -------
    precision, recall, f1 : float
        Over the entities of all rows (micro average); 0 if the denominator is 0.

    Raises
    ------
    ValueError
        If the numbers of rows or words differ (the message names the row), or a tag is not in the scheme.

    Notes
    -----
    ``"BIO"`` is lenient about tags that break the rules, like the CoNLL script and seqeval's default: ``I-PER`` after ``O``
    begins an entity. ``"IOB2"`` and ``"IOBES"`` are seqeval's ``mode="strict"``: an entity counts only if it begins (and, in
    IOBES, ends) according to the rules.

    References
    ----------
    .. [1] Tjong Kim Sang and De Meulder (2003), "Introduction to the CoNLL-2003 Shared Task", aclanthology.org/W03-0419.
    .. [2] Nakayama (2018), seqeval, https://github.com/chakki-works/seqeval.

    Examples
    --------
    >>> from skxlmr.metrics import entity_precision_recall_f1
    >>> entity_precision_recall_f1([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "O", "O"]])
    (1.0, 0.5, 0.6666666666666666)
    """
    if len(y_true) != len(y_pred):
        raise ValueError(f"y_true and y_pred must have the same number of rows, found {len(y_true)} and {len(y_pred)}")
    for row, (true, predicted) in enumerate(zip(y_true, y_pred, strict=True)):
        if len(true) != len(predicted):
            raise ValueError(f"row {row}: y_true has {len(true)} tags, y_pred has {len(predicted)}")
    true_entities, predicted_entities = ([entities(list(tags), scheme) for tags in y] for y in (y_true, y_pred))
    return precision_recall_f1(true_entities, predicted_entities, sample_weight)


def entity_f1_score(
    y_true: Tags, y_pred: Tags, *, scheme: str = "BIO", sample_weight: ArrayLike | None = None
) -> float:
    """F1 of entities, micro-averaged; see `entity_precision_recall_f1`.

    Parameters
    ----------
    y_true, y_pred : sequence of sequence of str
        For each row, one tag per word.
    scheme : {"BIO", "IOB2", "IOBES", "plain"}
        How tags are read.
    sample_weight : array-like of shape (n_rows,), optional
        An entity has the weight of its row.

    Returns
    -------
    float

    Examples
    --------
    >>> from skxlmr.metrics import entity_f1_score
    >>> entity_f1_score([["B-PER", "I-PER"]], [["B-PER", "O"]])
    0.0
    """
    return entity_precision_recall_f1(y_true, y_pred, scheme=scheme, sample_weight=sample_weight)[2]


def word_accuracy(y_true: Tags, y_pred: Tags, sample_weight: ArrayLike | None = None) -> float:
    """Share of words whose tags agree, over all rows, each with the weight of its row; 0 without words."""
    weights = _weights(sample_weight, y_true)
    n_words = weights @ np.array([len(row) for row in y_true])
    same = [sum(a == b for a, b in zip(*rows, strict=True)) for rows in zip(y_true, y_pred, strict=True)]
    return float(weights @ np.array(same) / n_words) if n_words else 0.0


def _weights(sample_weight: ArrayLike | None, rows: Sized) -> np.ndarray:
    return check_sample_weight(sample_weight, np.empty(len(rows)), dtype=np.float64, ensure_non_negative=True)
