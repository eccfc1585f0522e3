"""How a sentence encoder makes one vector of a text: a value that says it, the pooling, and the layers after it."""

from skxlmr.nn.sentence.encoder import (
    ACTIVATIONS,
    Dense,
    Dropout,
    LayerNorm,
    Normalize,
    SentenceEncoder,
    SentenceLayer,
    TextSettings,
)

__all__ = [
    "ACTIVATIONS",
    "Dense",
    "Dropout",
    "LayerNorm",
    "Normalize",
    "SentenceEncoder",
    "SentenceLayer",
    "TextSettings",
]
