"""Equal rows, and rows that are split into windows."""

from itertools import pairwise

import numpy as np

from skxlmr.text import EncodedBatch


def distinct_rows(encoded: EncodedBatch) -> tuple[EncodedBatch, np.ndarray | None]:
    """The distinct rows in order of first occurrence, and for each row the number of its distinct row.

    Returns
    -------
    distinct : EncodedBatch
        The rows themselves if no two are equal.
    row_of_distinct : ndarray of int, (n_rows,), or None if no two are equal
    """
    content, bounds = encoded.ids.tobytes(), (encoded.starts * encoded.ids.itemsize).tolist()
    seconds = None if encoded.second_starts is None else encoded.second_starts.tolist()
    place: dict[object, int] = {}
    first: list[int] = []
    inverse = np.empty(len(encoded), np.int64)
    for row, (start, end) in enumerate(pairwise(bounds)):
        ids = content[start:end]
        inverse[row] = number = place.setdefault(ids if seconds is None else (ids, seconds[row]), len(place))
        if number == len(first):
            first.append(row)
    return (encoded, None) if len(first) == len(encoded) else (encoded.take(first), inverse)


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
