"""The content of a ``config.json`` as typed and bounded fields."""

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

PUBLISHED_AS = {"XLMForMaskedLM": "XLMWithLMHeadModel"}  # what Hugging Face calls a module, where it has another name
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")

# Upper bounds of the sizes, far above any published model: a hostile file must not make us allocate.
LARGEST = {
    "vocab_size": 4_000_000,
    "hidden_size": 32_768,
    "emb_dim": 32_768,
    "num_hidden_layers": 512,
    "n_layers": 512,
    "num_attention_heads": 1024,
    "n_heads": 1024,
    "intermediate_size": 262_144,
    "max_position_embeddings": 1_048_576,
    "type_vocab_size": 1024,
    "n_langs": 10_000,
}
_ABOVE_ZERO = ("initializer_range", "init_std", "layer_norm_eps")  # the other numbers are probabilities of a dropout


@dataclass(frozen=True)
class FamilyConfig:
    """What the configs of all families share: fields that are checked, read from a ``config.json`` and written back."""

    extra: dict[str, Any] = field(default_factory=dict, compare=False, kw_only=True)

    base_prefix: ClassVar[str]  # what task models call the encoder
    model_types: ClassVar[tuple[str, ...]]  # that have this geometry
    required: ClassVar[tuple[str, ...]]  # fields that no file may leave out
    left_out: ClassVar[dict[str, Any]] = {}  # the reference's defaults for other fields, where they are not ours
    file_names: ClassVar[dict[str, str]] = {}  # of fields, where files have other names for them than ours
    not_in_files: ClassVar[tuple[str, ...]] = ()  # fields that keep their default, whatever a file says

    def __post_init__(self: Any) -> None:  # the fields are those of the families
        for item in fields(self):
            self._check_field(item.name, item.type)
        if self.model_type not in self.model_types:
            raise ValueError(f"model_type must be one of {', '.join(self.model_types)}, got {self.model_type!r:.80}")
        if self.max_length < 4:
            raise ValueError(f"max_position_embeddings leaves no room for text, got {self.max_position_embeddings}")

    def _check_field(self: Any, name: str, kind: Any) -> None:
        """Check type and bounds of a size, the id of a token, a flag or another number."""
        if getattr(self, name) is None and kind in (int | None, float | None):
            return
        value = getattr(self, name)
        is_number = is_int(value) or isinstance(value, float)
        if kind is bool:
            words, holds = "true or false", isinstance(value, bool)
        elif name in LARGEST:
            words, holds = f"a whole number from 1 to {LARGEST[name]}", is_int(value) and 1 <= value <= LARGEST[name]
        elif kind in (int, int | None):
            words, holds = "a whole number from 0 to vocab_size - 1", is_int(value) and 0 <= value < self.vocab_size
        elif name in _ABOVE_ZERO:
            words, holds = "a number above 0 and at most 1", is_number and 0 < value <= 1
        elif kind in (float, float | None):
            words, holds = "a number from 0 to below 1", is_number and 0 <= value < 1
        else:
            return
        if not holds:
            raise ValueError(f"{self._named(name)} must be {words}, got {value!r:.80}")

    @classmethod
    def _named(cls, name: str) -> str:
        """A field as files name it."""
        return cls.file_names.get(name, name)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read the fields of a parsed ``config.json``.

        Raises
        ------
        ValueError
            If a field is missing, has the wrong type or is out of bounds.
        """
        if "model_type" not in values:
            raise ValueError("model_type is missing")
        missing = [name for name in map(cls._named, cls.required) if name not in values]
        if missing:
            raise ValueError(f"{', '.join(missing)} missing")
        known = {cls._named(item.name): item.name for item in cls._fields_of_files()}
        given = cls.left_out | {known[name]: values[name] for name in known.keys() & values.keys()}
        return cls(**given, extra={name: value for name, value in values.items() if name not in known})

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        return {**self.extra, **{self._named(item.name): getattr(self, item.name) for item in self._fields_of_files()}}

    @classmethod
    def _fields_of_files(cls) -> list[Any]:
        return [item for item in fields(cls) if item.name not in ("extra", *cls.not_in_files)]


@dataclass(frozen=True)
class ModelConfig(FamilyConfig):
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
    bos_token_id: int | None = 0
    eos_token_id: int | None = 2
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

    base_prefix: ClassVar[str] = "roberta"
    model_types: ClassVar[tuple[str, ...]] = ("xlm-roberta", "roberta", "camembert")
    required: ClassVar[tuple[str, ...]] = (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
    )
    left_out: ClassVar[dict[str, Any]] = {"type_vocab_size": 2, "layer_norm_eps": 1e-12}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.add_cross_attention and not self.is_decoder:
            raise ValueError("add_cross_attention is for decoders: it needs is_decoder=true")
        if self.hidden_act not in ACTIVATIONS:
            raise ValueError(f"{self._named('hidden_act')} must be one of {ACTIVATIONS}, got {self.hidden_act!r:.80}")
        if self.hidden_size % self.num_attention_heads:
            width, heads = self._named("hidden_size"), self._named("num_attention_heads")
            raise ValueError(
                f"{width} must be a multiple of {heads}, got {self.hidden_size} and {self.num_attention_heads}"
            )
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


def is_int(value: object) -> bool:
    """Whether a value is a whole number, which true and false are not."""
    return isinstance(value, int) and not isinstance(value, bool)
