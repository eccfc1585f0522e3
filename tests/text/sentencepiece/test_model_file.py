"""SentencePiece models and character maps that must never reach C++ code."""

import struct

import pytest

from skxlmr.text._charsmap import MOST_BYTES, MOST_KEY_BYTES, MOST_VALUE_BYTES, check_charsmap
from skxlmr.text._sentencepiece.model_file import (
    MOST_OTHER_FIELDS,
    MOST_PIECE_BYTES,
    MOST_PIECES,
    _fields,
    check_model_proto,
)
from tests.robustness.mutations import proto_field


def charsmap(units=None, forms=b"a\0", size=None):
    """A map of 256 units: the root, with one child for the byte 97, whose form is at the start."""
    held = {0: 0, 97: 97 | 1 << 8 | (97 ^ 98) << 10, 98: 1 << 31} | (units or {})
    packed = b"".join(struct.pack("<I", held.get(i, 0)) for i in range(256))
    return struct.pack("<I", len(packed) if size is None else size) + packed + forms


def piece(text, score=-1.0):
    return proto_field(1, proto_field(1, text) + b"\x15" + struct.pack("<f", score))


def test_a_sound_map():
    check_charsmap(charsmap())


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (b"", "truncated or damaged"),
        (b"\0\0\0", "truncated or damaged"),
        (charsmap(size=0), "truncated or damaged"),
        (charsmap(size=1020), "truncated or damaged"),
        (charsmap(size=2048), "truncated or damaged"),
        (charsmap(size=2**32 - 1024), "truncated or damaged"),
        (charsmap(forms=b"a"), "truncated or damaged"),
        (charsmap(forms=b""), "truncated or damaged"),
        (charsmap(forms=b"a" * (MOST_VALUE_BYTES + 1) + b"\0"), f"a form of more than {MOST_VALUE_BYTES} bytes"),
        (charsmap({0: 1 << 31 | 5 << 10}), "points outside itself"),  # the root is followed whatever its bits say
        (charsmap({0: 256 << 10}), "points outside itself"),
        (charsmap({97: 97 | 1 << 8 | 1 << 9 | 1 << 20}), "points outside itself"),
        (charsmap({98: 1 << 31 | 2}), "points outside itself"),
        (charsmap({98: (1 << 32) - 1}), "points outside itself"),
        (charsmap({97: 97 | 97 << 10}), f"a key of more than {MOST_KEY_BYTES} bytes"),  # its own child
    ],
    ids=range(15),
)
def test_damaged_maps_are_refused(blob, message):
    with pytest.raises(ValueError, match=message):
        check_charsmap(blob)


def test_a_sound_model(tiny_proto):
    check_model_proto(tiny_proto)
    parts = [(number, tiny_proto[start:end]) for number, start, end in _fields(tiny_proto, 0, len(tiny_proto))]
    assert b"".join(proto_field(number, content) for number, content in parts) == tiny_proto


@pytest.mark.parametrize(
    ("proto", "message"),
    [
        (b"\n\0" * (MOST_PIECES + 1), "more than 1000000 pieces"),
        (b"\n\0" * (MOST_PIECES // 2) + b"\x30\0" + b"\n\0" * (MOST_PIECES // 2 + 1), "more than 1000000 pieces"),
        (b"\x30\0" * (MOST_OTHER_FIELDS + 1), "more than 10000 fields besides the pieces"),
        *(
            (proto_field(field, b"\x0a\0" * (MOST_OTHER_FIELDS + 1)), "more than 10000 fields besides the pieces")
            for field in (2, 3, 4, 5)  # of the training, normalization, tests and denormalization
        ),
        (b"\0" * 100, "has an invalid number"),  # a sparse file
        (piece(b"a") + b"\0" * 100, "has an invalid number"),
        (proto_field(3, proto_field(2, b"\0" * (MOST_BYTES + 1))), "map of characters has 4194305 bytes"),
        (piece(b"x" * MOST_PIECE_BYTES), r"a piece has \d+ bytes"),
        (piece(b"a") + piece(b"x" * 200_000), r"a piece has \d+ bytes"),
        (b"\x08\1" + piece(b"x" * 200_000), r"a piece has \d+ bytes"),
        (b"\x8a\x80\0" + piece(b"x" * 200_000)[1:], r"a piece has \d+ bytes"),  # the same tag, in more bytes
        (piece(b"a")[:-1], "longer than the file"),
        (b"\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "longer than the file"),
        (b"\n" + b"\xff" * 20, "more than ten bytes"),
        (b"\x0b", "unknown kind"),
        (b"\n", "ends too early"),
        (b"\xfa\xff\xff\xff\xff\xff\x01\0", "has an invalid number"),
        (proto_field(3, proto_field(2, charsmap({0: 1 << 31}))), "points outside itself"),
        (proto_field(5, proto_field(2, b"x")), "truncated or damaged"),
        (proto_field(3, b"\x12\x05a"), "longer than the file"),
    ],
    ids=range(23),
)
def test_damaged_models_are_refused(proto, message):
    with pytest.raises(ValueError, match=f"expected a SentencePiece model, .*{message}"):
        check_model_proto(proto)
