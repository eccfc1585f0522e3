"""Precision, recall and F1 of each type of entity, as scikit-learn's ``classification_report`` shows classes."""

from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.exceptions import UndefinedMetricWarning

from skxlmr.metrics._entities import Tags, aligned_tags, weights_of_rows
from skxlmr.metrics._schemes import entities
from skxlmr.utils._tables import as_list, describe, plain
from skxlmr.utils._warnings import warn_once_per_call
from skxlmr.utils._whole_numbers import whole_number
from skxlmr.utils._words import trim

Items = list[set[tuple[str, int, int]]]  # (type, start, end) of each row
Report = dict[str, dict[str, float]]
_AVERAGES = {"micro avg", "macro avg", "weighted avg"}
COLUMNS = ("precision", "recall", "f1-score", "support")


@overload
def entity_report(
    y_true: Tags,
    y_pred: Tags,
    *,
    scheme: str = "BIO",
    texts: Iterable[str] | None = None,
    sample_weight: ArrayLike | None = None,
    digits: int = 2,
    output_dict: Literal[False] = False,
    zero_division: str | float = "warn",
) -> str: ...


@overload
def entity_report(
    y_true: Tags,
    y_pred: Tags,
    *,
    scheme: str = "BIO",
    texts: Iterable[str] | None = None,
    sample_weight: ArrayLike | None = None,
    digits: int = 2,
    output_dict: Literal[True],
    zero_division: str | float = "warn",
) -> Report: ...


def entity_report(
    y_true: Tags,
    y_pred: Tags,
    *,
    scheme: str = "BIO",
    texts: Iterable[str] | None = None,
    sample_weight: ArrayLike | None = None,
    digits: int = 2,
    output_dict: bool = False,
    zero_division: str | float = "warn",
) -> str | Report:
    """Precision, recall, F1 and support of each type of entity, and their averages.

    Read more in :doc:`/token_classification`.

    Parameters
    ----------
    y_true, y_pred : sequence of sequence
        For each row, one tag per word; words with -100 in ``y_true`` are left out. With ``texts``, the spans of each text:
        ``(start, end, label)`` or dicts with these keys.
    scheme : {"BIO", "IOB2", "IOBES", "BILOU", "BMES", "plain"}
        How tags are read, see `entity_precision_recall_f1`.
    texts : iterable of str, optional
        The texts of spans. White space and invisible characters at the ends of spans do not count.
    sample_weight : array-like of shape (n_rows,), optional
        An entity has the weight of its row.
    digits : int
        Decimals of the numbers in the table.
    output_dict : bool
        Return a dict instead of a table.
    zero_division : {"warn", 0.0, 1.0, nan}
        Precision of a type that was never predicted and recall of a type that never occurs. ``"warn"`` is 0 with an
        ``UndefinedMetricWarning``. With nan, macro and weighted averages leave such values out.

    Returns
    -------
    str or dict
        A row for each type, and the averages ``"micro avg"``, ``"macro avg"`` and ``"weighted avg"`` (by support); in the dict
        ``{"precision": ..., "recall": ..., "f1-score": ..., "support": ...}`` for each of these.

    Raises
    ------
    ValueError
        If the numbers of rows or words differ, or a span does not lie within its text (the message names the row), a tag is not
        in the scheme, or a type has the name of an average.

    See Also
    --------
    sklearn.metrics.classification_report : The same for classes.
    entity_precision_recall_f1 : The micro average alone.

    References
    ----------
    .. [1] Nakayama (2018), seqeval, https://github.com/chakki-works/seqeval.

    Examples
    --------
    >>> from skxlmr.metrics import entity_report
    >>> true, predicted = [["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "I-PER", "B-LOC", "B-LOC"]]
    >>> print(entity_report(true, predicted))
                  precision    recall  f1-score   support
    <BLANKLINE>
             LOC       0.50      1.00      0.67         1
             PER       1.00      1.00      1.00         1
    <BLANKLINE>
       micro avg       0.67      1.00      0.80         2
       macro avg       0.75      1.00      0.83         2
    weighted avg       0.75      1.00      0.83         2
    <BLANKLINE>
    """
    if zero_division != "warn" and zero_division not in (0, 1) and zero_division == zero_division:
        raise ValueError(f"zero_division must be 'warn', 0.0, 1.0 or nan, got {zero_division!r}")
    digits = whole_number(digits, "digits", least=0)
    if texts is None:
        true, predicted = ([set(entities(tags, scheme)) for tags in rows] for rows in aligned_tags(y_true, y_pred))  # type: tuple[Items, Items]
    else:
        texts = as_list(texts)
        true, predicted = (_items(y, texts, name) for y, name in ((y_true, "y_true"), (y_pred, "y_pred")))
    found = {type_ for row in (*true, *predicted) for type_, _, _ in row}
    types = sorted(found, key=lambda type_: (type(type_).__name__, type_))  # texts beside numbers have no order
    if taken := _AVERAGES & {*types}:
        raise ValueError(f"entities of the type {min(taken)!r} have the name of a row of the report: rename it")
    counts_K3 = _counts(true, predicted, types, weights_of_rows(sample_weight, true))
    table_K4, undefined = _scores(counts_K3, zero_division)
    micro_14, _ = _scores(counts_K3.sum(0, keepdims=True), zero_division)
    if zero_division == "warn" and undefined:
        warn_once_per_call(
            f"no entity of {', '.join(repr(types[i]) for i in undefined)} is predicted, or none is true: precision or recall "
            "is undefined and set to 0. zero_division chooses another value",
            UndefinedMetricWarning,
        )
    rows = dict(zip(types, table_K4, strict=True))
    report = {
        name: dict(zip(COLUMNS, map(float, values), strict=True))
        for name, values in (rows | _averages(micro_14[0], table_K4)).items()
    }
    return report if output_dict else _as_table(report, len(types), digits, sample_weight is None)


def _items(y: Tags, texts: list[str], name: str) -> Items:
    """Spans as items, trimmed."""
    y = as_list(y)
    if len(y) != len(texts):
        raise ValueError(f"{name} has {len(y)} rows for {len(texts)} texts")
    found: Items = []
    for row, (spans, text) in enumerate(zip(y, texts, strict=True)):
        if not isinstance(text, str):
            raise ValueError(f"texts row {row}: expected a text, got {describe(text)}")
        if isinstance(spans, str | Mapping) or not isinstance(spans, Iterable):
            raise ValueError(f"{name} row {row}: expected a list of spans (start, end, label), got {describe(spans)}")
        found.append({_item(span, text, f"{name} row {row}") for span in spans})
    return found


def _item(span: Any, text: str, where: str) -> tuple[Any, int, int]:
    values: Any = [span.get(key) for key in ("start", "end", "label")] if isinstance(span, Mapping) else span
    if (
        not isinstance(values, list | tuple | np.ndarray)
        or len(values) != 3
        or None in values
        or not isinstance(values[2], Hashable)
    ):
        raise ValueError(f"{where}: expected a span (start, end, label), got {span!r}")
    start, end, label = values
    whole = int | np.integer
    if not (isinstance(start, whole) and isinstance(end, whole) and 0 <= start <= end <= len(text)):
        raise ValueError(
            f"{where}: start and end of the span {span!r} must be whole numbers from 0 to {len(text)}, the length of the text"
        )
    return plain(label), *trim(text, int(start), int(end))


def _counts(true: Items, predicted: Items, types: list[str], weights: np.ndarray) -> np.ndarray:
    """Weight of the entities of each type that are right, predicted and true, (n_types, 3)."""
    code_of = {type_: code for code, type_ in enumerate(types)}
    counts_K3 = np.zeros((len(types), 3))
    for true_row, predicted_row, weight in zip(true, predicted, weights, strict=True):
        for column, items in enumerate((true_row & predicted_row, predicted_row, true_row)):
            for type_, _, _ in items:
                counts_K3[code_of[type_], column] += weight
    return counts_K3


def _scores(counts_K3: np.ndarray, zero_division: str | float) -> tuple[np.ndarray, list[int]]:
    """Precision, recall, F1 and support of each row of counts, and which rows have an undefined one."""
    right, predicted, true = counts_K3.T
    otherwise = 0.0 if zero_division == "warn" else float(zero_division)
    scores = [
        np.divide(above, below, out=np.full(len(right), otherwise), where=below > 0)
        for above, below in ((right, predicted), (right, true), (2 * right, predicted + true))
    ]
    return np.stack([*scores, true], axis=1), np.flatnonzero((predicted == 0) | (true == 0)).tolist()


def _averages(micro_4: np.ndarray, table_K4: np.ndarray) -> dict[str, np.ndarray]:
    averages = {"micro avg": micro_4}
    support = table_K4[:, 3]
    for name, weights in (("macro avg", np.ones_like(support)), ("weighted avg", support)):
        values = [_average(column, weights) for column in table_K4[:, :3].T] if len(support) else micro_4[:3]
        averages[name] = np.array([*values, support.sum()])
    return averages


def _average(values: np.ndarray, weights: np.ndarray) -> float:
    """Average of the values that are defined, of all alike where none has a weight."""
    defined = ~np.isnan(values)
    if not defined.any():
        return float("nan")
    values, weights = values[defined], weights[defined]
    return float(np.average(values, weights=weights if weights.any() else None))


def _as_table(report: Report, n_types: int, digits: int, counted: bool) -> str:
    """The layout of scikit-learn."""
    width = max(len(str(name)) for name in [*report, "weighted avg"])
    lines = [" " * (width + 1) + "".join(f" {name:>9}" for name in COLUMNS), ""]
    for i, (name, values) in enumerate(report.items()):
        if i == n_types and n_types:
            lines.append("")
        scores = "".join(f" {values[column]:>9.{digits}f}" for column in COLUMNS[:3])
        support = f" {values['support']:>9.0f}" if counted else f" {values['support']:>9.{digits}f}"
        lines.append(f"{name:>{width}} {scores}{support}")
    return "\n".join(lines) + "\n"
