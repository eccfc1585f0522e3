"""What the parameters say of adapters."""

from __future__ import annotations

from typing import Any

from skxlmr.training import LoraSettings


def lora_settings(estimator: Any) -> LoraSettings | None:
    """Which adapters the fits of an estimator train; None if they train the weights themselves.

    Raises
    ------
    TypeError
        If ``lora_targets`` is a list of something else than names.
    """
    if estimator.lora_rank is None:
        return None
    targets = estimator.lora_targets
    names = (targets,) if isinstance(targets, str) else tuple(targets)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"lora_targets must be 'auto', 'all-linear' or a list of names of layers, got {targets!r}")
    return LoraSettings(int(estimator.lora_rank), float(estimator.lora_alpha), float(estimator.lora_dropout), names)
