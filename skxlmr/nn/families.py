"""Which config class belongs to a ``model_type``."""

from typing import Any

from skxlmr.nn.config import MODEL_TYPES, ModelConfig
from skxlmr.nn.xlm import XLMConfig

CONFIGS: dict[str, type[ModelConfig] | type[XLMConfig]] = {**dict.fromkeys(MODEL_TYPES, ModelConfig), "xlm": XLMConfig}


def config_of(values: dict[str, Any]) -> ModelConfig | XLMConfig:
    """Read a parsed ``config.json`` by its ``model_type``.

    Raises
    ------
    ValueError
        If the model type is missing or unknown, or a field is missing or wrong.
    """
    model_type = values.get("model_type")
    family = CONFIGS.get(model_type, ModelConfig) if isinstance(model_type, str) else ModelConfig
    return family.from_dict(values)
