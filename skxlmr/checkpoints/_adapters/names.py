"""The modules of a base model, from the names and shapes of its weights."""

from __future__ import annotations

from skxlmr.checkpoints._formats.mapped_file import Tensors
from skxlmr.nn import ModelFamily


class Names:
    """Names of modules: in full, as in a model with a head, and as the adapted model has them.

    Parameters
    ----------
    base : dict of str to Tensor
        Weights of the base model.
    family : ModelFamily
        Of the base model.
    is_bare : bool
        Whether the adapted model is the encoder itself.
    """

    def __init__(self, base: Tensors, family: ModelFamily, is_bare: bool):
        self.family, self.prefix, self.is_bare = family, family.prefix, is_bare
        own = [name for name in base if not is_bare or name.startswith(self.prefix + ".")]
        weights = [name.removesuffix(".weight") for name in own if name.endswith(".weight")]
        self.modules = [name for name in weights if base[f"{name}.weight"].ndim == 2]
        self.norms = [name for name in weights if base[f"{name}.weight"].ndim == 1]
        self.words = family.words.removesuffix(".weight")
        from skxlmr.nn import LanguageModel

        head = family.modules["ForMaskedLM"]
        self.decoder, self.of_vocabulary = "", {family.words}
        if issubclass(head, LanguageModel):
            self.decoder = f"{head.projection}.weight"  # projects on the vocabulary
            self.of_vocabulary |= {self.decoder, head.projection_bias}

    def short(self, name: str) -> str:
        """The name in the adapted model."""
        return name.removeprefix(f"{self.prefix}.") if self.is_bare else name

    def part(self, name: str) -> str:
        """The part of a model with a head: the encoder, its pooler, or a head."""
        first, _, rest = name.partition(".")
        return f"{first}.pooler" if first == self.prefix and rest.startswith("pooler.") else first

    def is_encoder(self, name: str) -> bool:
        """Whether every adapted model has this module or tensor."""
        return self.part(name) == self.prefix

    def is_embedding(self, name: str) -> bool:
        """Whether a module is a table of embeddings, not linear."""
        return name.endswith("embeddings")

    def ends(self, name: str, end: str) -> bool:
        """Whether a module's name ends like this, as peft compares them; with nothing the word embeddings do."""
        return self.short(name).endswith(end) if end else name == self.words
