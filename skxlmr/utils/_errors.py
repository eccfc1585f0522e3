"""The exceptions of the library that scikit-learn and Python have no word for."""

from os import PathLike


class CheckpointError(ValueError):
    """A checkpoint folder or one of its files is missing, broken or does not fit what was asked of it.

    Parameters
    ----------
    file : str or path
        The file or folder at fault.
    reason : str
        What is wrong with it, as one sentence.
    """

    def __init__(self, file: str | PathLike, reason: str):
        self.file = str(file)
        self.reason = reason
        super().__init__(self.file, reason)  # both arguments, so that the exception survives pickling between processes

    def __str__(self) -> str:
        return f"{self.file}: {self.reason}"
