"""How a sentence encoder makes one vector of a text: a value that says it, and the layers that follow the pooling."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from skxlmr.nn.layout import widen

# Activations of dense layers, by the names of PyTorch's classes
ACTIVATIONS: dict[str, type[nn.Module]] = {
    made.__name__: made
    for made in (
        *(nn.Identity, nn.Tanh, nn.ReLU, nn.GELU, nn.SiLU, nn.Sigmoid, nn.ELU, nn.LeakyReLU, nn.Mish, nn.ReLU6),
        *(nn.SELU, nn.Softplus, nn.Softsign, nn.Hardtanh, nn.Hardswish, nn.LogSigmoid, nn.Tanhshrink),
    )
}


@dataclass(frozen=True)
class Dense:
    """A linear layer and an activation, a name of ``ACTIVATIONS``; with ``residual`` its input is added to the output."""

    in_features: int
    out_features: int
    bias: bool = True
    activation: str = "Tanh"
    residual: bool = False


@dataclass(frozen=True)
class LayerNorm:
    """Layer normalisation."""

    size: int


@dataclass(frozen=True)
class Normalize:
    """Scaling to unit length."""


@dataclass(frozen=True)
class Dropout:
    """Dropout, which does nothing to features; kept for those who train the encoder further."""

    rate: float


SentenceLayer = Dense | LayerNorm | Normalize | Dropout


@dataclass(frozen=True, kw_only=True)
class TextSettings:
    """What a checkpoint says of how texts are read before they are tokenised.

    Attributes
    ----------
    max_length : int or None
        Most tokens of a row; None is as many as the tokenizer says.
    lower_case : bool
        Whether texts are put in lower case.
    prompts : tuple of (str, str)
        Names and texts that can be put before a text.
    default_prompt : str or None
        Name of the prompt that is put before each text, of a pair before the first.
    """

    max_length: int | None = None
    lower_case: bool = False
    prompts: tuple[tuple[str, str], ...] = ()
    default_prompt: str | None = None

    def prompt(self) -> str | None:
        """The text that is put before each text; None if there is none."""
        return dict(self.prompts).get(self.default_prompt or "") or None


@dataclass(frozen=True)
class SentenceEncoder(TextSettings):
    """How a sentence encoder makes one vector of a text. Equal values make equal vectors, with the same weights.

    It reads texts as its `TextSettings` say.

    Attributes
    ----------
    pooling : tuple of str
        Words of :data:`skxlmr.nn.pooling.POOLINGS`; their vectors stand side by side.
    include_prompt : bool
        Whether the tokens of a prompt, and the first special token with them, are pooled too.
    layers : tuple
        What follows the pooling, apart from scaling to unit length at the end.
    normalize : bool
        Whether vectors are scaled to unit length at the end.
    truncate_dim : int or None
        Number of the first features that are kept.
    similarity : str or None
        The measure that vectors are meant to be compared with, for other tools.
    """

    pooling: tuple[str, ...] = ("mean",)
    include_prompt: bool = True
    layers: tuple[SentenceLayer, ...] = ()
    normalize: bool = False
    truncate_dim: int | None = None
    similarity: str | None = None

    def n_inputs(self) -> int | None:
        """Features that the layers take; None where they take any number."""
        sizes = (layer.in_features if isinstance(layer, Dense) else layer.size for layer in self.sized())
        return next(sizes, None)

    def n_outputs(self, n_pooled: int) -> int:
        """Features that the layers make of the pooled ones."""
        for layer in self.sized():
            n_pooled = layer.out_features if isinstance(layer, Dense) else layer.size
        return n_pooled

    def sized(self) -> list[Dense | LayerNorm]:
        """The layers that have weights."""
        return [layer for layer in self.layers if isinstance(layer, Dense | LayerNorm)]


class SentenceLayers(nn.ModuleList):
    """The layers that follow the pooling. Their parameters have the names that ``sentence-transformers`` gives them."""

    def __init__(self, layers: Iterable[SentenceLayer]):
        super().__init__(_module(layer) for layer in layers)

    def forward(self, x_ND: Tensor) -> Tensor:
        """Features (N, D) of the pooled vectors, in float32 or wider."""
        dtype = next((parameter.dtype for parameter in self.parameters()), x_ND.dtype)
        for module in self:
            x_ND = module(x_ND.to(dtype))
        return widen(x_ND)


class _Dense(nn.Module):
    def __init__(self, layer: Dense):
        super().__init__()
        self.linear = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias)
        self.activation = ACTIVATIONS[layer.activation]()
        self.adds_input = layer.residual
        if layer.residual and layer.in_features != layer.out_features:
            self.residual = nn.Linear(layer.in_features, layer.out_features, bias=False)

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


def _module(layer: SentenceLayer) -> nn.Module:
    if isinstance(layer, Dense):
        return _Dense(layer)
    if isinstance(layer, LayerNorm):
        return _LayerNorm(layer)
    return _Normalize() if isinstance(layer, Normalize) else nn.Identity()
