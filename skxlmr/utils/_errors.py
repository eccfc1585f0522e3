"""Exceptions that neither scikit-learn nor Python has."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike


class CheckpointError(ValueError):
    """A checkpoint folder or one of its files is missing, broken, or unfit for its use.

    Parameters
    ----------
    file : str or path
        The file or folder at fault.
    reason : str
        What is wrong with it, in one sentence.

    See Also
    --------
    load : Raises it for a folder that is missing, broken or not what was saved.
    convert : Raises it for a checkpoint that does not fit the format.

    Examples
    --------
    >>> from skxlmr import XLMRobertaVectorizer
    >>> XLMRobertaVectorizer("./no-such-folder").fit(["A text."])
    Traceback (most recent call last):
        ...
    skxlmr.utils._errors.CheckpointError: ./no-such-folder: no such folder

    The file and the reason are there one by one, too:

    >>> from skxlmr import CheckpointError, load
    >>> try:
    ...     load("./no-such-folder")
    ... except CheckpointError as error:
    ...     print(error.file)
    ./no-such-folder
    """

    def __init__(self, file: str | PathLike[str], reason: str):
        self.file = str(file)
        self.reason = reason
        super().__init__(self.file, reason)  # both, so that the exception can be pickled

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"


@contextmanager
def blaming(file: str | PathLike[str], reason: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions of these kinds into a :class:`CheckpointError`; ``{}`` in the reason stands for the exception."""
    try:
        yield
    except CheckpointError:
        raise
    except kinds as error:
        raise CheckpointError(file, reason.format(error)) from error
