"""Run a module over encoded rows: sort by length, pack, run, put the results back in order."""

import warnings
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from skxlmr.batching import batches_by_length, pack
from skxlmr.nn import TokenLayout
from skxlmr.nn.linear import fast_inference
from skxlmr.text import EncodedBatch
from skxlmr.utils._device import is_out_of_memory, release_memory
from skxlmr.utils._warnings import OutOfMemoryWarning, outside_stacklevel

# A text takes some 30 to 60 tokens: batches of this many tokens a row keep the cores busy without filling the caches.
TOKENS_PER_ROW = 128
ROWS_ON_GPU = 8  # times as many keep a GPU busy

Result = TypeVar("Result")


def tokens_of_rows(batch_size: int, device: torch.device) -> int:
    """Most tokens of a batch of predictions."""
    return batch_size * TOKENS_PER_ROW * (ROWS_ON_GPU if device.type == "cuda" else 1)


def run_batches(
    run: Callable[[np.ndarray], Result],
    lengths: np.ndarray,
    token_budget: int,
    device: torch.device,
    budget_of_row: int | None = None,
) -> Iterator[tuple[np.ndarray, Result]]:
    """Yield batches of rows with what ``run`` makes of them; what does not fit into the GPU is run in smaller ones.

    Parameters
    ----------
    run : callable
        Numbers of rows -> anything.
    lengths : ndarray of int
        Tokens of each row.
    token_budget : int
        Most tokens of a batch; a single longer row still makes a batch. Halved for the rest where memory runs out.
    device : torch.device
    budget_of_row : int, optional
        What 1 of ``batch_size`` adds to the budget, by default that of ``tokens_of_rows``.

    Raises
    ------
    torch.OutOfMemoryError
        If a single row does not fit.
    """
    waiting = deque(batches_by_length(lengths, token_budget))
    told = token_budget
    while waiting:
        rows, reason = waiting.popleft(), None
        try:
            result = run(rows)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            reason = str(error).partition("\n")[0]
        if reason is None:
            if token_budget < told:
                _tell(token_budget // (budget_of_row or tokens_of_rows(1, device)), device)
                told = token_budget
            yield rows, result
            continue
        # Here the error is gone, and with it the tensors of the frames it came from.
        if len(rows) == 1:
            raise torch.OutOfMemoryError(
                f"a single row does not fit into the memory of {device}: lower max_length, or start from a smaller checkpoint "
                f"({reason})"
            )
        release_memory(device)
        token_budget = int(lengths[rows].sum()) // 2
        rest = np.concatenate([rows, *waiting])
        waiting = deque(rest[part] for part in batches_by_length(lengths[rest], token_budget))


def _tell(batch_size: int, device: torch.device) -> None:
    warnings.warn(
        f"out of memory on {device}: the rest of this call is run in smaller batches; to start like this, set "
        f"batch_size={max(batch_size, 1)}",
        OutOfMemoryWarning,
        stacklevel=outside_stacklevel(),
    )


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

    def run_rows(rows: np.ndarray) -> Tensor:
        return run(*pack(encoded.take(rows), device))

    with fast_inference(), torch.autocast(device.type, autocast, enabled=autocast is not None):
        for batch in chain(run_batches(run_rows, encoded.lengths, token_budget, device), [None]):
            if pending is not None:
                done_rows, tensor = pending
                values = tensor.to(torch.float64 if tensor.dtype == torch.float64 else torch.float32).cpu().numpy()
                if results is None:
                    n_results = len(encoded.ids) if per_token else len(encoded)
                    results = np.empty((n_results, *values.shape[1:]), values.dtype)
                results[encoded.token_places(done_rows) if per_token else done_rows] = values
            pending = batch
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
