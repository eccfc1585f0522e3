"""Run a module over encoded rows: sort by length, pack, run, put the results back in order."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from skxlmr.batching import batches_by_length, pack
from skxlmr.nn import TokenLayout
from skxlmr.nn.linear import fast_inference
from skxlmr.text import EncodedBatch


def predict_batches(
    run: Callable[[Tensor, TokenLayout], Tensor],
    encoded: EncodedBatch,
    *,
    device: torch.device,
    token_budget: int,
    autocast: torch.dtype | None = None,
    per_token: bool = False,
) -> np.ndarray:
    """Apply ``run`` to packed batches of rows.

    Parameters
    ----------
    run : callable
        (ids (T,), layout of N sequences) -> Tensor (N, ...), or (T, ...) with ``per_token``; gradients are off.
    encoded : EncodedBatch
        The rows.
    device : torch.device
        Where the module is.
    token_budget : int
        Most tokens of a batch; a single longer row still makes a batch.
    autocast : torch.dtype, optional
        Compute in mixed precision.
    per_token : bool
        Whether ``run`` gives something for every token instead of every row.

    Returns
    -------
    ndarray of shape (n_rows, ...) or (n_tokens, ...), float32 (float64 if ``run`` returns that)
        In the order of ``encoded``.
    """
    results: np.ndarray | None = None
    pending: tuple[np.ndarray, Tensor] | None = None  # copied back one batch later, while the GPU is busy with the next
    with fast_inference(), torch.autocast(device.type, autocast, enabled=autocast is not None):
        for rows in [*batches_by_length(encoded.lengths, token_budget), None]:
            output = None if rows is None else run(*pack(encoded.take(rows), device))
            if pending is not None:
                done_rows, tensor = pending
                values = tensor.to(torch.float64 if tensor.dtype == torch.float64 else torch.float32).cpu().numpy()
                if results is None:
                    n_results = len(encoded.ids) if per_token else len(encoded)
                    results = np.empty((n_results, *values.shape[1:]), values.dtype)
                results[encoded.token_places(done_rows) if per_token else done_rows] = values
            pending = None if rows is None or output is None else (rows, output)
    assert results is not None, "no rows"
    return results


def mean_of_windows(outputs: np.ndarray, encoded: EncodedBatch, weights: np.ndarray) -> np.ndarray:
    """Mean of the outputs of each input row's windows; a row of one window keeps its output bit by bit.

    Parameters
    ----------
    outputs : ndarray of shape (n_windows, ...)
    encoded : EncodedBatch
        The windows.
    weights : ndarray of shape (n_windows,)
        How much each window counts in its row.

    Returns
    -------
    ndarray of shape (n_input_rows, ...), of the same dtype
    """
    if encoded.row_of_window is None:
        return outputs
    n_windows = encoded.n_windows
    starts = np.cumsum(n_windows) - n_windows
    means = outputs[starts]
    for row in np.flatnonzero(n_windows > 1):
        windows = slice(starts[row], starts[row] + n_windows[row])
        means[row] = np.average(outputs[windows], axis=0, weights=weights[windows])
    return means
