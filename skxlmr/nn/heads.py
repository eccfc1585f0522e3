"""Heads: they turn token vectors into logits. Parameter names are Hugging Face's."""

from typing import Any

import torch
from torch import Tensor, nn

from skxlmr.nn.config import ModelConfig
from skxlmr.nn.kernels.linear import Linear, OutputLinear, TextLinear, linear
from skxlmr.nn.layers import Dropout


class SequenceClassificationHead(nn.Module):
    """Dense layer, tanh and projection of the vector of ``<s>``.

    Parameters
    ----------
    config : ModelConfig
        Geometry of the encoder.
    n_outputs : int
        Number of logits.
    """

    def __init__(self, config: ModelConfig, n_outputs: int):
        super().__init__()
        self.dense = TextLinear(config.hidden_size, config.hidden_size)
        self.dropout = Dropout(config.head_dropout)
        self.out_proj = OutputLinear(config.hidden_size, n_outputs)

    def forward(self, first_ND: Tensor) -> Tensor:
        """Return the logits, (N, n_outputs), of the vectors of first tokens, (N, D)."""
        x_ND = self.dropout(first_ND).to(self.dense.weight.dtype)
        x_ND = self.dense(x_ND).tanh()
        return self.out_proj(self.dropout(x_ND))


class LanguageModelingHead(nn.Module):
    """Dense layer, GELU, layer norm and projection to the vocabulary, with the word embeddings as its weight.

    Parameters
    ----------
    config : ModelConfig
        Geometry of the encoder. With ``tie_word_embeddings`` false the projection has its own weight.
    """

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.layer_norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.bias = nn.Parameter(nn.init.zeros_(self.dense.weight.new_empty(config.vocab_size)))
        if not config.tie_word_embeddings:
            self.decoder = Linear(config.hidden_size, config.vocab_size, bias=False)

    def forward(self, x: Tensor, word_embeddings_VD: Tensor) -> Tensor:
        """Return the logits over the vocabulary, (..., V), of token vectors, (..., D)."""
        x = self.layer_norm(self.dense(x, "gelu"))
        weight_VD = self.decoder.weight if hasattr(self, "decoder") else word_embeddings_VD
        return linear(x, weight_VD, self.bias)


class Projection(nn.Module):
    """Projection to the vocabulary; with tied embeddings it has only a bias.

    Parameters
    ----------
    config : config of a family
        Its vocabulary, hidden size, ``tie_word_embeddings`` and ``initializer_range``.
    """

    def __init__(self, config: Any):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(config.vocab_size))
        if not config.tie_word_embeddings:
            self.weight = nn.Parameter(
                torch.empty(config.vocab_size, config.hidden_size).normal_(0, config.initializer_range)
            )

    def forward(self, x: Tensor, word_embeddings_VD: Tensor) -> Tensor:
        """Return the logits (..., V) of token vectors (..., D)."""
        return linear(x, self.weight if hasattr(self, "weight") else word_embeddings_VD, self.bias)
