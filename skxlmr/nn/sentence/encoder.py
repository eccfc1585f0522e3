"""How a sentence encoder makes one vector of a text: a value that says it. Its layers are in ``layers``."""

from dataclasses import dataclass

# PyTorch's classes of activations of dense layers, and the modules that they say they are from
ACTIVATIONS = {
    name: "torch.nn.modules.linear" if name == "Identity" else "torch.nn.modules.activation"
    for name in (
        *("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid", "ELU", "LeakyReLU", "Mish", "ReLU6"),
        *("SELU", "Softplus", "Softsign", "Hardtanh", "Hardswish", "LogSigmoid", "Tanhshrink"),
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
        Words of :data:`skxlmr.nn.sentence.pooling.POOLINGS`; their vectors stand side by side.
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
