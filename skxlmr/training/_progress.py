"""A one-line progress bar for a fit."""

import time

from skxlmr.utils._standard_error import show_line


class Progress:
    """Shows the progress of a fit; silent unless verbose.

    Parameters
    ----------
    verbose : int
        0 is silent, 1 or more shows the bar and leaves a line per epoch.
    n_epochs : int
    n_done : int
        Epochs that were finished before this run.
    """

    def __init__(self, verbose: int, n_epochs: int, n_done: int = 0):
        self.verbose, self.n_epochs, self.n_done = verbose, n_epochs, n_done
        self.start = self.shown = time.monotonic()

    def step(self, epoch: int, step: int, n_steps: int, loss: float) -> None:
        """Show a finished step of this epoch (both counted from 1), at most five times a second."""
        now = time.monotonic()
        if not self.verbose or now - self.shown < 0.2:
            return
        self.shown = now
        done = epoch - 1 + step / n_steps - self.n_done  # epochs of this run
        left = (now - self.start) * (self.n_epochs - self.n_done - done) / done
        bar = "=" * int(20 * step / n_steps)
        show_line(f"epoch {epoch}/{self.n_epochs} [{bar:<20}] {step}/{n_steps} loss {loss:.4f} {left:.0f} s left")

    def epoch(self, epoch: int, loss: float, validation_score: float | None, n_skipped: int = 0) -> None:
        """Leave a line for a finished epoch; ``n_skipped`` steps of the fit so far were skipped."""
        if self.verbose:
            score = "" if validation_score is None else f" validation score {validation_score:.4f}"
            skipped = f" ({n_skipped} steps skipped so far)" if n_skipped else ""
            seconds = time.monotonic() - self.start
            show_line(f"epoch {epoch}/{self.n_epochs} loss {loss:.4f}{score} {seconds:.1f} s{skipped}", last=True)
