"""The one warning about texts that are too long."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from skxlmr.text import EncodedBatch, describe_loss
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
        _warn(n_cut, len(n_dropped), limit, what, when, how, encoded.describe_longest_loss())


def who_cuts(estimator: Any, limit: int) -> str:
    """Whose limit it is, in a warning about texts that were cut."""
    most = estimator.config_.max_length
    is_chosen = estimator.max_length is not None or limit == most
    return "" if is_chosen else f", as the checkpoint says (max_length may be up to {most})"


@dataclass
class Cut:
    """How many texts of a call were cut that are encoded part by part.

    Attributes
    ----------
    n_cut : int
    longest_loss : int
        Tokens that the text lost that lost most.
    is_minimum : bool
        Whether it may be more.
    """

    n_cut: int = 0
    longest_loss: int = 0
    is_minimum: bool = False

    def add(self, encoded: EncodedBatch, times: np.ndarray) -> None:
        """Count texts, each of which occurs so many times in the call."""
        n_dropped = encoded.n_dropped
        cut = np.flatnonzero(n_dropped)  # with windows nothing is, so that each text has one row
        if len(cut):
            self.n_cut += int(times[cut].sum())
            self.longest_loss = max(self.longest_loss, int(n_dropped.max()))
            self.is_minimum |= encoded.n_dropped_is_minimum is not None and bool(encoded.n_dropped_is_minimum.any())

    def warn(self, n_texts: int, limit: int, what: str, how: str = "") -> None:
        """Warn as :func:`warn_of_truncation` does."""
        if self.n_cut:
            _warn(self.n_cut, n_texts, limit, what, "", how, describe_loss(self.longest_loss, self.is_minimum))


def _warn(n_cut: int, n_texts: int, limit: int, what: str, when: str, how: str, loss: str) -> None:
    warn_once_per_call(
        f"{n_cut} of {n_texts} {what} are{when} longer than {limit} tokens and were cut{how}; the longest lost {loss}",
        TruncationWarning,
        about=what,
        part=f" (other sets of {what} in this call are not reported)",
    )
