"""Strings to token ids and back. Nothing here knows about torch."""

from os import PathLike
from pathlib import Path

from skxlmr.text._encoded import EncodedBatch
from skxlmr.text._sampling import SubwordSampling
from skxlmr.text._sentencepiece import MODEL_FILE, SentencePieceTokenizer
from skxlmr.text._tokenizer import Tokenizer
from skxlmr.utils._errors import CheckpointError

__all__ = ["EncodedBatch", "SentencePieceTokenizer", "SubwordSampling", "Tokenizer", "load_tokenizer"]


def load_tokenizer(folder: str | PathLike) -> Tokenizer:
    """Load the tokenizer of a checkpoint folder.

    Parameters
    ----------
    folder : str or path
        A folder that holds ``sentencepiece.bpe.model``.

    Returns
    -------
    Tokenizer

    Raises
    ------
    CheckpointError
        If the folder is missing, holds no tokenizer file this library reads (the message lists what it holds), or its
        tokenizer file is broken.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(
            folder, "expected a checkpoint folder, found " + ("a file" if folder.exists() else "nothing")
        )
    if (folder / MODEL_FILE).exists():
        return SentencePieceTokenizer.from_file(folder / MODEL_FILE)
    found = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
    raise CheckpointError(folder, f"expected a tokenizer file ({MODEL_FILE}), found {found}")
