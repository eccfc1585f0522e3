"""Which tokens truncation keeps, and which windows cover a long text.

Shape suffixes: N rows, W windows.
"""

from dataclasses import dataclass

import numpy as np

from skxlmr.text._tokens import Counts, spans


class NoRoomError(ValueError):
    """A text of a pair leaves no room for the other one; `row` is the row of the pair."""

    def __init__(self, message: str, row: int):
        self.message, self.row = message, row
        super().__init__(message, row)  # both, so that the exception can be pickled

    def __str__(self) -> str:
        return self.message

    def at(self, row: int) -> "NoRoomError":
        """The same error about the row that has this number where the caller counts."""
        return NoRoomError(self.message.replace(f"row {self.row}", f"row {row}", 1), row)


TRUNCATIONS = ("longest_first", "only_first", "only_second")


@dataclass(frozen=True)
class Part:
    """What each row of the result shows of one text: `kept_W` tokens, the first of them token `start_W`."""

    start_W: Counts
    kept_W: Counts


def truncate(n_first_N: Counts, n_second_N: Counts, budget: int, truncation: str) -> tuple[Part, Part]:
    """Return which tokens of each text are kept, together at most `budget`."""
    over_N = n_first_N + n_second_N > budget
    if truncation == "longest_first":
        # the shorter text loses tokens only where it is longer than half the budget
        kept_short_N = np.minimum(np.minimum(n_first_N, n_second_N), budget // 2)
        kept_first_N = np.where(n_first_N > n_second_N, budget - kept_short_N, kept_short_N)
    else:
        other, n_other_N = ("first", n_first_N) if truncation == "only_second" else ("second", n_second_N)
        unfit = np.flatnonzero(over_N & (n_other_N > 0) & (n_other_N >= budget))
        if len(unfit):
            i = unfit[0]
            raise NoRoomError(
                f"truncation={truncation!r} leaves no token of the {truncation[5:]} text of row {i}: "
                f"the {other} text takes all {budget} tokens that max_length leaves next to the special tokens",
                int(i),
            )
        kept_first_N = n_first_N if truncation == "only_second" else budget - n_second_N
    kept_second_N = np.where(over_N, budget - kept_first_N, n_second_N)
    begin_N = np.zeros_like(n_first_N)
    return Part(begin_N, np.where(over_N, kept_first_N, n_first_N)), Part(begin_N, kept_second_N)


def without_room(n_long_N: Counts, n_other_N: Counts, budget: int, stride: int) -> Counts:
    """Return the rows that need windows, but whose other text leaves no room for a window to advance."""
    return np.flatnonzero((n_long_N + n_other_N > budget) & (n_other_N >= budget - stride))


def windows(n_long_N: Counts, n_other_N: Counts, budget: int, stride: int) -> tuple[Counts, Part]:
    """Cut each long text into windows that fit next to the other text and share `stride` tokens with their neighbours.

    Every window but the last is full. Returns the row of each window, and what it shows.
    """
    unfit = without_room(n_long_N, n_other_N, budget, stride)
    if len(unfit):
        i = unfit[0]
        raise NoRoomError(
            f"stride={stride} must be less than what a window of row {i} can show: max_length leaves {budget} tokens "
            f"next to the special tokens, and the other text takes {n_other_N[i]} of them",
            int(i),
        )
    room_N = budget - n_other_N
    step_N = np.maximum(room_N - stride, 1)
    n_windows_N = 1 + np.maximum(0, -(-(n_long_N - room_N) // step_N))
    row_W = np.repeat(np.arange(len(n_long_N)), n_windows_N)
    start_W = spans(np.zeros_like(n_windows_N), n_windows_N) * step_N[row_W]
    return row_W, Part(start_W, np.minimum(room_N[row_W], n_long_N[row_W] - start_W))


def windows_of_pairs(
    n_first_N: Counts, n_second_N: Counts, budget: int, stride: int, truncation: str
) -> tuple[Counts, Part, Part]:
    """Cut the first text, the second or the longer one into windows, each next to the whole other text.

    Returns the row of each window, and what it shows of the first and of the second text.
    """
    if truncation == "longest_first":
        cuts_second_N = n_second_N > n_first_N
    else:
        cuts_second_N = np.full(len(n_second_N), truncation == "only_second")
    n_long_N = np.where(cuts_second_N, n_second_N, n_first_N)
    n_other_N = n_first_N + n_second_N - n_long_N
    row_W, part = windows(n_long_N, n_other_N, budget, stride)
    cuts_second_W, n_other_W = cuts_second_N[row_W], n_other_N[row_W]
    first_part = Part(np.where(cuts_second_W, 0, part.start_W), np.where(cuts_second_W, n_other_W, part.kept_W))
    second_part = Part(part.start_W - first_part.start_W, part.kept_W + n_other_W - first_part.kept_W)
    return row_W, first_part, second_part
