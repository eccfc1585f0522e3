"""The small checkpoint that comes with the package."""

from importlib import resources
from pathlib import Path

from skxlmr.utils._errors import CheckpointError

BUILTIN = "skxlmr-mini"


def builtin_folder() -> Path:
    """Return the folder of ``skxlmr-mini``.

    Raises
    ------
    CheckpointError
        If this installation was built without it.
    """
    folder = Path(str(resources.files("skxlmr.checkpoints") / BUILTIN))
    if not folder.is_dir():
        raise CheckpointError(folder, f"the built-in checkpoint {BUILTIN!r} is not part of this installation")
    return folder
