"""What the engine runs where autograd records, for gradients with respect to inputs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from skxlmr.batching import pack
from skxlmr.text import EncodedBatch
from skxlmr.utils._devices.gpu_queue import turn
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.inference.engine import Engine
    from skxlmr.nn import TaskModule, TokenLayout

RunWithGraph: TypeAlias = "Callable[[TaskModule, np.ndarray, Tensor, TokenLayout], Tensor]"


def recorded(engine: Engine, encoded: EncodedBatch, run: RunWithGraph, per_token: bool) -> np.ndarray:
    """Outputs of ``run`` on batches of all rows, equal ones too; always in float32 or wider.

    No parameter gets a gradient unless ``run`` asks for it: ``torch.autograd.grad`` does not.

    Parameters
    ----------
    engine : Engine
    encoded : EncodedBatch
    run : callable
        (module, numbers of the rows (n,), ids (T,), layout) -> Tensor (n, ...), or (T, ...) if ``per_token``. The module is a
        copy where the weights are half as wide.
    per_token : bool

    Returns
    -------
    ndarray of shape (n_rows, ...), or (n_tokens, ...) if ``per_token``
    """
    from skxlmr.nn.kernels.trained import fast_training

    module, device = engine.module, engine.device
    if any(weight.dtype not in (torch.float32, torch.float64) for weight in module.parameters()):
        module = copy.deepcopy(module).float()
    queue = engine._queue(encoded.lengths)
    results: np.ndarray | None = None
    plain = torch.autocast(device.type, enabled=False)  # the caller may be inside an autocast block
    with turn(device), torch.inference_mode(False), torch.enable_grad(), fast_training(), plain:
        for rows in queue:
            with queue:
                values = run(module, rows, *pack(encoded.take(rows), device)).detach().cpu().numpy()
                if results is None:
                    n_results = len(encoded.ids) if per_token else len(encoded)
                    results = np.empty((n_results, *values.shape[1:]), values.dtype)
                results[encoded.token_places(rows) if per_token else rows] = values
    assert results is not None, "no rows"
    engine._check_outputs(results)
    return results
