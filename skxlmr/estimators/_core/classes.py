"""Classes that are passed to ``partial_fit``."""

from typing import Any

import numpy as np

from skxlmr.utils._labels import plain_array


def check_classes(classes: Any, known: Any) -> None:
    """Check that the classes passed to a later call, if any, are those of the first call, in any order.

    Raises
    ------
    ValueError
        If they differ.
    """
    if classes is not None and not _are_same(classes, known):
        raise ValueError(f"classes must be the same as in earlier calls, {known!r}, got {classes!r}")


def _are_same(classes: Any, known: Any) -> bool:
    if isinstance(known, list):
        return len(classes) == len(known) and all(map(_are_same, classes, known))
    return np.array_equal(np.unique(plain_array(classes)), np.unique(known))
