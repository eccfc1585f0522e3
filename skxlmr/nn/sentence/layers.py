"""The layers of a sentence encoder that follow the pooling."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skxlmr.nn.kernels.linear import Linear, of_texts
from skxlmr.nn.layers import Dropout as DropoutLayer
from skxlmr.nn.layout import widen
from skxlmr.nn.randomness import host_generator
from skxlmr.nn.sentence import Dense, LayerNorm, Normalize, SentenceLayer


class SentenceLayers(nn.ModuleList):
    """The layers that follow the pooling. Their parameters have the names that ``sentence-transformers`` gives them."""

    def __init__(self, layers: Iterable[SentenceLayer]):
        super().__init__(_module(layer) for layer in layers)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Features (N, D) of the pooled vectors, in float32 or wider."""
        return of_texts(self._features, x_ND)

    def _features(self, x_ND: Tensor) -> Tensor:
        dtype = next((parameter.dtype for parameter in self.parameters()), x_ND.dtype)
        for module in self:
            x_ND = module(x_ND.to(dtype))
        return widen(x_ND)


class _Dense(nn.Module):
    def __init__(self, layer: Dense):
        super().__init__()
        self.linear = Linear(layer.in_features, layer.out_features, bias=layer.bias)
        self.activation = getattr(nn, layer.activation)()
        self.adds_input = layer.residual
        if layer.residual and layer.in_features != layer.out_features:
            self.residual = Linear(layer.in_features, layer.out_features, bias=False)

    def forward(self, x_ND: Tensor) -> Tensor:
        output = self.activation(self.linear(x_ND))
        if not self.adds_input:
            return output
        return output + (self.residual(x_ND) if hasattr(self, "residual") else x_ND)


class _LayerNorm(nn.Module):
    def __init__(self, layer: LayerNorm):
        super().__init__()
        self.norm = nn.LayerNorm(layer.size)

    def forward(self, x_ND: Tensor) -> Tensor:
        output: Tensor = self.norm(x_ND)
        return output


class _Normalize(nn.Module):
    def forward(self, x_ND: Tensor) -> Tensor:
        return F.normalize(x_ND, dim=1)


def append_dense(module: Any, layer: Dense) -> None:
    """Give a module a dense layer after the pooling, and after those that it has; its weights are drawn as torch draws them."""
    first = next(module.parameters())
    with torch.device("meta"):  # a layer draws its first values from torch's own generator
        dense = _Dense(layer)
    dense = dense.to(first.dtype).to_empty(device=first.device)
    bound = layer.in_features**-0.5
    with torch.no_grad():
        for parameter in dense.parameters():
            drawn = torch.empty(parameter.shape, dtype=torch.float32, device="cpu")
            parameter.copy_(drawn.uniform_(-bound, bound, generator=host_generator()))
    if not hasattr(module, "sentence"):
        module.sentence = SentenceLayers(())
    module.sentence.append(dense)


def _module(layer: SentenceLayer) -> nn.Module:
    if isinstance(layer, Dense):
        return _Dense(layer)
    if isinstance(layer, LayerNorm):
        return _LayerNorm(layer)
    return _Normalize() if isinstance(layer, Normalize) else DropoutLayer(layer.rate)
