"""The vectors of a batch of texts while they are trained: those that `transform` returns, with their gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from skxlmr.nn import TokenLayout
from skxlmr.nn.sentence import SentenceEncoder
from skxlmr.nn.sentence.pooling import pool
from skxlmr.utils._imports.later import F

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class TextVectors:
    """Makes the vectors of the texts of a batch.

    Attributes
    ----------
    how : SentenceEncoder
        What checkpoint and parameters say.
    layer : int
        The layer whose vectors of tokens are pooled.
    n_skipped : int
        First tokens of each text that are not pooled.
    n_features : int
        How many features are kept.
    scales_again : bool
        Whether what is kept of longer vectors is scaled to unit length.
    """

    how: SentenceEncoder
    layer: int
    n_skipped: int
    n_features: int
    scales_again: bool

    def __call__(self, module: Any, ids: Tensor, layout: TokenLayout) -> Tensor:
        """Vectors (N, D) of the packed texts, in float32 or wider."""
        x_ND = pool(module.backbone, ids, layout, self.how.pooling, [self.layer], self.n_skipped)
        layers_after = getattr(module, "sentence", None)
        if layers_after is not None:
            x_ND = layers_after(x_ND)
        if self.how.normalize:
            x_ND = F.normalize(x_ND, dim=1)
        if self.n_features < x_ND.shape[1]:
            x_ND = x_ND[:, : self.n_features]
            x_ND = F.normalize(x_ND, dim=1) if self.scales_again else x_ND
        return x_ND
