"""Scores of predicted entities, and of the tags of words."""

from collections.abc import Iterable, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skxlmr.metrics._schemes import IGNORED, entities
from skxlmr.utils._sklearn import check_sample_weight
from skxlmr.utils._tables import as_list

Tags = Sequence[Sequence[Any]] | np.ndarray  # one tag per word, for each row


def precision_recall_f1(
    true: Sequence[Iterable[tuple[Any, ...]]],
    predicted: Sequence[Iterable[tuple[Any, ...]]],
    sample_weight: ArrayLike | None = None,
) -> tuple[float, float, float]:
    """Micro-averaged precision, recall and F1 of the items found in each row; 0 if the denominator is 0."""
    n_true = n_predicted = n_common = 0.0
    for true_row, predicted_row, weight in zip(
        true, predicted, weights_of_rows(sample_weight, true).tolist(), strict=True
    ):
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
        For each row, one tag per word; words with -100 in ``y_true`` are left out.
    scheme : {"BIO", "IOB2", "IOBES", "BILOU", "BMES", "plain"}
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
    begins an entity. The others are seqeval's ``mode="strict"``: an entity counts only if it begins (and, except in IOB2, ends)
    according to the rules. ``"BMES"``, which seqeval lacks, is IOBES in other letters.

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
    true, predicted = ([entities(tags, scheme) for tags in rows] for rows in aligned_tags(y_true, y_pred))
    return precision_recall_f1(true, predicted, sample_weight)


def aligned_tags(y_true: Tags, y_pred: Tags) -> tuple[list[list[Any]], list[list[Any]]]:
    """The true and the predicted tags of each row, without the words that have -100 instead of a true tag.

    Raises
    ------
    ValueError
        If the numbers of rows or words differ; names the row.
    """
    y_true, y_pred = as_list(y_true), as_list(y_pred)
    if len(y_true) != len(y_pred):
        raise ValueError(f"y_true and y_pred must have the same number of rows, found {len(y_true)} and {len(y_pred)}")
    true_rows, predicted_rows = [], []
    for row, (true, predicted) in enumerate(zip(y_true, y_pred, strict=True)):
        if len(true) != len(predicted):
            raise ValueError(f"row {row}: y_true has {len(true)} tags, y_pred has {len(predicted)}")
        pairs = [pair for pair in zip(true, predicted, strict=True) if pair[0] != IGNORED]
        true_rows.append([tag for tag, _ in pairs])
        predicted_rows.append([tag for _, tag in pairs])
    return true_rows, predicted_rows


def entity_f1_score(
    y_true: Tags, y_pred: Tags, *, scheme: str = "BIO", sample_weight: ArrayLike | None = None
) -> float:
    """F1 of entities, micro-averaged; see `entity_precision_recall_f1`.

    Parameters
    ----------
    y_true, y_pred : sequence of sequence of str
        For each row, one tag per word; words with -100 in ``y_true`` are left out.
    scheme : {"BIO", "IOB2", "IOBES", "BILOU", "BMES", "plain"}
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
    """Share of words whose tags agree, over all rows, each with the weight of its row; 0 without words.

    Words with -100 in ``y_true`` are left out.
    """
    true, predicted = aligned_tags(y_true, y_pred)
    weights = weights_of_rows(sample_weight, true)
    n_words = weights @ np.array([len(row) for row in true])
    same = [sum(a == b for a, b in zip(*rows, strict=True)) for rows in zip(true, predicted, strict=True)]
    return float(weights @ np.array(same) / n_words) if n_words else 0.0


def weights_of_rows(sample_weight: ArrayLike | None, rows: Sized) -> np.ndarray:
    """Weight of each row, 1 without weights."""
    return check_sample_weight(sample_weight, np.empty(len(rows)), dtype=np.float64, ensure_non_negative=True)
