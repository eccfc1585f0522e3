"""A one-line progress bar for predictions and features."""

import time

from skxlmr.utils._standard_error import show_line

PATIENCE = 2.0  # seconds before anything is shown
INTERVAL = 0.2


class Progress:
    """Shows how many rows are done, in work that takes more than a few seconds; silent unless verbose.

    Parameters
    ----------
    verbose : int
        0 is silent, 1 or more shows the bar and leaves a line at the end.
    n_rows : int
        Rows that run: distinct ones, and each window of a long text. In parts, see :meth:`next_part`, rows of the input.
    n_tokens : int, optional
        Their tokens, by which the time left is estimated: the longest rows come first.
    """

    def __init__(self, verbose: int, n_rows: int, n_tokens: int = 0):
        self.verbose, self.n_rows = verbose, n_rows
        self.rows = self.tokens = 0  # that are done of the part that runs
        self._before, self._n_input_rows, self._n_rows, self._n_tokens = 0, n_rows, n_rows, n_tokens
        self.start = self.shown = time.monotonic()

    def next_part(self, n_input_rows: int, n_rows: int, n_tokens: int) -> None:
        """Go on to so many further rows of the input, which become so many rows and tokens that run."""
        self._before += 0 if self._n_tokens == 0 else self._n_input_rows
        self._n_input_rows, self._n_rows, self._n_tokens = n_input_rows, n_rows, n_tokens
        self.rows = self.tokens = 0

    def add(self, n_rows: int, n_tokens: int) -> None:
        """Count rows that are done; shown at most five times a second."""
        self.rows += n_rows
        self.tokens += n_tokens
        now = time.monotonic()
        if not self.verbose or now - self.start < PATIENCE:
            return
        done = self._before + self._n_input_rows * self.rows // self._n_rows
        share, seconds = (
            (self._before + self._n_input_rows * self.tokens / self._n_tokens) / self.n_rows,
            now - self.start,
        )
        if done == self.n_rows:
            show_line(f"rows {done}/{self.n_rows} {seconds:.1f} s", last=True)
        elif now - self.shown >= INTERVAL:
            self.shown = now
            left = seconds * (1 - share) / share
            show_line(f"rows {done}/{self.n_rows} [{'=' * int(20 * share):<20}] {left:.0f} s left")
