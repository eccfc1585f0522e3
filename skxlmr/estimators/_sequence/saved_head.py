"""What a checkpoint says about the outputs of its own sequence classification head."""

from pathlib import Path
from typing import Any

from skxlmr.estimators._core.output_labels import output_labels
from skxlmr.estimators.heads import Head, check_architecture
from skxlmr.utils._errors import CheckpointError

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


def read_head(config: dict[str, Any], file: Path, head: Head) -> tuple[str, list[str]]:
    """Problem type and output labels of a checkpoint with a sequence classification head.

    Without a ``problem_type`` one output is a regression and several are classes, as in the reference.

    Raises
    ------
    CheckpointError
        If the head is of another task, or its description makes no sense.
    """
    check_architecture(config, file, head)
    labels = output_labels(config, file)
    problem_type = config.get("problem_type")
    if problem_type is None:
        problem_type = "regression" if len(labels) == 1 else "single_label_classification"
    if problem_type not in PROBLEM_TYPES:
        raise CheckpointError(file, f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {problem_type!r:.80}")
    return problem_type, labels
