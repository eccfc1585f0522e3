"""Where each token of the `tokenizers` package lies in its text, without the white space around it."""

import numpy as np
from numpy.typing import NDArray

_SPACES = np.array([code for code in range(0x3001) if chr(code).isspace()], np.uint32)


def trimmed(texts: list[str], n_tokens_N: NDArray[np.int64], offsets_T2: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return the places without the white space at either end; a token of white space alone keeps its place.

    Parameters
    ----------
    texts : list of str
        Original texts, without surrogates.
    n_tokens_N : ndarray of shape (n_texts,)
        How many tokens each text has.
    offsets_T2 : ndarray of shape (n_tokens, 2)
        Place of each token in its text.
    """
    if not len(offsets_T2):
        return offsets_T2
    lengths_N = np.fromiter(map(len, texts), np.int64, len(texts))
    base_T = np.repeat(np.cumsum(lengths_N + 1) - lengths_N - 1, n_tokens_N)
    codes_C = np.frombuffer("".join(text + " " for text in texts).encode("utf-32-le"), np.uint32)
    spaces_C = np.isin(codes_C, _SPACES)
    places_C = np.arange(len(codes_C))
    next_ink_C = np.minimum.accumulate(np.where(spaces_C, len(codes_C), places_C)[::-1])[::-1]
    last_ink_C = np.maximum.accumulate(np.where(spaces_C, -1, places_C))
    begin_T, end_T = offsets_T2.T.astype(np.int64) + base_T
    has_ink_T = next_ink_C[begin_T] < end_T
    begin_T = np.where(has_ink_T, next_ink_C[begin_T], begin_T)
    end_T = np.where(has_ink_T, last_ink_C[end_T - 1] + 1, end_T)
    return (np.stack([begin_T, end_T], axis=1) - base_T[:, None]).astype(np.int32)
