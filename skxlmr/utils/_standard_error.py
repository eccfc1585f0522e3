"""Lines on standard error, which never end the work that they tell about.

Standard error may be None, closed, a broken pipe or an object with only ``write``: then nothing is shown.
"""

import contextlib
import sys

WIDTH = 79  # a shorter line covers a longer one


def show_line(line: str, last: bool = False) -> None:
    """Replace the line that is shown; the ``last`` one stays.

    Parameters
    ----------
    line : str
    last : bool
    """
    say(f"\r{line:<{WIDTH}}" + "\n" * last)


def say(text: str) -> None:
    """Show a text as it is."""
    with contextlib.suppress(Exception):  # whatever the stream raises
        sys.stderr.write(text)
        sys.stderr.flush()
