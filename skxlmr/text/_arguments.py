"""Checks of what a tokenizer is asked for: texts that are str, windows that can advance."""

from collections.abc import Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

import numpy as np

from skxlmr.text._sampling import SubwordSampling
from skxlmr.text._tokens import Tokens
from skxlmr.text._truncation import NoRoomError, without_room
from skxlmr.utils._tables import plain_str
from skxlmr.utils._whole_numbers import whole_number


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

    def __post_init__(self) -> None:
        if not isinstance(self.sampling, SubwordSampling | None):
            raise TypeError(f"sampling must be a SubwordSampling or None, found {self.sampling!r:.80}")

    @property
    def drawn(self) -> SubwordSampling | None:
        """The sampling if it draws anything, otherwise None."""
        return self.sampling if self.sampling is not None and self.sampling.draws else None


def list_of(values: Any, name: str, kind: str) -> list[Any]:
    """Return the values as a list; TypeError if they are one text, or what has no order or other columns beside."""
    found = type(values).__name__
    if isinstance(values, str | bytes):
        raise TypeError(f"{name} must be a list of {kind}, found one {found}")
    if isinstance(values, Mapping) or hasattr(values, "columns"):
        raise TypeError(
            f"{name} must be a list of {kind}, found a {found}: pass one of its columns, such as {name}['text']"
        )
    if isinstance(values, set | frozenset) or not isinstance(values, Iterable):
        raise TypeError(f"{name} must be a list of {kind}, found a {found}")
    return list(values)


def list_of_str(texts: Iterable[str], name: str) -> list[str]:
    """Return the texts as a list; TypeError if one is not a str."""
    texts = list_of(texts, name, "str")
    if set(map(type, texts)) - {str}:  # one C loop; row by row only if a type differs (np.str_ is a str)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"{name} must be str, found {type(text).__name__} in row {i}")
        return list(map(plain_str, texts))
    return texts


def list_of_words(rows: Iterable[Sequence[str]]) -> list[Sequence[str]]:
    """Return rows of words as a list; TypeError if one is not a sequence of str."""
    rows = list_of(rows, "rows", "lists of words")
    for i, row in enumerate(rows):
        if not isinstance(row, list | tuple):
            is_row = isinstance(row, Sized) and isinstance(row, Iterable)
            if not is_row or isinstance(row, str | bytes | Mapping | set | frozenset) or hasattr(row, "columns"):
                raise TypeError(f"rows must be lists of words, found one {type(row).__name__} in row {i}")
        for j, word in enumerate(row):
            if not isinstance(word, str):
                raise TypeError(f"words must be str, found {type(word).__name__} as word {j} of row {i}")
    return rows


def window(max_length: Any, stride: Any, n_special: int) -> tuple[int | None, int | None]:
    """Return the length of the rows and what windows share, None for none, as int.

    Raises
    ------
    TypeError
        If one is not a whole number.
    ValueError
        If windows of `max_length` tokens that share `stride` tokens could not advance.
    """
    max_length = None if max_length is None else whole_number(max_length, "max_length")
    stride = None if stride is None else whole_number(stride, "stride")
    check_stride(stride, max_length, n_special)
    return max_length, stride


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
