"""The content of a ``config.json`` of BERT and DistilBERT as typed and bounded fields."""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from skxlmr.nn.config import ModelConfig


@dataclass(frozen=True)
class BertConfig(ModelConfig):
    """Geometry of a BERT; the field names are those of its ``config.json``.

    The defaults are the geometry of ``google-bert/bert-base-multilingual-cased``. Unlike XLM-R's, positions count from 0.
    """

    vocab_size: int = 119_547
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    pad_token_id: int = 0
    bos_token_id: int | None = None
    eos_token_id: int | None = None
    layer_norm_eps: float = 1e-12
    model_type: str = "bert"

    base_prefix: ClassVar[str] = "bert"
    model_types: ClassVar[tuple[str, ...]] = ("bert",)
    left_out: ClassVar[dict[str, Any]] = {}

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens."""
        return self.max_position_embeddings


@dataclass(frozen=True)
class DistilBertConfig(BertConfig):
    """Geometry of a DistilBERT, by the names that the fields have in other models; its ``config.json`` has its own.

    The defaults are the geometry of ``distilbert/distilbert-base-multilingual-cased``. ``sinusoidal_pos_embds`` only says how
    the positions started: they are weights of the file like all others.
    """

    num_hidden_layers: int = 6
    qa_dropout: float = 0.1
    seq_classif_dropout: float = 0.2
    model_type: str = "distilbert"

    base_prefix: ClassVar[str] = "distilbert"
    model_types: ClassVar[tuple[str, ...]] = ("distilbert",)
    file_names: ClassVar[dict[str, str]] = {
        "hidden_size": "dim",
        "num_hidden_layers": "n_layers",
        "num_attention_heads": "n_heads",
        "intermediate_size": "hidden_dim",
        "hidden_act": "activation",
        "hidden_dropout_prob": "dropout",
        "attention_probs_dropout_prob": "attention_dropout",
    }
    not_in_files: ClassVar[tuple[str, ...]] = (
        *("type_vocab_size", "layer_norm_eps", "classifier_dropout", "is_decoder", "add_cross_attention"),
    )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Read the fields of a parsed ``config.json``; as in the reference, three of them may have BERT's names.

        Raises
        ------
        ValueError
            If a field is missing, has the wrong type, is out of bounds, or has two names with different values.
        """
        values = dict(values)
        for theirs in ("hidden_size", "num_hidden_layers", "num_attention_heads"):
            if theirs in values and values.setdefault(name := cls._named(theirs), values[theirs]) != values.pop(theirs):
                raise ValueError(f"{name} and {theirs} are two names of the same field, with different values")
        return super().from_dict(values)
