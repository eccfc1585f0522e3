"""The one warning about texts that are too long."""

import numpy as np

from skxlmr.text import EncodedBatch
from skxlmr.utils._warnings import TruncationWarning, warn_once_per_call


def warn_of_truncation(
    encoded: EncodedBatch, n_dropped: np.ndarray, limit: int, what: str, *, when: str = "", how: str = ""
) -> None:
    """Warn if any text was cut.

    Parameters
    ----------
    encoded : EncodedBatch
    n_dropped : ndarray of int
        Tokens that each text lost; a text may have several rows.
    limit : int
        Most tokens per text.
    what : str
        Their name in the message: texts, dialogues, responses.
    when, how : str
        What follows "are" and "were cut" in the message.
    """
    n_cut = int(np.count_nonzero(n_dropped))
    if n_cut:
        warn_once_per_call(
            f"{n_cut} of {len(n_dropped)} {what} are{when} longer than {limit} tokens and were cut{how}; the longest lost "
            f"{encoded.describe_longest_loss()}",
            TruncationWarning,
            about=what,
            part=f" (other sets of {what} in this call are not reported)",
        )
