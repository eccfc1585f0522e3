"""Optional dependencies."""

import importlib
from types import ModuleType


def import_extra(module: str, extra: str, purpose: str) -> ModuleType:
    """Import a package of an extra, or say how to install it.

    Parameters
    ----------
    module : str
        Name of the package, or of a module in it.
    extra : str
        The extra of this library that installs it.
    purpose : str
        What needs it, as the subject of a sentence.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name not in (module, package):  # the package is installed, but one of its own dependencies is not
            raise
        raise ImportError(f'{purpose} needs {package}, which is not installed: pip install "skxlmr[{extra}]"') from None
