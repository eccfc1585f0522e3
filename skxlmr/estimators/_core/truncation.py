"""The one warning about texts that are too long."""

import warnings

import numpy as np

from skxlmr.utils._warnings import TruncationWarning, outside_stacklevel


def warn_of_truncation(
    n_dropped: np.ndarray, limit: int, what: str, *, at_least: bool = False, when: str = "", how: str = ""
) -> None:
    """Warn if texts were cut.

    Parameters
    ----------
    n_dropped : ndarray of int
        Tokens that each text lost.
    limit : int
        Most tokens of a text.
    what : str
        What they are: texts, dialogues, responses.
    at_least : bool
        Whether the end of the longest was not looked at, so that it lost more than is known.
    when, how : str
        Ends of "are" and "were cut" in the message.
    """
    n_cut = int(np.count_nonzero(n_dropped))
    if n_cut:
        warnings.warn(
            f"{n_cut} of {len(n_dropped)} {what} are{when} longer than {limit} tokens and were cut{how}; the longest lost "
            f"{'more than ' if at_least else ''}{n_dropped.max():,} tokens",
            TruncationWarning,
            stacklevel=outside_stacklevel(),
        )
