"""What every tokenizer offers: batches of ids packed without padding, pairs, truncation, windows, offsets, decoding.

A concrete tokenizer says how texts become ids (`_encode_texts`); the layout around them is here.
Shape suffixes: N rows of the input, W rows of the result (windows), T tokens of all rows together.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from skxlmr.text._arguments import check_room, check_stride, list_of_str
from skxlmr.text._encoded import EncodedBatch
from skxlmr.text._sampling import SubwordSampling
from skxlmr.text._tokens import Tokens, spans
from skxlmr.text._truncation import TRUNCATIONS, Part, truncate, windows_of_pairs
from skxlmr.text._value import Value


class Tokenizer(Value):
    """Strings to ids and back.

    Attributes
    ----------
    vocab_size : int
        Ids are 0 ... `vocab_size` - 1.
    bos_token_id, eos_token_id, cls_token_id, sep_token_id, pad_token_id, unk_token_id, mask_token_id : int
        Ids of the special tokens.
    all_special_ids : list of int
        All of them and the additional ones, ascending, each once.
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
    additional_special_ids: Sequence[int] = ()
    model_max_length: int
    _ids: Mapping[str, int]  # of the special and added tokens

    # <s> A </s></s> B </s>: XLM-R and RoBERTa put two separators between the texts of a pair
    _n_pair_separators = 2

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, model_max_length={self.model_max_length})"

    @property
    def all_special_ids(self) -> list[int]:
        special = {self.bos_token_id, self.eos_token_id, self.cls_token_id, self.sep_token_id}
        special |= {self.pad_token_id, self.unk_token_id, self.mask_token_id}
        return sorted(special | set(self.additional_special_ids))

    @property
    def _start_token_id(self) -> int:
        return self.cls_token_id

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
        stride: int | None = None,
        parse_special: bool = False,
        return_offsets: bool = False,
        sampling: SubwordSampling | None = None,
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
        stride : int, optional
            Show all of a text too long for `max_length` in several windows, each a row of the result, whose neighbours
            share this many tokens (0 for none), instead of cutting its end. Of a pair, `truncation` names the text that
            becomes windows, each beside the whole other text: the longer one (the first if both are equally long), or one
            of the two only.
        parse_special : bool
            Whether a text that spells a special token (``<mask>``, ``</s>``) means that token. By default it is text.
        return_offsets : bool
            Whether the result tells each token's place in its text (`offsets`, `sequence_ids`).
        sampling : SubwordSampling, optional
            Draw a segmentation of each text instead of taking the best one.

        Returns
        -------
        EncodedBatch

        Raises
        ------
        TypeError
            If a text is no str.
        ValueError
            If `pairs` has another length than `texts`, `truncation` is unknown, a row cannot fit into `max_length`,
            `stride` or the text beside it leaves no room for a window to advance, or the tokenizer cannot draw
            segmentations.
        """
        if truncation not in TRUNCATIONS:
            raise ValueError(f"truncation must be one of {', '.join(TRUNCATIONS)}; found {truncation!r}")
        if truncation == "only_second" and pairs is None:
            raise ValueError("truncation='only_second' needs pairs, found single texts")
        first_texts = list_of_str(texts, "texts")
        second_texts = None if pairs is None else list_of_str(pairs, "pairs")
        if second_texts is not None and len(second_texts) != len(first_texts):
            raise ValueError(f"pairs must have as many rows as texts ({len(first_texts)}), found {len(second_texts)}")
        check_stride(stride, max_length, self.n_special(pairs is not None))

        # how much of a text the result can show: nothing beyond it need be encoded
        limit = None if max_length is None or stride is not None else max_length - self.n_special(pairs is not None)
        if pairs is not None and truncation == "longest_first" and limit is not None and limit % 2:
            limit = None  # the odd token goes to the longer text, which only whole texts tell
        options = (limit, parse_special, return_offsets, sampling)
        first = self._encode_texts(first_texts, *options)
        second = None if second_texts is None else self._encode_texts(second_texts, *options)
        if second_texts is not None and second is not None and truncation == "longest_first":
            check_room((first_texts, second_texts), (first, second), max_length, self.n_special(pair=True), stride)
        return self._lay_out(first, second, max_length, truncation, stride)

    def encode_words(
        self,
        rows: Iterable[Sequence[str]],
        *,
        max_length: int | None = None,
        stride: int | None = None,
        parse_special: bool = False,
        return_offsets: bool = False,
        sampling: SubwordSampling | None = None,
    ) -> EncodedBatch:
        """Encode rows of pre-split words, each word on its own, and tell which word each token belongs to.

        A word that the tokenizer sees nothing in (empty, white space, control characters) becomes one unknown token, so
        that every word has a token.

        Parameters
        ----------
        rows : iterable of sequence of str
            Words of each row.
        max_length : int, optional
            Most tokens of a row, special tokens included. None keeps everything; otherwise the last words may be cut.
        stride : int, optional
            Show too long a row in several windows that share this many tokens, as in `encode_batch`.
        parse_special : bool
            Whether a word that spells a special token means that token.
        return_offsets : bool
            Whether the result tells each token's place in its word.
        sampling : SubwordSampling, optional
            Draw a segmentation of each word instead of taking the best one.

        Returns
        -------
        EncodedBatch
            With `word_ids`.

        Raises
        ------
        TypeError
            If a row is no sequence of words, or a word no str.
        ValueError
            As `encode_batch`.
        """
        rows = list(rows)
        for i, row in enumerate(rows):
            if isinstance(row, str | bytes):
                raise TypeError(f"rows must be lists of words, found one {type(row).__name__} in row {i}")
            for j, word in enumerate(row):
                if not isinstance(word, str):
                    raise TypeError(f"words must be str, found {type(word).__name__} as word {j} of row {i}")
        check_stride(stride, max_length, self.n_special(pair=False))
        n_words_N = np.fromiter(map(len, rows), np.int64, len(rows))
        words = self._encode_split_words(list(chain.from_iterable(rows)), parse_special, return_offsets, sampling)
        words = _without_gaps(words, self.unk_token_id)
        word_ids_T = np.repeat(spans(np.zeros_like(n_words_N), n_words_N), words.lengths).astype(np.int32)
        ends = np.concatenate(([0], np.cumsum(words.lengths)))[np.concatenate(([0], np.cumsum(n_words_N)))]
        first = Tokens(words.ids, np.diff(ends), words.offsets, word_ids_T)
        return self._lay_out(first, None, max_length, "only_first", stride)

    def build_inputs_with_special_tokens(self, ids: Sequence[int], pair_ids: Sequence[int] | None = None) -> list[int]:
        """Put the special tokens around the ids of one text, or of a pair of texts."""
        inputs = [self._start_token_id, *ids, self.sep_token_id]
        if pair_ids is not None:
            inputs += [self.sep_token_id] * (self._n_pair_separators - 1) + [*pair_ids, self.sep_token_id]
        return inputs

    def get_special_tokens_mask(
        self, ids: Sequence[int], pair_ids: Sequence[int] | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Tell special tokens (1) from others (0).

        Parameters
        ----------
        ids, pair_ids : sequence of int
            Ids of a text and of its pair, without special tokens around them; or, if `already_has_special_tokens`,
            one whole row as `ids` alone.
        already_has_special_tokens : bool
            Whether `ids` has its special tokens. Then a token is special if its id is.

        Returns
        -------
        list of int
            As long as the row with its special tokens.

        Raises
        ------
        ValueError
            If `pair_ids` is given together with `already_has_special_tokens`.
        """
        if already_has_special_tokens:
            if pair_ids is not None:
                raise ValueError("ids that already have special tokens must be one row, found pair_ids too")
            return np.isin(np.asarray(ids, np.int64), self.all_special_ids).astype(int).tolist()
        mask = [1, *[0] * len(ids), 1]
        if pair_ids is not None:
            mask += [1] * (self._n_pair_separators - 1) + [*[0] * len(pair_ids), 1]
        return mask

    def create_token_type_ids_from_sequences(
        self, ids: Sequence[int], pair_ids: Sequence[int] | None = None
    ) -> list[int]:
        """Return a zero for each token of the row: these models have one token type."""
        return [0] * len(self.get_special_tokens_mask(ids, pair_ids))

    def _lay_out(
        self, first: Tokens, second: Tokens | None, max_length: int | None, truncation: str, stride: int | None
    ) -> EncodedBatch:
        """Choose what of each text is shown, and put the special tokens around it."""
        n_special = self.n_special(second is not None)
        n_first_N = first.lengths
        n_second_N = np.zeros_like(n_first_N) if second is None else second.lengths
        n_dropped_N = np.zeros_like(n_first_N)
        row_W = np.arange(len(n_first_N))
        first_part, second_part = (Part(np.zeros_like(n_N), n_N) for n_N in (n_first_N, n_second_N))
        if max_length is not None and len(row_W):
            if max_length < n_special:
                raise ValueError(f"max_length={max_length} cannot hold the {n_special} special tokens of row 0")
            budget = max_length - n_special
            if stride is None:
                kept_first_N, kept_second_N = truncate(n_first_N, n_second_N, budget, truncation)
                n_dropped_N = n_first_N + n_second_N - kept_first_N - kept_second_N
                first_part, second_part = Part(row_W * 0, kept_first_N), Part(row_W * 0, kept_second_N)
            else:
                row_W, first_part, second_part = windows_of_pairs(n_first_N, n_second_N, budget, stride, truncation)

        lengths_W = first_part.kept_W + second_part.kept_W + n_special
        starts_W = np.cumsum(lengths_W) - lengths_W
        # (tokens, where they come from, where they go), both as indices of tokens
        moves = [(first, _sources(first, first_part, row_W), spans(starts_W + 1, first_part.kept_W))]
        if second is not None:
            second_starts_W = starts_W + 1 + first_part.kept_W + self._n_pair_separators
            moves.append((second, _sources(second, second_part, row_W), spans(second_starts_W, second_part.kept_W)))

        ids_T = np.full(lengths_W.sum(), self.sep_token_id, np.int32)
        ids_T[starts_W] = self._start_token_id
        offsets_T2 = None if first.offsets is None else np.zeros((len(ids_T), 2), np.int32)
        sequence_ids_T = None if first.offsets is None else np.full(len(ids_T), -1, np.int8)
        word_ids_T = None if first.word_ids is None else np.full(len(ids_T), -1, np.int32)
        for k, (tokens, source_T, target_T) in enumerate(moves):
            ids_T[target_T] = tokens.ids[source_T]
            if offsets_T2 is not None and sequence_ids_T is not None and tokens.offsets is not None:
                offsets_T2[target_T] = tokens.offsets[source_T]
                sequence_ids_T[target_T] = k
            if word_ids_T is not None and tokens.word_ids is not None:
                word_ids_T[target_T] = tokens.word_ids[source_T]
        row_of_window = window_starts = None
        if stride is not None:
            row_of_window, window_starts = row_W, first_part.start_W + second_part.start_W
        return EncodedBatch(
            ids_T, lengths_W, n_dropped_N[row_W], offsets_T2, sequence_ids_T, word_ids_T, row_of_window, window_starts
        )

    @abstractmethod
    def _encode_texts(
        self,
        texts: list[str],
        limit: int | None,
        parse_special: bool,
        with_offsets: bool,
        sampling: SubwordSampling | None,
    ) -> Tokens:
        """Encode texts without special tokens around them.

        Of a text with more than `limit` tokens, the first `limit` must be right and at least one more be there; the
        rest may be missing.
        """

    def _encode_split_words(
        self, words: list[str], parse_special: bool, with_offsets: bool, sampling: SubwordSampling | None
    ) -> Tokens:
        return self._encode_texts(words, None, parse_special, with_offsets, sampling)

    def with_tokens(self, contents: Sequence[str], special: bool = True) -> "Tokenizer":
        """Return a tokenizer with further tokens, whose ids follow after the vocabulary's end.

        Parameters
        ----------
        contents : sequence of str
            What spells each token. One that the vocabulary holds keeps its id.
        special : bool
            Whether they are special: text unless ``parse_special=True``, and not decoded. Otherwise every text that spells
            one means it. Holds for tokens that are there already too, except those in a role such as ``<mask>``.

        Returns
        -------
        Tokenizer
            This one where it has all of them so.

        Raises
        ------
        ValueError
            If a token is empty, or the tokenizer takes no further tokens.
        """
        raise ValueError(f"a {type(self).__name__} takes no further tokens")

    def token_to_id(self, content: str) -> int | None:
        """Return the id of a special or added token, None if there is no such token."""
        return self._ids.get(content)

    @abstractmethod
    def decode(self, ids: Sequence[int] | NDArray[np.integer], skip_special_tokens: bool = True) -> str:
        """Return the text that `ids` (one row) spell."""

    @abstractmethod
    def convert_ids_to_pieces(self, ids: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """Return the vocabulary entry of each id."""

    @abstractmethod
    def save_vocabulary(self, folder: str | PathLike, filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the vocabulary's files alone into an existing folder, and return their paths."""

    @abstractmethod
    def save(self, folder: str | PathLike) -> None:
        """Write the tokenizer's files into `folder`, from which `load_tokenizer` and ``transformers`` read them."""

    def _checked(self, ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        ids_T = np.asarray(ids, dtype=np.int64)
        outside = np.flatnonzero((ids_T < 0) | (ids_T >= self.vocab_size))
        if len(outside):
            i = outside[0]
            raise ValueError(f"ids must be within 0 ... {self.vocab_size - 1}, found {ids_T[i]} at position {i}")
        return ids_T


def _sources(tokens: Tokens, part: Part, row_W: NDArray[np.int64]) -> NDArray[np.int64]:
    starts_N = np.cumsum(tokens.lengths) - tokens.lengths
    return spans(starts_N[row_W] + part.start_W, part.kept_W)


def _without_gaps(words: Tokens, unk_token_id: int) -> Tokens:
    """Give every word without tokens an unknown one, at (0, 0)."""
    empty = np.flatnonzero(words.lengths == 0)
    if not len(empty):
        return words
    places = (np.cumsum(words.lengths))[empty]
    offsets_T2 = None if words.offsets is None else np.insert(words.offsets, places, 0, axis=0)
    return Tokens(np.insert(words.ids, places, unk_token_id), np.maximum(words.lengths, 1), offsets_T2)
