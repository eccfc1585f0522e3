"""What the estimators of one prediction a text share."""

from pathlib import Path
from typing import Any

import numpy as np

from skxlmr.estimators._fine_tuned import FineTunedXLMRoberta
from skxlmr.estimators._labels import output_labels
from skxlmr.estimators._long_text import LongTexts
from skxlmr.estimators._readers import FIRST_TOKEN, check_head
from skxlmr.nn import ModelConfig, TaskModule, XLMRobertaForSequenceClassification
from skxlmr.utils._errors import CheckpointError

PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


class SequenceEstimator(LongTexts, FineTunedXLMRoberta):
    """What the classifier and the regressor share: the head on the first token's vector."""

    _parameter_constraints: dict = {**FineTunedXLMRoberta._parameter_constraints, **LongTexts._parameter_constraints}
    _head = "classifier"
    _needs_both_sides = FIRST_TOKEN

    def _n_outputs(self) -> int:
        raise NotImplementedError

    def _build(self, config: ModelConfig) -> TaskModule:
        return XLMRobertaForSequenceClassification(config, self._n_outputs())

    def _problem_type(self) -> str | None:
        """What the reference calls the kind of targets."""
        raise NotImplementedError

    def _hub_config(self):
        labels = self._output_names()
        return {
            "architectures": ["XLMRobertaForSequenceClassification"],
            "problem_type": self._problem_type(),
            "id2label": {str(i): label for i, label in enumerate(labels)},
            "label2id": {label: i for i, label in enumerate(labels)},
        }

    def _output_names(self) -> list[str]:
        raise NotImplementedError

    def _outputs(self, X: Any) -> np.ndarray:
        """Outputs of the head, (n_rows, n_outputs) float32."""
        module = self._module_on_device()
        texts = self._check_X(X, reset=False)
        return self._infer_texts(module, texts)


def read_head(config: dict[str, Any], file: Path) -> tuple[str, list[str]]:
    """Problem type and output labels of a checkpoint with a sequence classification head.

    Without a ``problem_type`` one output is a regression and several are classes, as in the reference.

    Raises
    ------
    CheckpointError
        If the head is of another task, or its description makes no sense.
    """
    check_head(config, file, "ForSequenceClassification")
    labels = output_labels(config, file)
    problem_type = config.get("problem_type")
    if problem_type is None:
        problem_type = "regression" if len(labels) == 1 else "single_label_classification"
    if problem_type not in PROBLEM_TYPES:
        raise CheckpointError(file, f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, got {problem_type!r:.80}")
    return problem_type, labels
