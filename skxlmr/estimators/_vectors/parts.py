"""Features of many texts, part by part: the memory beside the texts and their features does not grow with their number.

Shape suffixes: N rows of the input, R rows of a part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from skxlmr.estimators._core.truncation import Cut
from skxlmr.estimators._vectors.output import Output
from skxlmr.inference import Engine, Progress
from skxlmr.text import EncodedBatch, NoRoomError
from skxlmr.utils._validation import Texts

# A part is small beside the weights of a model, and has hundreds of batches, so that nearly all of them are full.
ROWS = 2**13
CHARACTERS = 2**20
BYTES = 2**26  # of features


@dataclass(frozen=True)
class Rows:
    """Texts or pairs in one dimension, and which of them are equal.

    Attributes
    ----------
    texts : Texts
    first_N : ndarray of int64
        The first row that equals each row.
    times_N : ndarray of int64
        How often each row occurs, at its first place.
    digest : str
        SHA-256 of all.
    """

    texts: Texts
    first_N: np.ndarray
    times_N: np.ndarray
    digest: str

    @classmethod
    def of(cls, texts: Texts) -> Rows:
        """Look at texts that stand one after another."""
        hashes = bytearray(16 * len(texts.first))  # where a set would hold the texts
        for row, first in enumerate(texts.first):
            content = first.encode("utf-8", "surrogatepass")
            if texts.second is not None:
                content = b"%d %s%s" % (len(content), content, texts.second[row].encode("utf-8", "surrogatepass"))
            hashes[16 * row : 16 * row + 16] = hashlib.blake2b(content, digest_size=16).digest()
        hashes_N = np.frombuffer(hashes, [("high", "<u8"), ("low", "<u8")])
        order = np.lexsort((hashes_N["low"], hashes_N["high"]))  # stable: of equal rows, the first comes first
        ordered = hashes_N[order]
        begins = np.ones(len(order), bool)
        begins[1:] = ordered[1:] != ordered[:-1]
        group = np.cumsum(begins) - 1
        first_N, times_N = np.empty(len(order), np.int64), np.zeros(len(order), np.int64)
        first_N[order] = order[begins][group]
        times_N[order[begins]] = np.bincount(group) if len(order) else 0
        kind = b"pairs:" if texts.second is not None else b"texts:"
        return cls(texts, first_N, times_N, hashlib.sha256(kind + hashes).hexdigest())

    def take(self, rows: np.ndarray) -> Texts:
        """Some of the texts."""
        first, second = self.texts.first, self.texts.second
        chosen = rows.tolist()
        return Texts([first[i] for i in chosen], None if second is None else [second[i] for i in chosen])


def one_dimension(texts: Texts) -> Texts:
    """The same texts, those of a row with several columns one after another: so their features lie in the result."""
    if texts.side_by_side == 1:
        return texts
    n_rows = len(texts)
    return Texts([text for row in range(n_rows) for text in texts.first[row::n_rows]])


def is_one_part(texts: Texts, n_features: int) -> bool:
    """Whether all texts are in one part, as those of most calls are."""
    return len(texts.first) <= _most_rows(n_features) and sum(_lengths(texts)) <= CHARACTERS


def parts_of(texts: Texts, n_features: int, start: int = 0) -> Iterator[slice]:
    """Parts of similar size from this row on; where one ends does not depend on where the first one starts.

    Parameters
    ----------
    texts : Texts
        In one dimension.
    n_features : int
        Of each of them.
    start : int
        The end of a part.
    """
    most_rows, n_characters = _most_rows(n_features), 0
    for row, length in enumerate(_lengths(texts)):
        if row < start:
            continue
        if row > start and (row - start >= most_rows or n_characters + length > CHARACTERS):
            yield slice(start, row)
            start, n_characters = row, 0
        n_characters += length
    if start < len(texts.first):
        yield slice(start, len(texts.first))


def fill(
    output: Output,
    rows: Rows,
    engine: Engine,
    encode: Callable[[Texts], EncodedBatch],
    features: Callable[[EncodedBatch], np.ndarray],
) -> Cut:
    """Write the features of all rows that the output does not have yet, each distinct row encoded once.

    Parameters
    ----------
    output : Output
        One row per row.
    rows : Rows
    engine : Engine
        Runs ``features``; shows how far all parts together are.
    encode : callable
        Token ids of texts.
    features : callable
        Features of encoded texts, (n_texts, n_features).

    Returns
    -------
    Cut
        How many of the texts were cut, those that the output already had included.
    """
    first_N, cut = rows.first_N, output.cut
    is_first_N = first_N == np.arange(len(first_N))
    engine.progress = Progress(engine.verbose, int(np.count_nonzero(is_first_N[output.n_done :])))
    for part in parts_of(rows.texts, output.n_features, output.n_done):
        new = part.start + np.flatnonzero(is_first_N[part])
        values_RD = np.empty((0, output.n_features), np.float32)
        if len(new):
            try:
                encoded = encode(rows.take(new))
            except NoRoomError as error:
                raise error.at(int(new[error.row])) from None
            cut.add(encoded, rows.times_N[new])
            engine.progress.next_part(len(new), len(encoded), len(encoded.ids))
            values_RD = features(encoded)
        if len(new) < part.stop - part.start:
            values_RD = _with_repeated(values_RD, new, first_N[part], part.start, output)
        output.write(part.start, values_RD)
    return cut


def _with_repeated(values: np.ndarray, new: np.ndarray, first_R: np.ndarray, start: int, output: Output) -> np.ndarray:
    """Features of all rows of a part, of which some equal others, in this part or an earlier one."""
    values_RD = np.empty((len(first_R), output.n_features), np.float32)
    is_here_R = first_R >= start
    values_RD[is_here_R] = values[np.searchsorted(new, first_R[is_here_R])]
    values_RD[~is_here_R] = output.read(first_R[~is_here_R])
    return values_RD


def _most_rows(n_features: int) -> int:
    return min(max(BYTES // (4 * n_features), 1), ROWS)


def _lengths(texts: Texts) -> Iterator[int]:
    """Characters of each row."""
    lengths = map(len, texts.first)
    return lengths if texts.second is None else map(sum, zip(lengths, map(len, texts.second), strict=True))
