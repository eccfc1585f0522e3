"""What a head's outputs mean, as ``config.json`` states it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from skxlmr.estimators.heads import Head, check_architecture
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._warnings import warn_once_per_call

MOST_LABELS = 100_000
MOST_CHARACTERS = 4_000_000  # of an array of labels, where each is as wide as the longest
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


def output_labels(config: dict[str, Any], file: Path) -> list[str]:
    """Label of each output as a text: ``id2label``, or ``LABEL_0 ...`` for ``num_labels`` outputs (2 by default).

    A label that is no text is spelled as in the file. Of equal labels the first keeps its name, and the others get the
    number of their output behind it; a warning says so.

    Raises
    ------
    CheckpointError
        If the ids are not 0, 1, ..., or the labels would fill the memory.
    """
    values = _values(config, file)
    labels = [value if isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values]
    if len(labels) * max(map(len, labels)) > MOST_CHARACTERS:
        raise CheckpointError(
            file, f"id2label is too large: {len(labels)} labels of up to {max(map(len, labels))} characters"
        )
    return _unique(labels, file)


def output_classes(config: dict[str, Any], file: Path) -> np.ndarray:
    """Label of each output as a class: distinct whole numbers and bools stay such, everything else is `output_labels`."""
    values = _values(config, file)
    kinds = set(map(type, values))
    whole = kinds <= {int, float} and all(value == value // 1 and abs(value) < 2**53 for value in values)
    if (whole or kinds == {bool}) and len(set(values)) == len(values):
        return np.array(values)
    return np.array(output_labels(config, file))


def _values(config: dict[str, Any], file: Path) -> list[Any]:
    """What the file says about each output."""
    id2label = config.get("id2label")
    if id2label is None:
        n_labels = config.get("num_labels", 2)
        if isinstance(n_labels, bool) or not isinstance(n_labels, int) or not 1 <= n_labels <= MOST_LABELS:
            raise CheckpointError(
                file, f"num_labels must be a whole number from 1 to {MOST_LABELS}, got {n_labels!r:.80}"
            )
        return [f"LABEL_{i}" for i in range(n_labels)]
    if not isinstance(id2label, dict) or not id2label:
        raise CheckpointError(file, f"id2label must be an object of labels, got {id2label!r:.80}")
    with blaming(file, "id2label must have numbers as names ({})", ValueError):
        by_id = {int(key): label for key, label in id2label.items()}
    if by_id.keys() != set(range(len(by_id))):
        found = ", ".join(map(str, sorted(by_id)[:10]))
        raise CheckpointError(
            file, f"id2label must have a label for each id from 0 to {len(by_id) - 1}, got {found:.80}"
        )
    return [by_id[i] for i in range(len(by_id))]


def _unique(labels: list[str], file: Path) -> list[str]:
    known, seen, repeated = set(labels), set[str](), []
    labels = list(labels)
    for i, label in enumerate(labels):
        if label in seen:
            repeated.append(label)
            while labels[i] in known:
                labels[i] += f" ({i})"
            known.add(labels[i])
        seen.add(label)
    if repeated:
        shown = ", ".join(f"{label!r:.80}" for label in list(dict.fromkeys(repeated))[:3])
        message = f"{file}: id2label gives several outputs the label {shown}: all but the first get their id behind it"
        warn_once_per_call(message, about="id2label")
    return labels


def read_head(
    config: dict[str, Any], file: Path, head: Head, problem_type: str | None = None
) -> tuple[str, np.ndarray]:
    """Problem type and classes (`output_classes`) of a checkpoint with a sequence classification head.

    ``problem_type`` takes the place of what the file says. Without either, one output is a regression and several are
    classes, as in the reference.

    Raises
    ------
    CheckpointError
        If the head is of another task, or its description makes no sense.
    """
    check_architecture(config, file, head)
    classes = output_classes(config, file)
    if problem_type is not None:
        return problem_type, classes
    problem_type = config.get("problem_type")
    if problem_type is None:
        problem_type = "regression" if len(classes) == 1 else "single_label_classification"
    if problem_type not in PROBLEM_TYPES:
        expected = f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {problem_type!r:.80}"
        raise CheckpointError(file, f"{expected}: pass problem_type= to from_checkpoint to say what it is")
    return problem_type, classes


def labels_config(labels: list[str]) -> dict[str, Any]:
    """The names of a head's outputs as ``config.json`` states them."""
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def check_problem_type(problem_type: Any, name: str, allowed: tuple[str, ...], other: str) -> None:
    """Check that the user's ``problem_type`` is one that the estimator ``name`` reads; ``other`` reads the others.

    Raises
    ------
    ValueError
        If it is not.
    """
    if problem_type is None or (isinstance(problem_type, str) and problem_type in allowed):
        return
    if isinstance(problem_type, str) and problem_type in PROBLEM_TYPES:
        raise ValueError(f"problem_type={problem_type!r} is not for {name}: use {other}.from_checkpoint")
    raise ValueError(
        f"problem_type must be None or {' or '.join(map(repr, allowed))} for {name}, got {problem_type!r:.80}"
    )
