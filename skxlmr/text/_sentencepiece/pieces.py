"""The pieces of a SentencePiece model file, and the same model with some of them."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from skxlmr.text._sentencepiece.model_file import _PIECES, _TESTS, _fields, _varint

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # kinds of a piece
_TEXT, _SCORE, _KIND = 1, 2, 3  # fields of a piece


@dataclass(frozen=True)
class Piece:
    """One entry of the vocabulary."""

    text: str
    score: float
    kind: int


def pieces_of(proto: bytes) -> list[Piece]:
    """Return the pieces of a checked model, in their order."""
    return [_piece(proto, start, end) for field, start, end in _fields(proto, 0, len(proto)) if field == _PIECES]


def with_pieces(proto: bytes, places: Iterable[int]) -> bytes:
    """Return a checked model with these pieces alone, byte by byte as they were, and everything else that it had.

    The texts on which SentencePiece tests a model when it opens it are left out: they may need other pieces.

    Parameters
    ----------
    proto : bytes
        Content of a ``.model`` file.
    places : iterable of int
        Places of the pieces that stay, ascending.
    """
    pieces: list[bytes] = []
    others: list[bytes] = []
    before = 0
    for field, _, end in _fields(proto, 0, len(proto)):
        if field != _TESTS:
            (pieces if field == _PIECES else others).append(proto[before:end])
        before = end
    return b"".join([*(pieces[place] for place in places), *others])


def _piece(proto: bytes, start: int, end: int) -> Piece:
    text, score, kind = "", 0.0, NORMAL
    for field, inner, after in _fields(proto, start, end):
        if field == _TEXT:
            text = proto[inner:after].decode("utf-8")
        elif field == _SCORE:
            (score,) = struct.unpack("<f", proto[inner:after])
        elif field == _KIND:
            kind, _ = _varint(proto, inner)
    return Piece(text, score, kind)
