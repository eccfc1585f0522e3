"""What every tokenizer offers: batches of ids packed without padding, pairs, truncation, windows, offsets, decoding.

A concrete tokenizer turns distinct texts into ids (`_encode_texts`); `RowLayout` makes rows of them.
Shape suffixes: N rows of the input, T tokens of all rows together.
"""

import json
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skxlmr.text._arguments import Reading, check_room, list_of_str, list_of_words, window
from skxlmr.text._encoded import EncodedBatch
from skxlmr.text._layout import RowLayout
from skxlmr.text._sampling import SubwordSampling
from skxlmr.text._special_tokens import CONFIG_FILE, DEFAULT_ROLES, AddedToken, TokenizerSettings, place_tokens
from skxlmr.text._tokens import Ids, Tokens, encode_distinct
from skxlmr.text._truncation import TRUNCATIONS
from skxlmr.text._value import Value
from skxlmr.utils._warnings import warn_once_per_call
from skxlmr.utils._whole_numbers import whole_numbers


class Tokenizer(Value):
    """Strings to ids and back.

    Attributes
    ----------
    vocab_size : int
        Ids are 0 ... `vocab_size` - 1.
    bos_token_id, eos_token_id, cls_token_id, sep_token_id, pad_token_id, unk_token_id, mask_token_id : int
        Ids of the special tokens. BERT has neither `bos` nor `eos`: there they are those of `cls` and `sep`.
    all_special_ids : list of int
        Ids of these and of the additional special tokens, ascending, each once.
    model_max_length : int
        Most tokens of a row that the model can read; `encode_batch` does not apply it.
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
    _settings: TokenizerSettings
    _roles: Mapping[str, AddedToken]
    _tokens: Mapping[int, AddedToken]  # special and added tokens by their ids
    _ids: Mapping[str, int]  # and the other way round
    _pieces: Mapping[int, str]  # the whole vocabulary by its ids
    _default_roles: Mapping[str, AddedToken] = DEFAULT_ROLES
    _start_role = "cls_token"  # of the token at the beginning of a row
    _start_token_id: int

    # <s> A </s></s> B </s>: XLM-R and RoBERTa put two separators between the texts of a pair
    _n_pair_separators = 2
    _n_before_second_type: int | None = None  # these separators have token type 0, what follows has 1 (BERT)
    continuing_prefix: str | None = None  # what marks a piece that goes on with a word (WordPiece)

    _core: "Tokenizer | None" = None  # whose vocabulary this one shares, see `alike`
    _remark: str | None = None  # what is odd about the files, of which whoever opens them is told

    def alike(self) -> Self:
        """Return an equal tokenizer over the same vocabulary, which is not copied; attributes set on one are its own."""
        made = type(self).__new__(type(self))
        vars(made).update(vars(self), _core=self._core or self)
        return made

    def warn_of_files(self) -> None:
        """Warn of what is odd about the files it was read from."""
        if self._remark is not None:
            warn_once_per_call(self._remark, about="pair separators")

    def __repr__(self) -> str:
        return f"{type(self).__name__}(vocab_size={self.vocab_size}, model_max_length={self.model_max_length})"

    def __hash__(self) -> int:
        return hash((self.vocab_size, self.model_max_length))

    @property
    def all_special_ids(self) -> list[int]:
        return sorted({self._ids[token.content] for token in self._roles.values()}.union(self.additional_special_ids))

    @property
    def added_tokens(self) -> Mapping[int, AddedToken]:
        """Special and added tokens by their ids."""
        return self._tokens

    @property
    def marks_words(self) -> bool:
        """Whether `encode_words` puts a space before each word that `encode_batch` does not put before a text."""
        return False

    def n_special(self, pair: bool) -> int:
        """Return how many special tokens surround one text or, if `pair`, two."""
        return self._layout.n_special(pair)

    @property
    def _layout(self) -> RowLayout:
        separator = self.sep_token_id
        return RowLayout(self._start_token_id, separator, self._n_pair_separators, self._n_before_second_type)

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
            First (or only) text of each row. Equal texts are tokenised once.
        pairs : iterable of str, optional
            Second text of each row.
        max_length : int, optional
            Most tokens of a row, special tokens included. None keeps everything.
        truncation : {"longest_first", "only_first", "only_second"}
            Which text loses its end where a row is longer than `max_length`: the longer one until both are equally
            long, then both (an odd token goes to the text that was longer, the second if they were equal); or one of
            the two only, which keeps at least one token.
        stride : int, optional
            Show a text that is too long for `max_length` in several windows, each a row of the result, instead of
            cutting its end. Neighbouring windows share this many tokens. In a pair, `truncation` says which text is
            split into windows, each next to the whole other text: the longer one (the first if both are equally long),
            or one of the two only.
        parse_special : bool
            Whether ``<mask>`` or ``</s>`` in a text means the special token. By default it is ordinary text.
        return_offsets : bool
            Whether the result says where each token lies in its text (`offsets`, `sequence_ids`).
        sampling : SubwordSampling, optional
            Draw a segmentation of each text instead of taking the best one.

        Returns
        -------
        EncodedBatch

        Raises
        ------
        TypeError
            If a text is not a str, texts are a table or a mapping, or another argument is of a wrong type.
        ValueError
            If `pairs` and `texts` differ in length, `truncation` is unknown, a row cannot fit into `max_length`,
            `stride` or the other text leaves no room for a window to advance, or the tokenizer cannot draw
            segmentations.
        """
        if truncation not in TRUNCATIONS:
            raise ValueError(f"truncation must be one of {', '.join(TRUNCATIONS)}; found {truncation!r}")
        if truncation == "only_second" and pairs is None:
            raise ValueError("truncation='only_second' needs pairs, found single texts")
        columns = [list_of_str(texts, "texts")]
        if pairs is not None:
            columns.append(list_of_str(pairs, "pairs"))
            if len(columns[1]) != len(columns[0]):
                raise ValueError(f"pairs must have as many rows as texts ({len(columns[0])}), found {len(columns[1])}")
        n_special = self.n_special(pairs is not None)
        max_length, stride = window(max_length, stride, n_special)

        # how many tokens of a text the result can show: nothing beyond them need be encoded
        limit = None if max_length is None or stride is not None else max_length - n_special
        if pairs is not None and truncation == "longest_first" and limit is not None and limit % 2:
            limit = None  # the odd token goes to the longer text, and only whole texts show which that is
        tokens = self._encode(Reading(parse_special, return_offsets, sampling, limit), *columns)
        if pairs is not None and truncation == "longest_first":
            check_room(columns, tokens, max_length, n_special, stride)
        return self._layout.rows(tokens, max_length, truncation, stride)

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
        """Encode rows of pre-split words, each word on its own, and say which word each token belongs to.

        A word without tokens of its own (empty, white space, control characters) becomes one unknown token, so that
        every word has a token. Equal words are tokenised once.

        Parameters
        ----------
        rows : iterable of sequence of str
            Words of each row.
        max_length : int, optional
            Most tokens of a row, special tokens included: the last words are cut. None keeps everything.
        stride : int, optional
            Show a row that is too long in several windows that share this many tokens, as in `encode_batch`.
        parse_special : bool
            Whether a word that spells a special token means the token.
        return_offsets : bool
            Whether the result says where each token lies in its word.
        sampling : SubwordSampling, optional
            Draw a segmentation of each word instead of taking the best one.

        Returns
        -------
        EncodedBatch
            With `word_ids`.

        Raises
        ------
        TypeError
            If a row is not a sequence of words, a word not a str, or another argument of a wrong type.
        ValueError
            If a row cannot fit into `max_length`, `stride` leaves no room for a window to advance, or the tokenizer
            cannot draw segmentations.
        """
        rows = list_of_words(rows)
        max_length, stride = window(max_length, stride, self.n_special(pair=False))
        reading = Reading(parse_special, return_offsets, sampling, as_words=True)
        (tokens,) = self._encode(reading, list(chain.from_iterable(rows)))
        n_words_N = np.fromiter(map(len, rows), np.int64, len(rows))
        return self._layout.rows([tokens.joined(n_words_N)], max_length, "only_first", stride)

    def build_inputs_with_special_tokens(self, ids: Ids, pair_ids: Ids | None = None) -> list[int]:
        """Put the special tokens around the ids of one text, or of a pair of texts."""
        return self._layout.inputs(ids, pair_ids)

    def get_special_tokens_mask(
        self, ids: Ids, pair_ids: Ids | None = None, already_has_special_tokens: bool = False
    ) -> list[int]:
        """Return 1 for each special token of a row and 0 for the others.

        Parameters
        ----------
        ids, pair_ids : sequence of int
            Ids of one text, or of both texts of a pair, without special tokens around them; or, if
            `already_has_special_tokens`, one whole row as `ids`.
        already_has_special_tokens : bool
            Whether `ids` is a whole row. Then a token is special if its id is.

        Returns
        -------
        list of int
            As long as the row with its special tokens.

        Raises
        ------
        TypeError
            If `ids`, as a whole row, are not whole numbers.
        ValueError
            If `pair_ids` is given together with `already_has_special_tokens`.
        """
        if already_has_special_tokens:
            if pair_ids is not None:
                raise ValueError("ids that already have special tokens must be one row, found pair_ids too")
            return np.isin(whole_numbers(ids, "ids"), self.all_special_ids).astype(int).tolist()
        return self._layout.special_tokens_mask(ids, pair_ids)

    def create_token_type_ids_from_sequences(self, ids: Ids, pair_ids: Ids | None = None) -> list[int]:
        """Return the token type of each token of a row: 0, or 1 from a pair's second text on if the files say so (BERT)."""
        return self._layout.token_types(ids, pair_ids)

    def _encode(self, reading: Reading, *columns: list[str]) -> list[Tokens]:
        """Encode each distinct text once, or each on its own if segmentations are drawn; a word has at least one token."""

        def encode(texts: list[str]) -> Tokens:
            tokens = self._encode_texts(texts, reading)
            return tokens.with_unknown(self.unk_token_id) if reading.as_words else tokens

        return list(map(encode, columns)) if reading.drawn is not None else encode_distinct(encode, *columns)

    def _set_tokens(self, settings: TokenizerSettings, lookup: Callable[[str], int | None], size: int) -> None:
        """Give the special and added tokens their ids, after `place_tokens`, and set the attributes that say so."""
        self._roles, self._tokens = place_tokens(settings, self._default_roles, lookup, size)
        self._ids = ids = {token.content: i for i, token in self._tokens.items()}
        self.vocab_size = max(size - 1, *self._tokens) + 1
        self.additional_special_ids = [i for i, token in self._tokens.items() if token.special]
        instead = {"bos_token": self._roles["cls_token"], "eos_token": self._roles["sep_token"]}  # BERT has neither
        for role, token in (instead | self._roles).items():
            setattr(self, f"{role}_id", ids[token.content])
        self._start_token_id = ids[self._roles[self._start_role].content]

    def _set_vocabulary(self, vocab: Mapping[str, int], settings: TokenizerSettings) -> None:
        """Do the same for a vocabulary that is a mapping."""
        self._set_tokens(settings, vocab.get, max(vocab.values()) + 1)
        pieces = {i: piece for piece, i in vocab.items()}
        pieces.update((i, token.content) for i, token in self._tokens.items())
        self._pieces = pieces

    @abstractmethod
    def _encode_texts(self, texts: list[str], reading: Reading) -> Tokens:
        """Encode texts, without special tokens around them."""

    def with_tokens(self, contents: Sequence[str], special: bool = True) -> Self:
        """Return a tokenizer with further tokens, whose ids follow the vocabulary.

        Parameters
        ----------
        contents : sequence of str
            Spelling of each token. One that is in the vocabulary keeps its id.
        special : bool
            Whether they are special: found in texts only with ``parse_special=True``, and not decoded. Other added tokens
            are found in every text. Applies to tokens that exist already too, except those in a role such as ``<mask>``.

        Returns
        -------
        Tokenizer
            This one if nothing changes.

        Raises
        ------
        TypeError
            If `contents` is not a list of str.
        ValueError
            If a token is empty or has a lone surrogate, or this kind of tokenizer takes no further tokens.
        """
        contents = list_of_str(contents, "contents")
        known = replace(self._settings, roles=self._roles)
        settings = known.with_further(self._tokens, contents, special)
        return self if settings is known else self._with(settings=settings)

    def token_to_id(self, content: str) -> int | None:
        """Return the id of a special or added token, None if it does not exist."""
        return self._ids.get(content)

    def first_tokens_from(self, first: int, n: int = 3) -> dict[int, str]:
        """Return up to `n` added tokens with ids from `first` on, by their ids, or of the vocabulary if none was added."""
        ids = [i for i in sorted(self._tokens) if i >= first] or range(first, self.vocab_size)
        return dict(zip(ids[:n], self.convert_ids_to_pieces(ids[:n]), strict=True))

    def decode(self, ids: Ids, skip_special_tokens: bool = True) -> str:
        """Return the text that `ids` (one row) spell.

        Parameters
        ----------
        ids : sequence of int
            Token ids of one row.
        skip_special_tokens : bool
            Leave out the special tokens, unknown ones too. Otherwise all of them are spelled out.

        Raises
        ------
        TypeError
            If `ids` are several rows, or not whole numbers.
        ValueError
            If an id is outside the vocabulary.
        """
        ids_T = self._checked(ids)
        if skip_special_tokens:
            ids_T = ids_T[~np.isin(ids_T, self.all_special_ids)]
        return self._spell(self.convert_ids_to_pieces(ids_T))

    @abstractmethod
    def _spell(self, pieces: list[str]) -> str:
        """Return the text that vocabulary entries stand for."""

    def convert_ids_to_pieces(self, ids: Ids) -> list[str]:
        """Return the vocabulary entry of each id; raises as `decode` does."""
        unknown = self._pieces[self.unk_token_id]
        return [self._pieces.get(i, unknown) for i in self._checked(ids).tolist()]

    @abstractmethod
    def save_vocabulary(self, folder: str | PathLike[str], filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write only the vocabulary's files into an existing folder, and return their paths."""

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the tokenizer's files into `folder`, from which `load_tokenizer` and ``transformers`` read them."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self._write_vocabulary(folder)
        (folder / CONFIG_FILE).write_text(json.dumps(self._config(), indent=2) + "\n", encoding="utf-8")

    def _write_vocabulary(self, folder: Path) -> None:
        self.save_vocabulary(folder)

    @abstractmethod
    def _config(self) -> dict[str, Any]:
        """Return the content of ``tokenizer_config.json``."""

    def _checked(self, ids: Ids) -> NDArray[np.int64]:
        ids_T = whole_numbers(ids, "ids")
        outside = np.flatnonzero((ids_T < 0) | (ids_T >= self.vocab_size))
        if len(outside):
            i = outside[0]
            raise ValueError(f"ids must be within 0 ... {self.vocab_size - 1}, found {ids_T[i]} at position {i}")
        return ids_T
