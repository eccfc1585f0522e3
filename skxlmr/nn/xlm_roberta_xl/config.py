"""The content of a ``config.json`` of XLM-RoBERTa-XL."""

from dataclasses import dataclass
from typing import Any, ClassVar

from skxlmr.nn.config import ModelConfig


@dataclass(frozen=True)
class XLMRobertaXLConfig(ModelConfig):
    """Geometry of an XLM-RoBERTa-XL model. The defaults are those of ``facebook/xlm-roberta-xl``."""

    vocab_size: int = 250_880
    hidden_size: int = 2560
    num_hidden_layers: int = 36
    num_attention_heads: int = 32
    intermediate_size: int = 10_240
    model_type: str = "xlm-roberta-xl"

    model_types: ClassVar[tuple[str, ...]] = ("xlm-roberta-xl",)
    left_out: ClassVar[dict[str, Any]] = {}
