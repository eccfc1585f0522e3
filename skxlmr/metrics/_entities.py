"""Scores of predicted entities, and of the tags of words."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from skxlmr.metrics._schemes import IGNORED, entities, refuse_ignored_text
from skxlmr.utils._sklearn import check_sample_weight
from skxlmr.utils._tables import as_list, describe

Tags = Sequence[Sequence[Any]] | np.ndarray  # one tag per word, for each row


def precision_recall_f1(
    true: Sequence[Iterable[tuple[Any, ...]]],
    predicted: Sequence[Iterable[tuple[Any, ...]]],
    sample_weight: ArrayLike | None = None,
) -> tuple[float, float, float]:
    """Precision, recall and F1 of whatever is found in each row, micro-averaged over the rows.

    Parameters
    ----------
    true, predicted : sequence of iterables of tuples
        What is there and what was found, in each row: spans ``(start, end, label)``, or other tuples that are equal where they
        are right.
    sample_weight : array-like of shape (n_rows,), optional
        What is in a row has its weight.

    Returns
    -------
    precision : float
        Share of what was found that is there; 0 if nothing was found.
    recall : float
        Share of what is there that was found; 0 if nothing is there.
    f1 : float
        Harmonic mean of both; 0 if nothing was found rightly.

    Raises
    ------
    ValueError
        If the numbers of rows differ.

    See Also
    --------
    entity_precision_recall_f1 : The same for tags of words.

    Examples
    --------
    >>> from skxlmr.metrics import precision_recall_f1
    >>> true = [[(0, 4, "PER"), (13, 16, "LOC")], []]
    >>> predicted = [[(0, 4, "PER")], [(2, 5, "LOC")]]
    >>> precision_recall_f1(true, predicted)
    (0.5, 0.5, 0.5)
    """
    if len(true) != len(predicted):
        raise ValueError(
            f"true and predicted must have the same number of rows, found {len(true)} and {len(predicted)}"
        )
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

    Read more in :doc:`/token_classification`.

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
    precision : float
        Share of the predicted entities, over all rows (micro average), that are right; 0 if there are none.
    recall : float
        Share of the true entities that were predicted; 0 if there are none.
    f1 : float
        Harmonic mean of both; 0 if no entity is right.

    Raises
    ------
    ValueError
        If the numbers of rows or words differ (the message names the row), or a tag is not in the scheme.

    See Also
    --------
    entity_f1_score : F1 alone, as searches need it.
    entity_report : The same for each type of entity.
    entities : How tags become entities.

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
    >>> true, predicted = [["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "O", "O"]]
    >>> precision, recall, f1 = entity_precision_recall_f1(true, predicted)
    >>> precision, recall, round(f1, 2)
    (1.0, 0.5, 0.67)
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
        for name, tags in (("y_true", true), ("y_pred", predicted)):
            if isinstance(tags, str) or not hasattr(tags, "__len__"):
                raise ValueError(
                    f"{name} row {row}: expected a sequence with a tag for each word, got {describe(tags)}"
                )
            span = next((tag for tag in tags if isinstance(tag, tuple | Mapping)), None)
            if span is not None:
                raise ValueError(
                    f"{name} row {row}: expected a tag for each word, got {describe(span)}: of spans of texts "
                    "entity_report(y_true, y_pred, texts=texts) makes a report"
                )
            refuse_ignored_text(tags, f"{name} row {row}")
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
        From 0 to 1.

    Raises
    ------
    ValueError
        If the numbers of rows or words differ (the message names the row), or a tag is not in the scheme.

    See Also
    --------
    entity_precision_recall_f1 : Precision and recall beside it.
    entity_report : The same for each type of entity.
    skxlmr.XLMRobertaTokenClassifier : Predicts tags.

    Examples
    --------
    >>> from skxlmr.metrics import entity_f1_score
    >>> true = [["B-PER", "I-PER", "O", "B-LOC"]]
    >>> entity_f1_score(true, [["B-PER", "I-PER", "O", "B-LOC"]])
    1.0
    >>> entity_f1_score(true, [["B-PER", "O", "O", "B-LOC"]])  # half of a name is not the name
    0.5
    """
    return entity_precision_recall_f1(y_true, y_pred, scheme=scheme, sample_weight=sample_weight)[2]


def word_accuracy(y_true: Tags, y_pred: Tags, sample_weight: ArrayLike | None = None) -> float:
    """Share of words whose tags agree, over all rows.

    Parameters
    ----------
    y_true, y_pred : sequence of sequence
        For each row, one tag per word; words with -100 in ``y_true`` are left out.
    sample_weight : array-like of shape (n_rows,), optional
        A word has the weight of its row.

    Returns
    -------
    float
        From 0 to 1; 0 without words.

    Raises
    ------
    ValueError
        If the numbers of rows or words differ; names the row.

    See Also
    --------
    entity_f1_score : Counts entities, not words: most words are in none.

    Examples
    --------
    >>> from skxlmr.metrics import word_accuracy
    >>> word_accuracy([["NOUN", "VERB"], ["DET", "NOUN"]], [["NOUN", "VERB"], ["DET", "VERB"]])
    0.75
    """
    true, predicted = aligned_tags(y_true, y_pred)
    weights = weights_of_rows(sample_weight, true)
    n_words = weights @ np.array([len(row) for row in true])
    same = [sum(a == b for a, b in zip(*rows, strict=True)) for rows in zip(true, predicted, strict=True)]
    return float(weights @ np.array(same) / n_words) if n_words else 0.0


def weights_of_rows(sample_weight: ArrayLike | None, rows: Sized) -> np.ndarray:
    """Weight of each row, 1 without weights."""
    if sample_weight is None:
        return np.ones(len(rows))  # of no rows too
    return check_sample_weight(sample_weight, np.empty(len(rows)), dtype=np.float64, ensure_non_negative=True)
