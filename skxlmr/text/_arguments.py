"""Checks of what a tokenizer is asked for: texts that are str, windows that can advance."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from skxlmr.text._sampling import SubwordSampling
from skxlmr.text._tokens import Tokens
from skxlmr.text._truncation import NoRoomError, without_room
from skxlmr.utils._tables import plain_str


@dataclass(frozen=True)
class Reading:
    """How texts are read.

    Attributes
    ----------
    parse_special : bool
        Whether a text that spells a special token means the token.
    with_offsets : bool
        Whether to say where each token lies in its text.
    sampling : SubwordSampling, optional
        How segmentations are drawn; see `drawn`.
    limit : int, optional
        If a text has more tokens, the result may hold its beginning only: the first `limit` tokens and at least one more.
    as_words : bool
        Whether each text is a word on its own, which may follow a space.
    """

    parse_special: bool
    with_offsets: bool
    sampling: SubwordSampling | None
    limit: int | None = None
    as_words: bool = False

    @property
    def drawn(self) -> SubwordSampling | None:
        """The sampling if it draws anything, otherwise None."""
        return self.sampling if self.sampling is not None and self.sampling.draws else None


def list_of_str(texts: Iterable[str], name: str) -> list[str]:
    """Return the texts as a list; TypeError if one is not a str."""
    if isinstance(texts, str | bytes):
        raise TypeError(f"{name} must be a list of str, found one {type(texts).__name__}")
    texts = list(texts)
    if set(map(type, texts)) - {str}:  # one C loop; row by row only if a type differs (np.str_ is a str)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"{name} must be str, found {type(text).__name__} in row {i}")
        return list(map(plain_str, texts))
    return texts


def check_stride(stride: int | None, max_length: int | None, n_special: int) -> None:
    """Raise ValueError if windows of `max_length` tokens that share `stride` tokens could not advance."""
    if stride is None:
        return
    if stride < 0:
        raise ValueError(f"stride must be 0 or more tokens, found {stride}")
    if max_length is None:
        raise ValueError("stride needs max_length, the length of the windows; found None")
    budget = max(0, max_length - n_special)
    if stride >= budget:
        raise ValueError(
            f"stride={stride} must be less than the {budget} tokens that max_length={max_length} leaves next to the special "
            "tokens"
        )


def check_room(
    texts: Sequence[list[str]], tokens: Sequence[Tokens], max_length: int | None, n_special: int, stride: int | None
) -> None:
    """Raise ValueError if the shorter text of a pair leaves no room for windows on the longer one; it is quoted."""
    if max_length is None or stride is None:
        return
    budget = max_length - n_special
    n_first_N, n_second_N = (of_text.lengths for of_text in tokens)
    n_shorter_N = np.minimum(n_first_N, n_second_N)
    unfit = without_room(np.maximum(n_first_N, n_second_N), n_shorter_N, budget, stride)
    if len(unfit):
        i = unfit[0]
        shorter = texts[int(n_second_N[i] <= n_first_N[i])][i]
        raise NoRoomError(
            f"row {i}: a pair's shorter text must leave room for windows on the longer one: {shorter[:40]!r}... has "
            f"{n_shorter_N[i]} tokens, of the {budget} that max_length={max_length} leaves, and windows share stride={stride}",
            int(i),
        )
