"""What X and y are, and so which losses may be learnt from them.

Shape suffixes: N rows, K columns of texts, W features of a teacher's vectors.
"""

from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils.validation import check_consistent_length

from skxlmr.estimators._sequence.targets import one_label_per_row
from skxlmr.utils._containers import known_container
from skxlmr.utils._labels import check_labels, columns_of, plain_array, read_numbers, warn_of_texts
from skxlmr.utils._tables import as_list, column_names, split_columns
from skxlmr.utils._validation import NoTextsError, Texts, text_columns

CLASSES, PAIRS, SCORES, VECTORS = "classes", "pairs", "scores", "vectors"
LOSSES = {  # of each kind of data, the default first
    CLASSES: ("supervised_contrastive", "contrastive_pairs"),
    PAIRS: ("multiple_negatives_ranking",),
    SCORES: ("cosent", "cosine"),
    VECTORS: ("distillation",),
}
ALL_LOSSES = tuple(loss for of_kind in LOSSES.values() for loss in of_kind)
MOST_COLUMNS = 3  # anchor, positive, hard negative
_SAID = {
    CLASSES: "one column of texts with a class for each",
    PAIRS: "two or three columns of texts without y",
    SCORES: "two columns of texts with a number for each row",
    VECTORS: "one column of texts with a teacher's vector for each (y of floats, in two dimensions)",
}


def chosen_loss(loss: str, kind: str) -> str:
    """The loss for data of this kind.

    Raises
    ------
    ValueError
        If ``loss`` names one that is for other data.
    """
    if loss == "auto":
        return LOSSES[kind][0]
    if loss in LOSSES[kind]:
        return loss
    wanted = next(_SAID[other] for other, names in LOSSES.items() if loss in names)
    fitting = " or ".join(map(repr, LOSSES[kind]))
    raise ValueError(f"loss={loss!r} needs {wanted}, but X and y are {_SAID[kind]}: for these, set loss={fitting}")


def read_columns(X: Any, name: str, missing: str | None) -> list[list[str]]:
    """The columns of texts of X, one to three.

    Raises
    ------
    ValueError
        If a value is no text (names the row), or the last column is of numbers, which belong into y.
    """
    try:
        columns = text_columns(X, name, missing)
    except NoTextsError as error:
        _, *last = split_columns(known_container(X, name), name)
        if last and all(isinstance(value, Real) for value in as_list(last[-1])):
            which = repr(column_names(X)[-1]) if column_names(X) else "the last one"
            raise ValueError(
                f"{name} has {1 + len(last)} columns, and {which} holds numbers and no texts: pass the numbers as y, and "
                "the columns of texts alone as X"
            ) from error
        raise
    if not 1 <= len(columns) <= MOST_COLUMNS:
        raise ValueError(
            f"{name} must have one column of texts, or two or three of texts to compare, got {len(columns)} columns"
        )
    return columns


def read_targets(texts: Texts, y: Any, name: str) -> tuple[str, np.ndarray]:
    """What X and y are, and the targets.

    Parameters
    ----------
    texts : Texts
        Columns of texts, one after another.
    y : object
    name : str
        Name of y in errors.

    Returns
    -------
    kind : {"classes", "pairs", "scores", "vectors"}
    targets : ndarray
        Codes of the classes (N,) int64; numbers of the texts (N, K) int64, equal for equal texts; numbers (N,) float32; or
        vectors (N, W) float32.

    Raises
    ------
    ValueError
        If y is nothing to learn vectors from, or does not fit X.
    """
    n_columns = texts.side_by_side
    if y is None:
        if n_columns == 1:
            raise ValueError(
                f"X has one column of texts and {name} is None, so that there is nothing to compare: pass {name}, classes or a "
                "teacher's vectors, or pairs of texts in two columns"
            )
        return PAIRS, _text_numbers(texts)
    if n_columns == 3:
        raise ValueError(
            f"X has three columns, for texts, positives and hard negatives, which are learnt from without {name}"
        )
    if n_columns == 2:
        return SCORES, _read_scores(texts, y, name)
    columns = columns_of(y, name)
    if columns is not None:
        return VECTORS, _read_vectors(texts, y, columns, name)
    return CLASSES, _read_classes(texts, y, name)


def _text_numbers(texts: Texts) -> np.ndarray:
    numbers: dict[str, int] = {}
    found = [numbers.setdefault(text, len(numbers)) for text in texts.first]
    return np.array(found, np.int64).reshape(texts.side_by_side, -1).T.copy()


def _read_scores(texts: Texts, y: Any, name: str) -> np.ndarray:
    labels = plain_array(y)
    if labels.size and isinstance(labels.ravel().tolist()[0], str):
        raise ValueError(
            f"{name} holds texts, such as {labels.ravel().tolist()[0]!r:.60}, but X has pairs of texts, and {name} is to say "
            "how similar they are: pass numbers, or one column of texts with these classes"
        )
    numbers = read_numbers(y, name)
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    if numbers.ndim != 1:
        raise ValueError(f"{name} must have one number for each pair of texts, got shape {numbers.shape}")
    check_consistent_length(texts, numbers)
    return _as_float32(numbers, name)


def _read_vectors(texts: Texts, y: Any, columns: list[np.ndarray], name: str) -> np.ndarray:
    if not all(column.dtype.kind == "f" for column in columns):
        raise ValueError(
            f"{name} has {len(columns)} columns that are not all floats: a teacher's vectors are floats; of several labels or "
            "columns of classes no vectors are learnt, pass one class for each text"
        )
    vectors = read_numbers(y, name)
    check_consistent_length(texts, vectors)
    return _as_float32(vectors, name)


def _read_classes(texts: Texts, y: Any, name: str) -> np.ndarray:
    labels = plain_array(y)
    _refuse_column_of_vectors(labels, name)
    check_labels(labels, name)
    if labels.dtype.kind == "f" and (labels != np.floor(labels)).any():
        row = int(np.flatnonzero(labels != np.floor(labels))[0])
        raise ValueError(
            f"{name} row {row} is {labels.ravel().tolist()[row]!r}: one number for each text is no class and no vector. To "
            "predict numbers, use XLMRobertaRegressor; for how similar two texts are, pass two columns of texts; for a "
            f"teacher's vectors, {name} in two dimensions"
        )
    labels = one_label_per_row(y, name)
    codes = np.unique(labels, return_inverse=True)[1].astype(np.int64)
    check_consistent_length(texts, codes)
    warn_of_texts(labels, 1 + codes.max(initial=0), name)
    return codes


def _refuse_column_of_vectors(labels: np.ndarray, name: str) -> None:
    """A column whose values are vectors is no array in two dimensions."""
    values = labels.tolist() if labels.dtype == object and labels.ndim == 1 else []
    if not values or not all(isinstance(value, list | tuple | np.ndarray) for value in values):
        return
    if not all(isinstance(number, Real) for number in values[0]):
        return
    widths = list(map(len, values))
    row = next((row for row, width in enumerate(widths) if width != widths[0]), None)
    if row is None:
        raise ValueError(f"{name} is a column of vectors: pass a teacher's vectors in two dimensions, np.stack({name})")
    raise ValueError(f"{name} row {row}: expected a vector of {widths[0]} features, as in row 0, got {widths[row]}")


def _as_float32(numbers: np.ndarray, name: str) -> np.ndarray:
    huge = np.flatnonzero((np.abs(numbers) > np.finfo(np.float32).max).reshape(len(numbers), -1).any(1))
    if len(huge):
        raise ValueError(f"{name} row {huge[0]}: {numbers[huge[0]].tolist()!r:.60} is too large for float32")
    return numbers.astype(np.float32)


def check_learnable(loss: str, targets: np.ndarray, name: str) -> None:
    """Refuse targets of a fit in which nothing differs, or that the loss has no use for.

    Raises
    ------
    ValueError
    """
    if loss in LOSSES[CLASSES]:
        counts = np.bincount(targets)
        if len(counts) < 2:
            raise ValueError(f"{name} has only one class: at least two are needed")
        if counts.max() < 2:
            raise ValueError(
                f"each class of {name} has only one row: at least two rows of a class are needed to compare them. Pairs of "
                "texts are one argument: fit(list(zip(first, second)))"
            )
    elif loss in LOSSES[PAIRS] and targets.shape == (1, 2):
        raise ValueError("X has one pair, and the negatives of a pair are the texts of others: at least two are needed")
    elif loss == "cosent" and (targets == targets[:1]).all():
        raise ValueError(
            f"{name} is {targets[0]:g} for all rows, and loss='cosent' learns their order: it needs two values"
        )
    elif loss == "cosine" and (np.abs(targets) > 1).any():
        row = int(np.argmax(np.abs(targets) > 1))
        raise ValueError(
            f"{name} row {row} is {targets[row]:g}, and loss='cosine' learns the cosine itself, which is from -1 to 1: scale "
            f"{name}, such as by its largest possible value, or set loss='cosent', which learns the order alone"
        )


def check_left(loss: str, targets: np.ndarray) -> None:
    """The same for what ``early_stopping`` leaves of them."""
    try:
        check_learnable(loss, targets, "y")
    except ValueError as error:
        raise ValueError(
            f"early_stopping leaves too little to train on: without the rows that it sets aside, {error}. Pass more rows, or "
            "X_val"
        ) from None


def too_few(loss: str, targets: np.ndarray) -> str | None:
    """What validation data have only one of, if nothing can be compared in them."""
    if loss in LOSSES[CLASSES]:
        counts = np.bincount(targets)
        return "one text of each class" if counts.max() < 2 else "one class" if np.count_nonzero(counts) < 2 else None
    return "one row" if loss in LOSSES[SCORES] and len(targets) < 2 else None
