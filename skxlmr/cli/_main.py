"""The entry point: what goes wrong becomes one line and an exit status."""

from collections.abc import Sequence

from skxlmr.cli._arguments import parse
from skxlmr.cli._files import UsageError
from skxlmr.cli._run import Run

FAILED, AT_FAULT, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        The exit status: 0 if all is done; 2 if the command or the input is at fault; 130 after Ctrl-C; 1 if a file can't be
        read or written for another reason.
    """
    options = parse(arguments)
    run = Run(options)
    try:
        run()
    except UsageError as error:
        run.say(str(error))
        return AT_FAULT
    except OSError as error:
        run.say(f"{error}; {_how_to_go_on(run)}")
        return FAILED
    except KeyboardInterrupt:
        run.say(f"interrupted; {_how_to_go_on(run)}")
        return INTERRUPTED
    return 0


def _how_to_go_on(run: Run) -> str:
    return f"{run.n_done} rows are done: run the same command again to continue" if run.n_done else "no rows are done"
