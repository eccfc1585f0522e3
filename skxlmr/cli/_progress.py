"""A line on standard error that says how far a file is."""

import sys
import time

from skxlmr.utils._standard_error import say, show_line

INTERVAL, INTERVAL_IN_LOG = 0.2, 30.0  # seconds between two looks, on a terminal and in a file


class Progress:
    """Shows rows, the share of the input and the time left.

    Parameters
    ----------
    quiet : bool
        Show nothing but what :meth:`say` is for.
    """

    def __init__(self, quiet: bool):
        self.quiet = quiet
        self.n_rows: int | None = None
        self._start = self._shown = time.monotonic()
        self._n_before, self._is_open = 0, False
        self._interval = INTERVAL if sys.stderr is not None and sys.stderr.isatty() else INTERVAL_IN_LOG

    def begin(self, n_done: int, n_rows: int | None) -> None:
        """Begin, after so many rows that an earlier call has done, of so many if that is known."""
        self._start, self._n_before, self.n_rows = time.monotonic(), n_done, n_rows

    def show(self, n_done: int, share: float) -> None:
        """Show that so many rows are done, which are this share of the input."""
        now = time.monotonic()
        if self.quiet or now - self._shown < self._interval:
            return
        self._is_open = True
        self._shown, seconds, rows = now, max(now - self._start, 1e-9), n_done - self._n_before
        of, share = ("", share) if self.n_rows is None else (f"/{self.n_rows}", n_done / max(self.n_rows, 1))
        left = seconds / max(rows, 1) * (n_done / max(share, 1e-9) - n_done)
        show_line(f"rows {n_done}{of} [{'=' * int(20 * share):<20}] {rows / seconds:.0f} rows/s, {left:.0f} s left")

    def end(self, n_done: int) -> None:
        """Say how long this call took."""
        if not self.quiet:
            seconds, rows = max(time.monotonic() - self._start, 1e-9), n_done - self._n_before
            self._is_open = False
            show_line(f"rows {n_done}: {rows} in {seconds:.1f} s ({rows / seconds:.0f} rows/s)", last=True)

    def say(self, message: str) -> None:
        """Print a message, below the line if that is shown."""
        say("\n" * self._is_open + message + "\n")
        self._is_open = False
