"""Hashes of the content of a file and of a checkpoint."""

import hashlib
import os
from pathlib import Path

from skxlmr.checkpoints._adapters.base import base_folder
from skxlmr.checkpoints._layout import text_files, weight_files
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import open_file


def sha256_of(file: str | os.PathLike[str], most: int | None = None) -> str:
    """SHA-256 of a file, read in small pieces: a gigabyte takes about a second, and hardly any memory.

    Parameters
    ----------
    file : str or path
        The file.
    most : int, optional
        Largest size in bytes: a file with holes may claim any size, and hashing it would not end.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    CheckpointError
        If the file is missing, cannot be read, is a pipe or a device, is too large, or changes while it is read.
    """
    if not os.path.exists(file):
        raise CheckpointError(file, "is missing")
    digest, piece = hashlib.sha256(), memoryview(bytearray(2**18))
    with open_file(file, most, buffering=0) as opened, blaming(file, "cannot be read ({})", OSError):
        left = os.fstat(opened.fileno()).st_size
        while n_read := opened.readinto(piece):  # type: ignore[attr-defined]  # it is unbuffered
            left -= n_read
            if left < 0:  # some files of the system say that they are empty, and never end
                break
            digest.update(piece[:n_read])
    if left:
        raise CheckpointError(file, "changed while it was read")
    return digest.hexdigest()


def content_hash(folder: str | os.PathLike[str]) -> str:
    """SHA-256 of what defines a checkpoint: its configuration, the weights that are read, and its tokenizer.

    What a sentence encoder says of its pooling, prompts and further layers is a part of it, and so is the base model of an
    adapter. It is the same for every copy, whatever else is in the folder, such as a model card or the weights in another
    format.

    Parameters
    ----------
    folder : str or path
        A checkpoint folder.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    CheckpointError
        If the folder holds no weights, or a file cannot be read.
    """
    lines = [f"{sha256_of(Path(folder, name))}  {name}\n" for name in content_files(folder)]
    if (base := base_folder(folder)) is not None:
        lines.append(f"{content_hash(base)}  base model\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def content_files(folder: str | os.PathLike[str]) -> list[str]:
    """Names of the files that ``content_hash`` reads, sorted."""
    return sorted(text_files(folder) + weight_files(folder))
