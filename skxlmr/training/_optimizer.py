"""Parameter groups and learning-rate schedules."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from skxlmr.nn import TaskModule

SCHEDULES = ("linear", "cosine", "constant")

# Widest encoder, and the rate for a task with a new head and for a language model; docs/user_guide.md says where they are from.
_RATES = ((320, 3e-4, 5e-4), (512, 1e-4, 2e-4), (768, 3e-5, 5e-5), (1024, 1e-5, 2e-5))
_RATES_BEYOND = (5e-6, 1e-5)
LORA_RATE = 10  # times as much for adapters


def auto_learning_rate(hidden_size: int, is_language_model: bool) -> float:
    """The learning rate of ``"auto"``, for an encoder of this width."""
    rates = next((rates for widest, *rates in _RATES if hidden_size <= widest), _RATES_BEYOND)
    return rates[is_language_model]


def learning_rate_factor(step: int, n_steps: int, schedule: str, warmup_ratio: float) -> float:
    """Factor of the learning rate at a step (0 is the first): a linear warm-up, then the schedule down to zero.

    The same values as the schedules of ``transformers``, where the first step of a warm-up has factor 0; but a fit of a
    single step, which would learn nothing, has no warm-up.
    """
    if n_steps == 1:
        return 1.0
    n_warmup = math.ceil(n_steps * warmup_ratio)
    if step < n_warmup:
        return step / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0


def freeze(module: TaskModule, n_frozen_layers: int, trains_vectors: bool = False) -> None:
    """Freeze the embeddings and the lowest layers; 0 freezes nothing but what no loss sees.

    The layers after the pooling are seen by a loss where the vectors of texts are trained.
    """
    module.backbone.n_frozen_blocks = int(n_frozen_layers) + 1 if n_frozen_layers else 0  # from a search: an np.int64
    module.requires_grad_(True)
    further = getattr(module, "sentence", None)  # layers after the pooling
    if further is not None:
        further.requires_grad_(trains_vectors)
    for block in module.backbone.blocks[: module.backbone.n_frozen_blocks]:
        block.requires_grad_(False)


def train_mode(module: TaskModule) -> None:
    """Switch dropout on, except in frozen layers, which return the same vectors in every epoch.

    What predictions keep of the weights that are about to change is given back.
    """
    from skxlmr.nn.kernels.packed import forget

    module.train()
    for place, block in enumerate(module.backbone.blocks):
        block.train(place >= module.backbone.n_frozen_blocks)
        if any(parameter.requires_grad for parameter in block.parameters()):
            forget(block)


def make_optimizer(
    module: TaskModule,
    *,
    learning_rate: float,
    head_learning_rate: float | None,
    layer_decay: float,
    weight_decay: float,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) over the parameters that are not frozen.

    The encoder's top layer learns at ``learning_rate``, each layer below it at ``layer_decay`` times the rate of the layer
    above, and the embeddings at the lowest rate. Everything outside the encoder learns at ``head_learning_rate``. Biases and
    layer norms do not decay.

    Raises
    ------
    ValueError
        If every parameter is frozen.
    """
    blocks_above = {
        parameter: above
        for above, block in enumerate(reversed(module.backbone.blocks))
        for parameter in block.parameters()
    }
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        if parameter in blocks_above:
            rate = learning_rate * layer_decay ** blocks_above[parameter]
        else:
            rate = learning_rate if head_learning_rate is None else head_learning_rate
        decay = weight_decay if parameter.ndim > 1 else 0.0  # biases and layer norms are vectors, and nothing else is
        group = {"params": [], "lr": rate, "initial_lr": rate, "weight_decay": decay}
        groups.setdefault((rate, decay), group)["params"].append(parameter)
    if not groups:
        raise ValueError("every parameter is frozen: lower n_frozen_layers")
    fused = next(module.parameters()).device.type in ("cpu", "cuda")
    return torch.optim.AdamW(list(groups.values()), fused=fused)
