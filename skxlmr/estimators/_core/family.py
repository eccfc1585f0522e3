"""What differs between the architecture families behind the estimators."""

from pathlib import Path
from typing import Any

from skxlmr.nn import ModelConfig, TaskModule
from skxlmr.text import Tokenizer


class Family:
    """XLM-RoBERTa and the encoders that share its architecture.

    Attributes
    ----------
    config_class : type
        The geometry of a checkpoint of this family.
    name : str
        What people call it.
    prefix : str
        What the names of its estimators start with.
    """

    config_class: type = ModelConfig
    name = "XLM-RoBERTa"
    prefix = "XLMRoberta"

    def check(self, estimator: Any, config: Any, tokenizer: Tokenizer, file: Path) -> Tokenizer:
        """Check what a checkpoint says against the parameters; returns the tokenizer as the estimator uses it.

        Raises
        ------
        CheckpointError, ValueError
            If they do not go together.
        """
        return tokenizer

    def prepared(self, estimator: Any, module: TaskModule) -> TaskModule:
        """The module, set up for the parameters of the estimator."""
        return module

    def continued(self, estimator: Any) -> Tokenizer:
        """Set up a fitted module for parameters that may have changed; returns the tokenizer."""
        return estimator.tokenizer_

    def languages(self, estimator: Any) -> list[str]:
        """Languages of the texts, for the model card."""
        return ["multilingual"] if estimator.config_.model_type == "xlm-roberta" else []
