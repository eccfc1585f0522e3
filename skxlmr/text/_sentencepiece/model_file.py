"""Check a model file before SentencePiece reads it: its C++ code trusts the file, and a damaged one can crash the process.

The file is a protocol buffer: fields one after another, each with a number and, in those that are read here, a length.
"""

from collections.abc import Iterator

from skxlmr.text._bpe_files import MOST_PIECES
from skxlmr.text._charsmap import check_charsmap

MOST_BYTES = 64 * 2**20
MOST_OTHER_FIELDS = 10_000  # besides the pieces: settings of the training, tests of the model
MOST_PIECE_BYTES = 1024  # SentencePiece recurses once per byte of a piece
_PIECES, _TRAINER, _NORMALIZER, _TESTS, _DENORMALIZER = 1, 2, 3, 4, 5  # fields of the model
_NORMALIZERS = (_NORMALIZER, _DENORMALIZER)
_CHARSMAP = 2  # field of a normalizer
_MODEL_TYPE = 3  # field of the settings of the training
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5  # how a field is written
_PIECE_TAG = _PIECES << 3 | _LENGTH


def check_model_proto(proto: bytes) -> None:
    """Raise ValueError unless SentencePiece can safely read the model.

    Parameters
    ----------
    proto : bytes
        Content of a ``.model`` file.
    """
    if len(proto) > MOST_BYTES:
        raise ValueError(f"expected a SentencePiece model of at most {MOST_BYTES} bytes, found {len(proto)}")
    try:
        place, n_pieces = _skip_short_pieces(proto)
        n_fields = MOST_OTHER_FIELDS
        for field, start, end in _fields(proto, place, len(proto)):
            n_pieces += field == _PIECES
            n_fields -= field != _PIECES
            _check_counts(n_pieces, n_fields)
            if field == _PIECES and end - start > MOST_PIECE_BYTES:
                raise ValueError(f"a piece has {end - start} bytes, expected at most {MOST_PIECE_BYTES}")
            if field in (_TRAINER, _TESTS, *_NORMALIZERS):  # each field in them takes memory too
                for inner, inner_start, inner_end in _fields(proto, start, end):
                    n_fields -= 1
                    _check_counts(n_pieces, n_fields)
                    if field in _NORMALIZERS and inner == _CHARSMAP and inner_end > inner_start:
                        check_charsmap(proto[inner_start:inner_end])
    except (ValueError, IndexError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it ends too early"
        raise ValueError(f"expected a SentencePiece model, found something else or a damaged one ({reason})") from error


def charsmap_of(proto: bytes) -> bytes:
    """Return the table of character replacements of a checked model, which may be empty."""
    for field, start, end in _fields(proto, _skip_short_pieces(proto)[0], len(proto)):
        if field == _NORMALIZER:
            for inner, inner_start, inner_end in _fields(proto, start, end):
                if inner == _CHARSMAP:
                    return proto[inner_start:inner_end]
    return b""


def is_unigram(proto: bytes) -> bool:
    """Whether a checked model is of the kind Unigram, which is the default."""
    kinds = [1]
    for field, start, end in _fields(proto, _skip_short_pieces(proto)[0], len(proto)):
        if field == _TRAINER:
            kinds += [proto[inner] for number, inner, _ in _fields(proto, start, end) if number == _MODEL_TYPE]
    return kinds[-1] == 1


def _skip_short_pieces(proto: bytes) -> tuple[int, int]:
    """Return where the short pieces at the start of the file end, and how many they are.

    They are nearly all of the file, so this loop is kept simple.
    """
    place, end, n_pieces = 0, len(proto) - 1, 0
    while place < end and proto[place] == _PIECE_TAG and (length := proto[place + 1]) < 128 and n_pieces <= MOST_PIECES:
        place += 2 + length
        n_pieces += 1
    _check_counts(n_pieces, MOST_OTHER_FIELDS)
    if place > len(proto):
        raise ValueError("a field is longer than the file")
    return place, n_pieces


def _check_counts(n_pieces: int, n_fields_left: int) -> None:
    if n_pieces > MOST_PIECES:
        raise ValueError(f"there are more than {MOST_PIECES} pieces")
    if n_fields_left < 0:
        raise ValueError(f"there are more than {MOST_OTHER_FIELDS} fields besides the pieces")


def _fields(data: bytes, place: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number, start and end of each field between two places."""
    while place < end:
        tag = data[place]
        place += 1
        if tag > 127:
            tag, place = _varint(data, place - 1)
        kind, number = tag & 7, tag >> 3
        if not 0 < number < 2**29:  # readers disagree on such a field; zeros are the content of a sparse file
            raise ValueError("a field has an invalid number")
        if kind == _LENGTH:
            length = data[place]
            place += 1
            if length > 127:
                length, place = _varint(data, place - 1)
        elif kind == _VARINT:
            _, after = _varint(data, place)
            length = after - place
        elif kind in (_FOUR_BYTES, _EIGHT_BYTES):
            length = 4 if kind == _FOUR_BYTES else 8
        else:
            raise ValueError(f"a field is of the unknown kind {kind}")
        start, place = place, place + length
        if place > end:
            raise ValueError("a field is longer than the file")
        yield number, start, place


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number of 7 bits per byte, and the place after it."""
    number = 0
    for shift in range(0, 70, 7):
        byte = data[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError("a number has more than ten bytes")
