"""Which config class belongs to a ``model_type``."""

from typing import Any

from skxlmr.nn.config import ModelConfig
from skxlmr.nn.xlm.config import XLMConfig


def config_of(values: dict[str, Any]) -> ModelConfig | XLMConfig:
    """Read a parsed ``config.json`` by its ``model_type``.

    Raises
    ------
    ValueError
        If the model type is missing or unknown, or a field is missing or wrong.
    """
    return (XLMConfig if values.get("model_type") == "xlm" else ModelConfig).from_dict(values)
