"""Warnings of the library, and where they point to."""

import inspect


class TruncationWarning(UserWarning):
    """Texts were longer than ``max_length`` tokens and were cut."""


def outside_stacklevel() -> int:
    """Stack level of the first frame outside the library and scikit-learn, so that a warning points to the user's code."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("skxlmr", "sklearn"):
        frame, level = frame.f_back, level + 1
    return level
