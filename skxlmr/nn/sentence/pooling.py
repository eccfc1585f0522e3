"""What features are made of the token vectors of a sequence: one vector of all, or a weight or vector of each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from skxlmr.nn.layout import TokenLayout, widen
from skxlmr.utils._imports.later import F, torch

if TYPE_CHECKING:
    from torch import Tensor, nn

    from skxlmr.nn.backbone import Backbone

# The words of ``sentence-transformers``, and the checkpoint's own pooler
POOLINGS = ("mean", "cls", "max", "lasttoken", "weightedmean", "mean_sqrt_len_tokens", "pooler")


def pool(
    encoder: Backbone,
    input_ids: Tensor,
    layout: TokenLayout,
    pooling: str | Sequence[str],
    layers: Sequence[int],
    n_skipped: int = 0,
) -> Tensor:
    """Return the features of a batch, (N, D * number of poolings * len(layers)).

    No more layers are run than needed.

    Parameters
    ----------
    encoder : Backbone
    input_ids, layout
        The batch, packed or padded.
    pooling : str or sequence of str
        Words of ``POOLINGS``; the vectors of several stand side by side.
    layers : sequence of int
        Layers, where 0 is the output of the embeddings; their features are concatenated.
    n_skipped : int
        First tokens of each sequence that are not pooled (packed batches); the last one always is. The pooler reads the
        first token all the same.
    """
    words = [pooling] if isinstance(pooling, str) else pooling
    if len(layers) == 1 and not n_skipped and set(words) <= {"cls", "pooler"}:
        first = encoder(input_ids, layout, n_layers=layers[0], only_first=True).first
        return widen(torch.cat([_of_first(encoder, first, word) for word in words], dim=1))
    output = encoder(input_ids, layout, output_hidden_states=len(layers) > 1, n_layers=max(layers))
    states = [output.last_hidden_state] if output.hidden_states is None else [output.hidden_states[i] for i in layers]
    return widen(torch.cat([_pooled(encoder, x, layout, word, n_skipped) for x in states for word in words], dim=1))


def lexical_weights(encoder: Backbone, linear: nn.Module, input_ids: Tensor, layout: TokenLayout) -> Tensor:
    """Return what each token of a packed batch weighs as a word, (T,), 0 or more."""
    return widen(torch.relu(linear(encoder(input_ids, layout).last_hidden_state)))[:, 0]


def token_vectors(encoder: Backbone, linear: nn.Module, input_ids: Tensor, layout: TokenLayout) -> Tensor:
    """Return a vector of unit length for each token of a packed batch, (T, features of the layer)."""
    return F.normalize(widen(linear(encoder(input_ids, layout).last_hidden_state)), dim=1)


def _of_first(encoder: Backbone, first_ND: Tensor, word: str) -> Tensor:
    if word == "cls":
        return first_ND
    assert encoder.pooler is not None
    vector: Tensor = encoder.pooler(first_ND)
    return vector


def _pooled(encoder: Backbone, x: Tensor, layout: TokenLayout, word: str, n_skipped: int) -> Tensor:
    if word == "pooler":
        return _of_first(encoder, layout.first(x), word)
    places = layout.places + 1
    if n_skipped:
        kept, layout = layout.without_first(n_skipped)
        x, places = x[kept], places[kept]
    if word == "weightedmean":  # later tokens count more
        weights = places.to(x.dtype if x.dtype == torch.float64 else torch.float32)
        return layout.mean(widen(x) * weights[..., None]) / layout.mean(weights[..., None])
    if word == "mean_sqrt_len_tokens":  # the sum over the square root of the length
        mean = layout.mean(x)
        return mean * layout.counts_N.to(mean.dtype).sqrt()[:, None]
    return {"mean": layout.mean, "cls": layout.first, "max": layout.max, "lasttoken": layout.last}[word](x)
