"""What every tokenizer offers: batches of ids packed without padding, pairs, truncation, decoding.

A concrete tokenizer says how texts become ids (`_encode_texts`); the layout around them and the truncation are here.
Shape suffixes: N rows, T tokens of all rows together.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike

import numpy as np
from numpy.typing import NDArray

TRUNCATIONS = ("longest_first", "only_first", "only_second")


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Token ids of many rows, one row after another with no padding.

    Attributes
    ----------
    ids : ndarray of shape (n_tokens,), int32
        Token ids, special tokens included.
    lengths : ndarray of shape (n_rows,), int64
        Tokens of each row.
    n_dropped : ndarray of shape (n_rows,), int64
        Tokens that truncation cut from each row.
    """

    ids: NDArray[np.int32]
    lengths: NDArray[np.int64]
    n_dropped: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.lengths)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """Where each row starts in `ids`, and where the last one ends: shape (n_rows + 1,), int64."""
        return np.concatenate(([0], np.cumsum(self.lengths)))

    def row(self, i: int) -> NDArray[np.int32]:
        """Ids of row `i`, a view."""
        i = range(len(self))[i]
        return self.ids[self.starts[i] : self.starts[i + 1]]

    def take(self, indices: Sequence[int] | NDArray[np.integer | np.bool_] | slice) -> "EncodedBatch":
        """Return the rows that `indices` (integers, a mask or a slice) choose, in that order."""
        rows = np.arange(len(self))[indices]
        lengths = self.lengths[rows]
        return EncodedBatch(self.ids[_spans(self.starts[rows], lengths)], lengths, self.n_dropped[rows])


class Tokenizer(ABC):
    """Strings to ids and back.

    Attributes
    ----------
    vocab_size : int
        Ids are 0 ... `vocab_size` - 1.
    bos_token_id, eos_token_id, cls_token_id, sep_token_id, pad_token_id, unk_token_id, mask_token_id : int
        Ids of the special tokens.
    all_special_ids : list of int
        All of them, ascending, each once.
    model_max_length : int
        Most tokens a row may have for the model the tokenizer came with; `encode_batch` itself does not apply it.
    """

    vocab_size: int
    bos_token_id: int
    eos_token_id: int
    cls_token_id: int
    sep_token_id: int
    pad_token_id: int
    unk_token_id: int
    mask_token_id: int
    model_max_length: int

    # <s> A </s></s> B </s>: XLM-R and RoBERTa put two separators between the texts of a pair
    _n_pair_separators = 2

    @property
    def all_special_ids(self) -> list[int]:
        special = {self.bos_token_id, self.eos_token_id, self.cls_token_id, self.sep_token_id}
        return sorted(special | {self.pad_token_id, self.unk_token_id, self.mask_token_id})

    def n_special(self, pair: bool) -> int:
        """Return how many special tokens surround one text or, if `pair`, two."""
        return 2 + self._n_pair_separators if pair else 2

    def encode_batch(
        self,
        texts: Iterable[str],
        pairs: Iterable[str] | None = None,
        *,
        max_length: int | None = None,
        truncation: str = "longest_first",
        parse_special: bool = False,
    ) -> EncodedBatch:
        """Encode texts, or pairs of texts, with special tokens around them.

        Parameters
        ----------
        texts : iterable of str
            First (or only) text of each row.
        pairs : iterable of str, optional
            Second text of each row.
        max_length : int, optional
            Most tokens of a row, special tokens included. None keeps everything.
        truncation : {"longest_first", "only_first", "only_second"}
            What is cut, always at its end, where a row is longer than `max_length`: the longer text until both are
            equally long, then both (an odd token goes to the text that was longer, the second if they were equal); or
            one of the two only, which then keeps a token at least.
        parse_special : bool
            Whether a text that spells a special token (``<mask>``, ``</s>``) means that token. By default it is text.

        Returns
        -------
        EncodedBatch

        Raises
        ------
        TypeError
            If a text is no str.
        ValueError
            If `pairs` has another length than `texts`, `truncation` is unknown, or a row cannot fit into `max_length`.
        """
        if truncation not in TRUNCATIONS:
            raise ValueError(f"truncation must be one of {', '.join(TRUNCATIONS)}; found {truncation!r}")
        if truncation == "only_second" and pairs is None:
            raise ValueError("truncation='only_second' needs pairs, found single texts")
        first_texts = _list_of_str(texts, "texts")
        second_texts = None if pairs is None else _list_of_str(pairs, "pairs")
        if second_texts is not None and len(second_texts) != len(first_texts):
            raise ValueError(f"pairs must have as many rows as texts ({len(first_texts)}), found {len(second_texts)}")

        n_special = self.n_special(pairs is not None)
        first_T, n_first_N = self._encode_texts(first_texts, parse_special)
        if second_texts is None:
            second_T, n_second_N = first_T[:0], np.zeros_like(n_first_N)
        else:
            second_T, n_second_N = self._encode_texts(second_texts, parse_special)
        kept_first_N, kept_second_N = n_first_N, n_second_N
        if max_length is not None and first_texts:
            if max_length < n_special:
                raise ValueError(f"max_length={max_length} cannot hold the {n_special} special tokens of row 0")
            kept_first_N, kept_second_N = _truncate(n_first_N, n_second_N, max_length - n_special, truncation)

        lengths_N = kept_first_N + kept_second_N + n_special
        ends_N = np.cumsum(lengths_N)
        starts_N = ends_N - lengths_N
        ids_T = np.empty(lengths_N.sum(), np.int32)
        ids_T[starts_N] = self.cls_token_id
        ids_T[ends_N - 1] = self.sep_token_id
        _copy_rows(first_T, n_first_N, ids_T, starts_N + 1, kept_first_N)
        if second_texts is not None:
            between_N = starts_N + 1 + kept_first_N
            for k in range(self._n_pair_separators):
                ids_T[between_N + k] = self.sep_token_id
            _copy_rows(second_T, n_second_N, ids_T, between_N + self._n_pair_separators, kept_second_N)
        return EncodedBatch(ids_T, lengths_N, n_first_N + n_second_N - kept_first_N - kept_second_N)

    @abstractmethod
    def _encode_texts(self, texts: list[str], parse_special: bool) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return the ids of all texts, packed, without special tokens around them, and each text's number of ids."""

    @abstractmethod
    def decode(self, ids: Sequence[int] | NDArray[np.integer], skip_special_tokens: bool = True) -> str:
        """Return the text that `ids` (one row) spell."""

    @abstractmethod
    def convert_ids_to_pieces(self, ids: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """Return the vocabulary entry of each id."""

    @abstractmethod
    def save(self, folder: str | PathLike) -> None:
        """Write the tokenizer's files into `folder`, from which `load_tokenizer` and ``transformers`` read them."""


def _list_of_str(texts: Iterable[str], name: str) -> list[str]:
    if isinstance(texts, str | bytes):
        raise TypeError(f"{name} must be a list of str, found one {type(texts).__name__}")
    texts = list(texts)
    if set(map(type, texts)) - {str}:  # one C loop; only what is odd is looked at row by row (np.str_ is a str)
        for i, text in enumerate(texts):
            if not isinstance(text, str):
                raise TypeError(f"{name} must be str, found {type(text).__name__} in row {i}")
    return texts


def _truncate(
    n_first_N: NDArray[np.int64], n_second_N: NDArray[np.int64], budget: int, truncation: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many tokens of each text are kept so that both together are at most `budget`."""
    over_N = n_first_N + n_second_N > budget
    if truncation == "longest_first":
        # the shorter text loses tokens only where it is longer than half the budget
        kept_short_N = np.minimum(np.minimum(n_first_N, n_second_N), budget // 2)
        kept_first_N = np.where(n_first_N > n_second_N, budget - kept_short_N, kept_short_N)
    else:
        other, n_other_N = ("first", n_first_N) if truncation == "only_second" else ("second", n_second_N)
        unfit = np.flatnonzero(over_N & (n_other_N > 0) & (n_other_N >= budget))
        if len(unfit):
            i = unfit[0]
            raise ValueError(
                f"truncation={truncation!r} leaves {truncation[5:]} text of row {i} no token: "
                f"max_length leaves {budget} beside the special tokens, the {other} text has {n_other_N[i]}"
            )
        kept_first_N = n_first_N if truncation == "only_second" else budget - n_second_N
    return np.where(over_N, kept_first_N, n_first_N), np.where(over_N, budget - kept_first_N, n_second_N)


def _spans(starts_N: NDArray[np.int64], lengths_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the elements of N spans, one span after another."""
    ends_N = np.cumsum(lengths_N)
    return np.repeat(starts_N - ends_N + lengths_N, lengths_N) + np.arange(lengths_N.sum())


def _copy_rows(source_T, n_source_N, target_T, target_starts_N, kept_N) -> None:
    """Copy the first `kept_N` tokens of each packed source row to where the row goes in the target."""
    source_starts_N = np.cumsum(n_source_N) - n_source_N
    target_T[_spans(target_starts_N, kept_N)] = source_T[_spans(source_starts_N, kept_N)]
