"""The special tokens around one text or a pair of texts, and the rows of a batch that they make.

Shape suffixes: N rows of the input, W rows of the result (windows), T tokens of all rows together.
"""

from dataclasses import dataclass

import numpy as np

from skxlmr.text._encoded import EncodedBatch
from skxlmr.text._tokens import Ids, Tokens, spans
from skxlmr.text._truncation import truncate, windows_of_pairs


@dataclass(frozen=True)
class RowLayout:
    """Where special tokens stand: ``<s> A </s>`` and ``<s> A </s></s> B </s>``, or with one separator between the texts.

    Attributes
    ----------
    start_id, separator_id : int
        The token at the beginning, and the one after each text.
    n_between : int
        Separators between the texts of a pair.
    n_before_second_type : int, optional
        How many of them have token type 0, as the first text has; what follows has token type 1. If None, all tokens have
        type 0.
    """

    start_id: int
    separator_id: int
    n_between: int
    n_before_second_type: int | None = None

    def n_special(self, pair: bool) -> int:
        """Return how many special tokens surround one text or, if `pair`, two."""
        return 2 + self.n_between if pair else 2

    def inputs(self, ids: Ids, pair_ids: Ids | None) -> list[int]:
        """Put the special tokens around the ids of one text, or of a pair of texts."""
        inputs = [self.start_id, *ids, self.separator_id]
        if pair_ids is not None:
            inputs += [self.separator_id] * (self.n_between - 1) + [*pair_ids, self.separator_id]
        return inputs

    def special_tokens_mask(self, ids: Ids, pair_ids: Ids | None) -> list[int]:
        """Return 1 for each special token of the row of these ids, and 0 for the others."""
        mask = [1, *[0] * len(ids), 1]
        if pair_ids is not None:
            mask += [1] * (self.n_between - 1) + [*[0] * len(pair_ids), 1]
        return mask

    def token_types(self, ids: Ids, pair_ids: Ids | None) -> list[int]:
        """Return the token type of each token of the row of these ids."""
        n = len(self.special_tokens_mask(ids, pair_ids))
        if pair_ids is None or self.n_before_second_type is None:
            return [0] * n
        n_first = 1 + len(ids) + self.n_before_second_type
        return [0] * n_first + [1] * (n - n_first)

    def rows(self, columns: list[Tokens], max_length: int | None, truncation: str, stride: int | None) -> EncodedBatch:
        """Choose what of each text is shown, and put the special tokens around it; for the arguments see `encode_batch`."""
        is_pair = len(columns) == 2
        first, n_special = columns[0], self.n_special(is_pair)
        n_second_N = columns[1].lengths if is_pair else np.zeros_like(first.lengths)
        n_tokens_N = first.lengths + n_second_N
        row_W = np.arange(len(n_tokens_N))
        if max_length is not None and max_length < n_special and len(row_W):
            raise ValueError(f"max_length={max_length} cannot hold the {n_special} special tokens of row 0")
        budget = int(n_tokens_N.sum()) if max_length is None else max_length - n_special
        if stride is None:
            first_part, second_part = truncate(first.lengths, n_second_N, budget, truncation)
            n_dropped_W = n_tokens_N - first_part.kept_W - second_part.kept_W
        else:
            row_W, first_part, second_part = windows_of_pairs(first.lengths, n_second_N, budget, stride, truncation)
            n_dropped_W = np.zeros_like(row_W)

        lengths_W = first_part.kept_W + second_part.kept_W + n_special
        starts_W = np.cumsum(lengths_W) - lengths_W
        first_ends_W = 1 + first_part.kept_W
        moves = [(first, first_part, starts_W + 1)]
        if is_pair:
            moves.append((columns[1], second_part, starts_W + first_ends_W + self.n_between))

        ids_T = np.full(lengths_W.sum(), self.separator_id, np.int32)
        ids_T[starts_W] = self.start_id
        offsets_T2 = None if first.offsets is None else np.zeros((len(ids_T), 2), np.int32)
        sequence_ids_T = None if first.offsets is None else np.full(len(ids_T), -1, np.int8)
        word_ids_T = None if first.word_ids is None else np.full(len(ids_T), -1, np.int32)
        for k, (tokens, part, target_W) in enumerate(moves):
            source_T = spans(tokens.starts[row_W] + part.start_W, part.kept_W)
            target_T = spans(target_W, part.kept_W)
            ids_T[target_T] = tokens.ids[source_T]
            if offsets_T2 is not None and sequence_ids_T is not None and tokens.offsets is not None:
                offsets_T2[target_T] = tokens.offsets[source_T]
                sequence_ids_T[target_T] = k
            if word_ids_T is not None and tokens.word_ids is not None:
                word_ids_T[target_T] = tokens.word_ids[source_T]
        has_types = is_pair and self.n_before_second_type is not None
        beginnings = [tokens.is_beginning for tokens in columns if tokens.is_beginning is not None]
        return EncodedBatch(
            ids_T,
            lengths_W,
            n_dropped_W,
            offsets_T2,
            sequence_ids_T,
            word_ids_T,
            row_of_window=None if stride is None else row_W,
            window_starts=None if stride is None else first_part.start_W + second_part.start_W,
            second_starts=first_ends_W + (self.n_before_second_type or 0) if has_types else None,
            n_dropped_is_minimum=np.logical_or.reduce(beginnings) if beginnings else None,
        )
