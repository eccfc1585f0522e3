"""What the estimators of one prediction a text share."""

from typing import Any

import numpy as np

from skxlmr.estimators._base import FineTunedXLMRoberta
from skxlmr.nn import ModelConfig, TaskModule, XLMRobertaForSequenceClassification


class SequenceEstimator(FineTunedXLMRoberta):
    """What the classifier and the regressor share: the head on the first token's vector."""

    _head = "classifier"
    _problem_type: str

    def _n_outputs(self) -> int:
        raise NotImplementedError

    def _build(self, config: ModelConfig) -> TaskModule:
        return XLMRobertaForSequenceClassification(config, self._n_outputs())

    def _hub_config(self):
        labels = self._output_names()
        return {
            "architectures": ["XLMRobertaForSequenceClassification"],
            "problem_type": self._problem_type,
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
