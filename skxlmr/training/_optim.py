"""Parameter groups and learning-rate schedules."""

import math
import re

import torch
from torch import nn

from skxlmr.nn import TaskModule

SCHEDULES = ("linear", "cosine", "constant")
_LAYER = re.compile(r"\.encoder\.layer\.(\d+)\.")
_NO_DECAY = re.compile(r"(bias|LayerNorm\.weight|layer_norm\.weight)$")


def learning_rate_factor(step: int, n_steps: int, schedule: str, warmup_ratio: float) -> float:
    """Factor of the learning rate at a step (0 is the first): a linear warm-up, then the schedule down to zero.

    Same values as the schedules of the reference implementation, whose first step has factor 0 when there is a warm-up.
    """
    n_warmup = math.ceil(n_steps * warmup_ratio)
    if step < n_warmup:
        return step / n_warmup
    progress = (step - n_warmup) / max(1, n_steps - n_warmup)
    if schedule == "linear":
        return 1.0 - progress
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    return 1.0


def freeze(module: TaskModule, n_frozen_layers: int) -> None:
    """Freeze the embeddings and the lowest layers; 0 freezes nothing."""
    module.requires_grad_(True)
    if n_frozen_layers:
        module.roberta.embeddings.requires_grad_(False)
        module.roberta.encoder.layer[:n_frozen_layers].requires_grad_(False)


def train_mode(module: TaskModule) -> None:
    """Switch dropout on, but not in frozen parts: what does not learn gives the same vectors in every epoch."""
    module.train()
    for part in (module.roberta.embeddings, *module.roberta.encoder.layer):
        part.train(any(parameter.requires_grad for parameter in part.parameters()))


def make_optimizer(
    module: TaskModule,
    *,
    learning_rate: float,
    head_learning_rate: float | None,
    layer_decay: float,
    weight_decay: float,
) -> torch.optim.AdamW:
    """AdamW (Loshchilov & Hutter 2019) over the parameters that are not frozen.

    The encoder's top layer learns at ``learning_rate``, each layer below at ``layer_decay`` times the rate of the one above
    it, the embeddings lowest; what is not the encoder learns at ``head_learning_rate``. Biases and layer norms do not decay.
    """
    n_layers = len(module.roberta.encoder.layer)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        layer = _LAYER.search(name)
        if layer:
            rate = learning_rate * layer_decay ** (n_layers - 1 - int(layer[1]))
        elif ".embeddings." in name:
            rate = learning_rate * layer_decay**n_layers
        else:
            rate = learning_rate if head_learning_rate is None else head_learning_rate
        groups.setdefault((rate, 0.0 if _NO_DECAY.search(name) else weight_decay), []).append(parameter)
    if not groups:
        raise ValueError("every parameter is frozen: lower n_frozen_layers")
    device = next(module.parameters()).device
    return torch.optim.AdamW(
        [
            {"params": params, "lr": rate, "initial_lr": rate, "weight_decay": decay}
            for (rate, decay), params in groups.items()
        ],
        fused=device.type in ("cpu", "cuda"),
    )
