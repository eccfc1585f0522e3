"""Lines of progress on standard error, which never end the work that they tell about."""

import contextlib
import sys

WIDTH = 79  # a shorter line covers a longer one


def show_line(line: str, last: bool = False) -> None:
    """Replace the line that is shown; the ``last`` one stays.

    Standard error may be None, closed, a broken pipe or an object with only ``write``: then nothing is shown.

    Parameters
    ----------
    line : str
    last : bool
    """
    with contextlib.suppress(Exception):  # whatever the stream raises
        sys.stderr.write(f"\r{line:<{WIDTH}}" + "\n" * last)
        sys.stderr.flush()
