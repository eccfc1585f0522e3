"""Surrogate code points, which a str may hold and UTF-8 may not: each is read as U+FFFD."""

import re

_SURROGATE = re.compile("[\ud800-\udfff]")


def without_surrogates(text: str) -> str:
    """Return the text with U+FFFD in place of each surrogate."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def to_utf8(text: str) -> bytes:
    """Encode the text, with U+FFFD in place of each surrogate."""
    try:
        return text.encode()
    except UnicodeEncodeError:  # rare, so the common case pays no search
        return _SURROGATE.sub("\ufffd", text).encode()
