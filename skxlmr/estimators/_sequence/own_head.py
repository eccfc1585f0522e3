"""What the outputs of a checkpoint's own head mean to a classifier."""

from pathlib import Path
from typing import Any

from skxlmr.estimators._core.output_labels import PROBLEM_TYPES, read_head
from skxlmr.estimators._sequence.targets import ManyLabels, OneClass, Targets
from skxlmr.estimators.heads import CLASSIFICATION, REGRESSION, Head
from skxlmr.utils._errors import CheckpointError


def targets_of_checkpoint(config: dict[str, Any], file: Path, head: Head, problem_type: str | None) -> Targets:
    """The kind of y that the head predicts, with its classes.

    Parameters
    ----------
    config : dict
        Content of ``config.json``.
    file : Path
        Its place, for errors.
    head : Head
        What the estimator reads.
    problem_type : str or None
        What the user says it is; None is what the file says.

    Raises
    ------
    CheckpointError
        If the file describes something else.
    ValueError
        If what the user says does not fit the number of outputs.
    """
    read, classes = read_head(config, file, head, problem_type)
    if "classes_per_column" in config:
        raise CheckpointError(file, "describes several columns of classes: skxlmr.load opens such an estimator")
    if read == "regression":
        instead = PROBLEM_TYPES[len(classes) == 1]
        if head is CLASSIFICATION:
            found = f"describes a regression: use {REGRESSION.estimator}.from_checkpoint, or"
        else:
            found = "describes a regression, which no estimator of this family reads:"
        raise CheckpointError(file, f"{found} pass problem_type={instead!r} if its outputs are logits of classes")
    if read == ManyLabels.problem_type:
        return ManyLabels(classes)
    if len(classes) > 1:
        return OneClass(classes)
    one_label = f"pass problem_type={ManyLabels.problem_type!r} if it is a label that holds or not"
    if problem_type is not None:
        raise ValueError(
            f"problem_type={problem_type!r} needs two outputs or more, and the checkpoint has one: {one_label}"
        )
    raise CheckpointError(file, f"names only one class, {classes.tolist()[0]!r}: at least two are needed; {one_label}")


def output_of(labels: list[str], parameter: str, wanted: str | None, prefix: str) -> int:
    """The output with the label that the parameter names, or else with the only label that starts with ``prefix``."""
    shown = f"{', '.join(map(repr, labels[:10]))}{', ...' if len(labels) > 10 else ''}"
    if wanted is not None:
        if wanted not in labels:
            raise ValueError(f"{parameter}={wanted!r} is not among the labels of the checkpoint, {shown}")
        return labels.index(wanted)
    found = [i for i, label in enumerate(labels) if label.lower().startswith(prefix)]
    if len(found) != 1:
        raise ValueError(
            f"{'no label' if not found else 'more than one label'} of the checkpoint starts with {prefix!r} ({shown}): use "
            f"one trained for natural language inference, or name its label with {parameter}="
        )
    return found[0]
