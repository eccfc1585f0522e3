"""Names of a head's outputs, as ``config.json`` states them."""

from pathlib import Path
from typing import Any

from skxlmr.utils._errors import CheckpointError

MOST_LABELS = 100_000
MOST_CHARACTERS = 4_000_000  # of an array of labels, where each is as wide as the longest


def output_labels(config: dict[str, Any], file: Path) -> list[str]:
    """Label of each output: ``id2label``, or ``LABEL_0 ...`` for ``num_labels`` outputs (2 by default).

    Raises
    ------
    CheckpointError
        If the ids are not 0, 1, ..., or a label is not a string or occurs twice.
    """
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
    found = [id2label.get(str(i)) for i in range(len(id2label))]
    labels = [label for label in found if isinstance(label, str)]
    if len(labels) < len(found):
        raise CheckpointError(file, f"id2label must have a text for each id from 0 to {len(found) - 1}")
    if len(set(labels)) < len(labels):
        raise CheckpointError(file, "id2label gives two outputs the same label")
    if len(labels) * max(map(len, labels)) > MOST_CHARACTERS:
        raise CheckpointError(
            file, f"id2label is too large: {len(labels)} labels of up to {max(map(len, labels))} characters"
        )
    return labels


def labels_config(labels: list[str]) -> dict[str, Any]:
    """The names of a head's outputs as ``config.json`` states them."""
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }
