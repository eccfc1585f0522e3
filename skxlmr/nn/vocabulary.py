"""More words for a module: rows of its word embeddings and of its language modelling head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from skxlmr.nn.randomness import host_generator
from skxlmr.utils._imports.later import nn, torch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn.backbone import TaskModule


def extend_vocabulary(module: TaskModule, vocab_size: int, initializer_range: float) -> None:
    """Append rows to the word embeddings, in place. The rows that exist keep their values to the last bit.

    New rows, also those of a head that does not share the embeddings, are drawn from the normal distribution, as weights from
    scratch are; the bias of a language modelling head continues with zeros. A vocabulary that is large enough stays as it is.

    Parameters
    ----------
    module : TaskModule
    vocab_size : int
        Rows afterwards.
    initializer_range : float
        Standard deviation of new rows.
    """
    from skxlmr.nn.backbone import LanguageModel

    words = module.backbone.get_input_embeddings()
    n_new = vocab_size - words.num_embeddings
    if n_new <= 0:
        return

    generator = host_generator() if words.weight.device.type == "cpu" else None

    def extended(old: Tensor, std: float) -> Tensor:
        return torch.cat(
            [old.detach(), torch.zeros_like(old[:1]).repeat_interleave(n_new, 0).normal_(0.0, std, generator=generator)]
        )

    module.backbone.set_input_embeddings(
        nn.Embedding.from_pretrained(
            extended(words.weight, initializer_range),
            freeze=not words.weight.requires_grad,
            padding_idx=words.padding_idx,
        )
    )
    if not isinstance(module, LanguageModel):
        return
    projection = {module.projection_bias: 0.0, f"{module.projection}.weight": initializer_range}
    for name, parameter in list(module.named_parameters()):
        if name in projection:
            place, _, last = name.rpartition(".")
            part: Any = module.get_submodule(place)
            setattr(part, last, nn.Parameter(extended(parameter, projection[name])))
            if isinstance(part, nn.Linear):
                part.out_features = vocab_size
