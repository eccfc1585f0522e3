"""How the token vectors of a sequence become one vector."""

from collections.abc import Sequence

import torch
from torch import Tensor

from skxlmr.nn.backbone import Backbone
from skxlmr.nn.layout import TokenLayout, widen

POOLINGS = ("mean", "cls", "max", "pooler")


def pool(encoder: Backbone, input_ids: Tensor, layout: TokenLayout, pooling: str, layers: Sequence[int]) -> Tensor:
    """Return the features of a packed batch, (N, D * len(layers)).

    No more layers are run than needed.

    Parameters
    ----------
    encoder : Backbone
    input_ids, layout
        The packed batch.
    pooling : {"mean", "cls", "max", "pooler"}
    layers : sequence of int
        Layers, where 0 is the output of the embeddings; their features are concatenated.
    """
    output = encoder(input_ids, layout, output_hidden_states=len(layers) > 1, n_layers=max(layers))
    states = [output.last_hidden_state] if output.hidden_states is None else [output.hidden_states[i] for i in layers]
    if pooling == "pooler":
        assert encoder.pooler is not None
        pooled = [encoder.pooler(layout.first(x)) for x in states]
    else:
        pooled = [{"mean": layout.mean, "cls": layout.first, "max": layout.max}[pooling](x) for x in states]
    return widen(torch.cat(pooled, dim=1))
