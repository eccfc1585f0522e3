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
        Rows that run: distinct ones, and each window of a long text.
    n_tokens : int
        Their tokens, by which the time left is estimated: the longest rows come first.
    """

    def __init__(self, verbose: int, n_rows: int, n_tokens: int):
        self.verbose, self.n_rows, self.n_tokens = verbose, n_rows, n_tokens
        self.rows = self.tokens = 0
        self.start = self.shown = time.monotonic()

    def add(self, n_rows: int, n_tokens: int) -> None:
        """Count rows that are done; shown at most five times a second."""
        self.rows += n_rows
        self.tokens += n_tokens
        now = time.monotonic()
        if not self.verbose or now - self.start < PATIENCE:
            return
        share, seconds = self.tokens / self.n_tokens, now - self.start
        if self.rows == self.n_rows:
            show_line(f"rows {self.rows}/{self.n_rows} {seconds:.1f} s", last=True)
        elif now - self.shown >= INTERVAL:
            self.shown = now
            left = seconds * (1 - share) / share
            show_line(f"rows {self.rows}/{self.n_rows} [{'=' * int(20 * share):<20}] {left:.0f} s left")
