"""Classes that are passed to ``partial_fit``."""

from typing import Any

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
        is_list = isinstance(classes, list | tuple) and len(classes) == len(known)
        return is_list and all(map(_are_same, classes, known))
    try:
        return set(plain_array(classes).ravel().tolist()) == set(known.tolist())
    except TypeError:  # such as a list among them, which is no label
        return False
