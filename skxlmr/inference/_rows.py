"""Equal rows, and rows that are split into windows."""

from itertools import pairwise

import numpy as np

from skxlmr.text import EncodedBatch

ROWS_AT_ONCE = 1024  # that are copied: a copy of the copy lies in memory


def distinct_rows(encoded: EncodedBatch) -> tuple[np.ndarray, np.ndarray | None]:
    """Where the distinct rows are, in order of first occurrence, and for each row the first one that equals it.

    Returns
    -------
    distinct : ndarray of int, (n_distinct,)
    first : ndarray of int, (n_rows,), or None if no two rows are equal
    """
    if len(encoded) == 1:
        return np.zeros(1, np.int64), None
    content, bounds = encoded.ids.tobytes(), (encoded.starts * encoded.ids.itemsize).tolist()
    seconds = None if encoded.second_starts is None else encoded.second_starts.tolist()
    firsts: dict[object, int] = {}
    first = np.empty(len(encoded), np.int64)
    for row, (start, end) in enumerate(pairwise(bounds)):
        ids = content[start:end]
        first[row] = firsts.setdefault(ids if seconds is None else (ids, seconds[row]), row)
    distinct = np.fromiter(firsts.values(), np.int64, len(firsts))
    return distinct, None if len(distinct) == len(encoded) else first


def repeat_outputs(results: np.ndarray, encoded: EncodedBatch, first: np.ndarray, per_token: bool) -> None:
    """Copy the outputs of first occurrences to the rows that equal them, in place.

    Parameters
    ----------
    results : ndarray of shape (n_rows, ...), or (n_tokens, ...) if ``per_token``
    encoded : EncodedBatch
    first : ndarray of int, (n_rows,)
        The first row that equals each row.
    per_token : bool
    """
    others = np.flatnonzero(first != np.arange(len(first)))
    for some in np.array_split(others, len(others) // ROWS_AT_ONCE + 1):
        source = first[some]
        if per_token:
            some, source = encoded.token_places(some), encoded.token_places(source)
        results[some] = results[source]


def mean_of_windows(outputs: np.ndarray, encoded: EncodedBatch, weights: np.ndarray) -> np.ndarray:
    """Mean of the outputs of each input row's windows; a row with one window keeps its output to the last bit.

    Parameters
    ----------
    outputs : ndarray of shape (n_windows, ...)
    encoded : EncodedBatch
        The windows.
    weights : ndarray of shape (n_windows,)
        Weight of each window within its row.

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
