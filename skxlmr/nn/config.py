"""The content of a ``config.json`` as typed and bounded fields."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
# RoBERTa and CamemBERT are the same architecture with another vocabulary.
MODEL_TYPES = ("xlm-roberta", "roberta", "camembert")


@dataclass(frozen=True)
class ModelConfig:
    """Geometry of an XLM-RoBERTa model; the field names are those of Hugging Face's ``config.json``.

    The defaults are the geometry of ``FacebookAI/xlm-roberta-base``. Fields that the encoder does not need (names of
    labels, dtype of the file) are kept in ``extra`` and written back by :meth:`to_dict`.
    """

    vocab_size: int = 250_002
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 514
    type_vocab_size: int = 1
    pad_token_id: int = 1
    bos_token_id: int = 0
    eos_token_id: int = 2
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    classifier_dropout: float | None = None
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-5
    tie_word_embeddings: bool = True
    is_decoder: bool = False
    add_cross_attention: bool = False
    model_type: str = "xlm-roberta"
    extra: dict[str, Any] = field(default_factory=dict, compare=False)

    base_prefix: ClassVar[str] = "roberta"  # what task models call the encoder

    def __post_init__(self) -> None:
        shares = ["hidden_dropout_prob", "attention_probs_dropout_prob"]
        if self.classifier_dropout is not None:
            shares.append("classifier_dropout")
        flags = ("tie_word_embeddings", "is_decoder", "add_cross_attention")
        check_fields(self, _SIZES, shares, ("initializer_range", "layer_norm_eps"), flags)
        if self.add_cross_attention and not self.is_decoder:
            raise ValueError("add_cross_attention is for decoders: it needs is_decoder=true")
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"hidden_act must be one of {ACTIVATIONS}, got {self.hidden_act!r:.80}")
        if self.model_type not in MODEL_TYPES:
            raise ValueError(f"model_type must be one of {MODEL_TYPES}, got {self.model_type!r:.80}")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size must be a multiple of num_attention_heads, got {self.hidden_size} and {self.num_attention_heads}"
            )
        if self.max_length < 4:
            raise ValueError(f"max_position_embeddings leaves no room for text, got {self.max_position_embeddings}")
        if self.extra.get("position_embedding_type", "absolute") != "absolute":
            raise ValueError(
                f"position_embedding_type must be 'absolute', got {self.extra['position_embedding_type']!r:.80}"
            )

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def head_dropout(self) -> float:
        """Dropout in classification heads."""
        return self.hidden_dropout_prob if self.classifier_dropout is None else self.classifier_dropout

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens: the first position comes after the padding index."""
        return self.max_position_embeddings - self.pad_token_id - 1

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ModelConfig":
        """Read the fields of a parsed ``config.json``.

        Raises
        ------
        ValueError
            If a field is missing, has the wrong type or is out of bounds.
        """
        if "model_type" not in values:
            raise ValueError("model_type is missing")
        known = {item.name for item in fields(cls)} - {"extra"}
        missing = [name for name in _SIZES if name not in values and name != "type_vocab_size"]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing")
        given = _LEFT_OUT | {name: values[name] for name in known & values.keys()}
        return cls(**given, extra={name: value for name, value in values.items() if name not in known})

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        known = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "extra"}
        return {**self.extra, **known}


# The reference's defaults for fields that a file leaves out, where they are not those of XLM-R.
_LEFT_OUT = {"type_vocab_size": 2, "layer_norm_eps": 1e-12}

# Upper bounds far above any published model: a hostile file must not make us allocate.
_SIZES = {
    "vocab_size": 4_000_000,
    "hidden_size": 32_768,
    "num_hidden_layers": 512,
    "num_attention_heads": 1024,
    "intermediate_size": 262_144,
    "max_position_embeddings": 1_048_576,
    "type_vocab_size": 1024,
}


def check_fields(
    config: Any, sizes: dict[str, int], shares: Sequence[str], small: Sequence[str], flags: Sequence[str]
) -> None:
    """Check the types and bounds that configs of all families share.

    Parameters
    ----------
    config : ModelConfig or XLMConfig
    sizes : dict of str to int
        Fields that are whole numbers from 1, and their upper bounds.
    shares, small, flags : sequence of str
        Fields from 0 to below 1, above 0 and at most 1, true or false.

    Raises
    ------
    ValueError
        If a field has the wrong type or is out of bounds.
    """
    for name, most in sizes.items():
        value = getattr(config, name)
        if not is_int(value) or not 1 <= value <= most:
            raise ValueError(f"{name} must be a whole number from 1 to {most}, got {value!r:.80}")
    for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
        value = getattr(config, name)
        if not is_int(value) or not 0 <= value < config.vocab_size:
            raise ValueError(f"{name} must be a whole number from 0 to vocab_size - 1, got {value!r:.80}")
    for name in shares:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1:
            raise ValueError(f"{name} must be a number from 0 to below 1, got {value!r:.80}")
    for name in small:
        value = getattr(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            raise ValueError(f"{name} must be a number above 0 and at most 1, got {value!r:.80}")
    for name in flags:
        if not isinstance(getattr(config, name), bool):
            raise ValueError(f"{name} must be true or false, got {getattr(config, name)!r:.80}")


def is_int(value: object) -> bool:
    """Whether a value is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)
