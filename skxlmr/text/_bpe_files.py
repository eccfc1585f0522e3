"""The files of a byte-pair encoding: ``vocab.json`` and ``merges.txt``."""

import io
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import read_bytes, read_json

VOCAB_FILE = "vocab.json"
MERGES_FILE = "merges.txt"
MOST_IDS = 10**7
# of a vocabulary in JSON: a million pieces with scores are about 3 million values, and 65 MB with indentation
MOST_VALUES, MOST_VOCAB_BYTES = 4_000_000, 80 * 2**20
MOST_PIECES = 1_000_000  # each takes up to 1 kB of memory; XLM-V has 0.9 million
MOST_MERGES = 500_000
LONGEST_TOKEN = 1024  # bytes: the tokenizers package recurses once per byte when it frees its tree of pieces
MOST_BYTES = 16 * 2**20  # of merges.txt


def read_vocab(file: Path) -> dict[str, int]:
    """Read ``vocab.json``; CheckpointError unless it maps tokens to distinct ids."""
    vocab = read_json(file, MOST_VALUES, most_bytes=MOST_VOCAB_BYTES)
    check_ids(file, vocab)
    return vocab


def read_merges(file: Path) -> list[tuple[str, str]]:
    """Read the pairs of ``merges.txt``, most frequent first; CheckpointError if a line is not a pair.

    A third column (fastBPE's counts) is allowed; a line that starts with ``#version`` is skipped, and so is a count alone,
    which is what ``transformers`` saves of a pair of no-break spaces.
    """
    with blaming(file, "expected text in UTF-8, found something else ({})", UnicodeDecodeError):
        text = read_bytes(file, MOST_BYTES).decode("utf-8")
    merges: list[tuple[str, str]] = []
    for i, line in enumerate(io.StringIO(text, newline="\n")):
        line = line.rstrip("\r\n")
        parts = [part for part in line.split(" ") if part]
        if not parts or line.startswith("#version") or (len(parts) == 1 and parts[0].isdecimal()):
            continue
        if len(parts) not in (2, 3):
            raise CheckpointError(file, f"expected two tokens in line {i + 1}, found {line!r:.80}")
        if len(merges) == MOST_MERGES:
            raise CheckpointError(file, f"expected at most {MOST_MERGES} pairs, found more")
        merges.append((parts[0], parts[1]))
    return merges


def check_lengths(file: Path, tokens: Iterable[str]) -> None:
    """Raise CheckpointError if a token is too long."""
    for token in tokens:
        if 4 * len(token) > LONGEST_TOKEN and (n := len(token.encode())) > LONGEST_TOKEN:
            raise CheckpointError(file, f"has a token of {n} bytes, {token!r:.80}, expected at most {LONGEST_TOKEN}")


def check_count(file: Path, n: int) -> None:
    """Raise CheckpointError if a vocabulary has too many tokens."""
    if n > MOST_PIECES:
        raise CheckpointError(file, f"has a vocabulary of {n} tokens, expected at most {MOST_PIECES}")


def check_ids(file: Path, vocab: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless the vocabulary maps tokens to distinct ids."""
    check_count(file, len(vocab))
    check_lengths(file, vocab)
    for token, i in vocab.items():
        if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < MOST_IDS:
            reason = f"expected an id within 0 ... {MOST_IDS - 1} for {token!r:.80}, found {i!r:.80}"
            raise CheckpointError(file, reason)
    n_ids = len(set(vocab.values()))
    if not vocab or n_ids != len(vocab):
        raise CheckpointError(file, f"expected tokens with distinct ids, found {n_ids} ids for {len(vocab)} tokens")
