"""Warnings of the library, and the line they point to."""

import inspect


class TruncationWarning(UserWarning):
    """Texts were longer than ``max_length`` tokens and were cut."""


class OutOfMemoryWarning(UserWarning):
    """A batch did not fit into the GPU's memory, and smaller ones are used instead."""


class VersionWarning(UserWarning):
    """A pickle was written by another version of the library.

    Parameters
    ----------
    estimator_name : str
        Class of the estimator.
    current_version : str
        Version of the library that reads the pickle.
    original_version : str
        Version that wrote it.
    """

    def __init__(self, estimator_name: str, current_version: str, original_version: str):
        self.estimator_name = estimator_name
        self.current_version = current_version
        self.original_version = original_version
        super().__init__(estimator_name, current_version, original_version)  # survives pickling between processes

    def __str__(self) -> str:
        return (
            f"this pickle of a {self.estimator_name} was written by skxlmr {self.original_version} and is read by "
            f"{self.current_version}, which may interpret it differently: fit again, or load it with that version and "
            "write it with skxlmr.save, whose folders later versions can read"
        )


def outside_stacklevel() -> int:
    """Stack level of the first frame outside the library and scikit-learn, so that a warning points to the user's code."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("skxlmr", "sklearn"):
        frame, level = frame.f_back, level + 1
    return level
