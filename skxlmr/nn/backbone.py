"""What all encoders and all task models offer, whatever their family: the training room knows no more of them than this."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from skxlmr.nn.layout import TokenLayout


@dataclass
class EncoderOutput:
    """What an encoder returns.

    Attributes
    ----------
    last_hidden_state : Tensor of shape (T, D) or (N, S, D)
    pooler_output : Tensor of shape (N, D), or None without a pooler
    hidden_states : tuple of Tensor, the embeddings' output and each layer's, or None unless asked for
    attentions : tuple of Tensor of shape (N, H, S, S), each layer's weights, or None unless asked for
    layout : TokenLayout of the batch
    """

    last_hidden_state: Tensor
    pooler_output: Tensor | None
    hidden_states: tuple[Tensor, ...] | None
    attentions: tuple[Tensor, ...] | None
    layout: TokenLayout


class Backbone(nn.Module):
    """An encoder as the training room sees it: blocks from below to above, and a table of word embeddings."""

    gradient_checkpointing = False
    pooler: nn.Module | None

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """All that belongs to the embeddings, then all that belongs to each layer, from the lowest to the highest."""
        raise NotImplementedError

    def get_input_embeddings(self) -> nn.Embedding:
        """The word embeddings."""
        raise NotImplementedError

    def set_input_embeddings(self, embeddings: nn.Embedding) -> None:
        """Put other word embeddings in their place."""
        raise NotImplementedError


class TaskModule(nn.Module):
    """What all task models have: the encoder, under the name that Hugging Face gives it.

    ``origin`` is the checkpoint that the weights came from, where pickles may name it instead of holding them.
    """

    backbone_name: str
    origin: Any = None

    @property
    def backbone(self) -> Backbone:
        """The encoder."""
        return self.get_submodule(self.backbone_name)  # type: ignore[return-value]  # torch knows it as a Module only
