"""The content of a ``config.json`` of the original XLM as typed and bounded fields."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from skxlmr.nn.config import FamilyConfig, is_int

SUMMARY_TYPES = ("first", "last", "mean", "cls_index")
SUMMARY_ACTIVATIONS = ("tanh", "gelu", "relu")
# Other names for the same field, in older files.
_ALIASES = {
    "n_words": "vocab_size",
    "hidden_size": "emb_dim",
    "num_hidden_layers": "n_layers",
    "num_attention_heads": "n_heads",
    "pad_index": "pad_token_id",
    "bos_index": "bos_token_id",
    "eos_index": "eos_token_id",
    "initializer_range": "init_std",
}


@dataclass(frozen=True)
class XLMConfig(FamilyConfig):
    """Geometry of an original XLM; the field names are those of its ``config.json``.

    The defaults are the geometry of ``FacebookAI/xlm-mlm-en-2048``. Fields that the model does not need are kept in ``extra``
    and written back by :meth:`to_dict`. Adaptive softmax (``asm``) and decoders (``is_encoder`` false) are refused.

    Examples
    --------
    >>> from skxlmr.nn import XLMConfig
    >>> XLMConfig(n_langs=2, lang2id={"de": 0, "en": 1}).has_lang_embeddings
    True
    """

    vocab_size: int = 30_145
    emb_dim: int = 2048
    n_layers: int = 12
    n_heads: int = 16
    max_position_embeddings: int = 512
    n_langs: int = 1
    use_lang_emb: bool = True
    lang2id: dict[str, int] = field(default_factory=dict, hash=False)
    sinusoidal_embeddings: bool = False
    gelu_activation: bool = True
    causal: bool = False
    dropout: float = 0.1
    attention_dropout: float = 0.1
    layer_norm_eps: float = 1e-12
    init_std: float = 0.02
    pad_token_id: int = 2
    bos_token_id: int = 0
    eos_token_id: int = 1
    tie_word_embeddings: bool = True
    summary_type: str = "first"
    summary_use_proj: bool = True
    summary_activation: str | None = None
    summary_proj_to_labels: bool = True
    summary_first_dropout: float = 0.1
    summary_last_dropout: float = 0.0
    model_type: str = "xlm"

    base_prefix: ClassVar[str] = "transformer"
    model_types: ClassVar[tuple[str, ...]] = ("xlm",)
    required: ClassVar[tuple[str, ...]] = ("vocab_size", "emb_dim", "n_layers", "n_heads")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.emb_dim % self.n_heads:
            raise ValueError(f"emb_dim must be a multiple of n_heads, got {self.emb_dim} and {self.n_heads}")
        if self.summary_type not in SUMMARY_TYPES:
            raise ValueError(f"summary_type must be one of {SUMMARY_TYPES}, got {self.summary_type!r:.80}")
        if self.summary_activation not in (None, *SUMMARY_ACTIVATIONS):
            raise ValueError(
                f"summary_activation must be null or one of {SUMMARY_ACTIVATIONS}, got {self.summary_activation!r:.80}"
            )
        if not isinstance(self.lang2id, dict) or not all(is_int(i) for i in self.lang2id.values()):
            raise ValueError(f"lang2id must be an object of language ids, got {self.lang2id!r:.80}")
        for language, i in self.lang2id.items():
            if self.has_lang_embeddings and not 0 <= i < self.n_langs:
                raise ValueError(f"lang2id must give ids from 0 to n_langs - 1, got {i} for {language!r:.80}")
        if self.extra.get("asm", False) is not False:
            raise ValueError("asm is true, and adaptive softmax is not supported: the model needs a plain projection")
        if self.extra.get("is_encoder", True) is not True:
            raise ValueError("is_encoder is false, and XLM decoders are not supported: the model must be an encoder")

    @property
    def has_lang_embeddings(self) -> bool:
        """Whether there is an embedding for each language, as the reference decides it."""
        return self.n_langs > 1 and self.use_lang_emb

    @property
    def beam(self) -> tuple[int, int]:
        """How many starts of an answer, and ends of each, a search finds: ``start_n_top`` and ``end_n_top`` of the file."""
        return self._width("start_n_top"), self._width("end_n_top")

    def _width(self, name: str) -> int:
        width = self.extra.get(name)
        if width is None:
            return 5
        if not is_int(width) or width < 1:
            raise ValueError(f"{name} must be a whole number from 1 on, got {width!r:.80}")
        return int(width)

    @property
    def hidden_size(self) -> int:
        """Width of the token vectors."""
        return self.emb_dim

    @property
    def num_hidden_layers(self) -> int:
        """Number of layers."""
        return self.n_layers

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.emb_dim // self.n_heads

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens."""
        return self.max_position_embeddings

    @property
    def initializer_range(self) -> float:
        """Standard deviation of the weights of a new head."""
        return self.init_std

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read the fields of a parsed ``config.json``.

        Raises
        ------
        ValueError
            If a field is missing, has the wrong type, is out of bounds, or has two names with different values.
        """
        renamed: dict[str, Any] = {}
        for name, value in values.items():
            field_name = _ALIASES.get(name, name)
            if field_name in renamed and renamed[field_name] != value:
                raise ValueError(
                    f"{field_name} stands under two names with different values, one of them {value!r:.80}"
                )
            renamed[field_name] = value
        if renamed.get("lang2id", {}) is None:
            del renamed["lang2id"]
        if renamed.get("summary_activation") == "":  # the same as null in the reference
            renamed["summary_activation"] = None
        return super().from_dict(renamed)

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``."""
        values = super().to_dict()
        if not self.lang2id:
            del values["lang2id"]
        return values
