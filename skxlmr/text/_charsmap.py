"""Check SentencePiece's map of characters to their normal forms, a double-array trie, before it is searched."""

import struct

import numpy as np

MOST_BYTES = 4 * 2**20  # XLM-R's has 0.3 million
MOST_KEY_BYTES = 32  # SentencePiece finds at most this many prefixes at one place; XLM-R's longest key has 10
MOST_VALUE_BYTES = 256  # bounds the growth of a text; XLM-R's longest has 33
_LEAF = 1 << 31
_BLOCK = 256  # units: one per byte that may follow


def check_charsmap(blob: bytes) -> None:
    """Raise ValueError unless every search in the map stays inside it.

    Parameters
    ----------
    blob : bytes
        Size of the trie, its units, and the normal forms, each followed by a NUL.

    References
    ----------
    Yata, Darts-clone, https://github.com/s-yata/darts-clone (the layout of the units)
    """
    if len(blob) > MOST_BYTES:
        raise ValueError(f"its map of characters has {len(blob)} bytes, expected at most {MOST_BYTES}")
    size = struct.unpack_from("<I", blob)[0] if len(blob) >= 4 else 0
    forms = blob[4 + size :]
    if not size or size % (4 * _BLOCK) or size > len(blob) - 4 or not forms.endswith(b"\0"):
        raise ValueError("its map of characters is truncated or damaged")
    if max(map(len, forms.split(b"\0"))) > MOST_VALUE_BYTES:
        raise ValueError(f"its map of characters has a form of more than {MOST_VALUE_BYTES} bytes")
    units_U = np.frombuffer(blob, "<u4", size // 4, 4)
    places_U = np.arange(len(units_U), dtype=np.uint32)
    is_inner_U = units_U < _LEAF
    children_U = places_U ^ ((units_U >> 10) << ((units_U & 512) >> 6))  # the child for byte b is at this place ^ b
    broken = not is_inner_U[0] or (children_U[is_inner_U] | (_BLOCK - 1) >= len(units_U)).any()
    if broken or (units_U[~is_inner_U] - _LEAF >= len(forms)).any():
        raise ValueError("its map of characters points outside itself")
    labels_U = units_U & 255
    siblings_U = places_U ^ labels_U  # where its parent says that the children are
    reached_U = places_U == 0
    for _ in range(MOST_KEY_BYTES):
        is_place_U = np.zeros(len(units_U), bool)
        is_place_U[children_U[reached_U]] = True
        reached_U = is_inner_U & (labels_U > 0) & is_place_U[siblings_U]
        if not reached_U.any():
            return
    raise ValueError(f"its map of characters has a key of more than {MOST_KEY_BYTES} bytes")
