"""Tokenizers of the checkpoints that were opened last, for whoever opens one of them again.

XLM-R's takes 0.4 s to read, most of the time that opening a checkpoint takes. In a search each candidate opens the checkpoint
after the one before has gone, so that the last few are kept, and those that somebody uses are found again.
"""

import os
import time
from collections.abc import Callable
from weakref import WeakValueDictionary

from skxlmr.checkpoints._identity import Identity, newest_change
from skxlmr.text import Tokenizer, forget_vocabularies, load_tokenizer

N_KEPT = 2
# A file system's clock ticks every few milliseconds, on some every 2 s: within a tick a file may change and look the same.
SETTLED = 2_000_000_000  # ns

Key = tuple[str, str | None, Identity]
_kept: dict[Key, Tokenizer] = {}  # the last one comes last
_in_use: WeakValueDictionary[Key, Tokenizer] = WeakValueDictionary()


def open_tokenizer(
    folder: str | os.PathLike[str], model_type: str | None, files: Identity, is_unchanged: Callable[[], bool]
) -> Tokenizer:
    """Load the tokenizer of a checkpoint folder, or take the one that was loaded from the same unchanged files.

    Parameters
    ----------
    folder : str or path
        The folder with the tokenizer's files.
    model_type : str or None
        As for :func:`load_tokenizer`.
    files : Identity
        Of the checkpoint, before anything was read of it.
    is_unchanged : callable
        Whether it still is the same.

    Returns
    -------
    Tokenizer
        It shares its vocabulary with others; its attributes are its own.

    Raises
    ------
    CheckpointError
        As from :func:`load_tokenizer`.
    """
    key = (os.path.abspath(folder), model_type, files)
    now = time.time_ns()
    tokenizer = _kept.pop(key, None) or _in_use.get(key)
    if tokenizer is None:
        tokenizer = load_tokenizer(folder, model_type)
        if abs(now - newest_change(files)) < SETTLED or not is_unchanged():
            return tokenizer
    else:
        tokenizer.warn_of_files()
    _kept[key] = _in_use[key] = tokenizer
    for oldest in list(_kept)[:-N_KEPT]:
        _kept.pop(oldest, None)
    return tokenizer.alike()


def forget_opened() -> None:
    """Forget what is kept of checkpoints that nobody uses."""
    _kept.clear()
    forget_vocabularies()
