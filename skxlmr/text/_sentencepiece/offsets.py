"""Where each piece lies in the original text, through SentencePiece's normalisation.

SentencePiece says which original character each normalised character comes from. A token lies on all original characters
that its own come from, without white space at either end. So two tokens that share a ligature both lie on it, and
characters that were composed stay together.
"""

from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor


def piece_offsets(
    processor: "SentencePieceProcessor",
    texts: list[str],
    n_tokens_N: NDArray[np.int64],
    n_characters_T: NDArray[np.int64],
) -> NDArray[np.int32]:
    """Return where each token begins and ends in its original text, in characters: shape (n_tokens, 2).

    Parameters
    ----------
    processor : SentencePieceProcessor
        The model, whose normaliser is used.
    texts : list of str
        Original texts, without surrogates.
    n_tokens_N : ndarray of shape (n_texts,)
        How many tokens each text has.
    n_characters_T : ndarray of shape (n_tokens,)
        How many normalised characters each token has.
    """
    if not len(n_characters_T):
        return np.zeros((0, 2), np.int32)
    normalized = [processor.normalize(text, with_offsets=True) for text in texts]
    # one entry per normalised character, and one more for the end of the text
    n_entries_N = np.fromiter((len(original) for _, original in normalized), np.int64, len(texts))
    first_entry_N = np.cumsum(n_entries_N) - n_entries_N
    text_length_N = np.fromiter(map(len, texts), np.int64, len(texts))
    base_N = np.cumsum(text_length_N + 1) - text_length_N - 1  # so that places ascend over all texts
    original_E = np.fromiter(chain.from_iterable(original for _, original in normalized), np.int64, n_entries_N.sum())
    original_E += np.repeat(base_N, n_entries_N)
    codes_E = np.frombuffer("".join(text + " " for text, _ in normalized).encode("utf-32-le"), np.uint32)
    spaces_E = (codes_E == ord("▁")) | (codes_E == ord(" "))

    row_T = np.repeat(np.arange(len(texts)), n_tokens_N)
    ends_T = np.cumsum(n_characters_T)
    before_row_N = np.concatenate(([0], ends_T))[np.cumsum(n_tokens_N) - n_tokens_N]
    end_T = first_entry_N[row_T] + ends_T - before_row_N[row_T]
    end_T = np.minimum(end_T, (first_entry_N + n_entries_N - 1)[row_T])
    # a byte that continues a character has no characters of its own: it lies where the character does
    start_T = np.maximum(end_T - np.maximum(n_characters_T, 1), first_entry_N[row_T])

    entries_E = np.arange(len(codes_E))
    next_ink_E = np.minimum.accumulate(np.where(spaces_E, len(codes_E), entries_E)[::-1])[::-1]
    last_ink_E = np.maximum.accumulate(np.where(spaces_E, -1, entries_E))
    has_ink_T = next_ink_E[start_T] < end_T
    ink_T = np.where(has_ink_T, next_ink_E[start_T], start_T)
    begin_T = original_E[ink_T]
    # an original character ends where the next one begins that normalisation did not delete
    places = np.unique(original_E)
    after_T = np.searchsorted(places, original_E[last_ink_E[end_T - 1] * has_ink_T], "right")
    stop_T = np.where(has_ink_T, places[np.minimum(after_T, len(places) - 1)], original_E[end_T])
    stop_T = np.minimum(stop_T, (base_N + text_length_N)[row_T])
    return (np.stack([begin_T, np.maximum(stop_T, begin_T)], axis=1) - base_N[row_T, None]).astype(np.int32)
