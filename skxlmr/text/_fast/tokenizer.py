"""Tokenizers run by the `tokenizers` package: ``tokenizer.json``, and RoBERTa's ``vocab.json`` with ``merges.txt``."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
from numpy.typing import NDArray

from skxlmr.text._bpe_files import MOST_VALUES, read_merges, read_vocab
from skxlmr.text._fast import tokenizer_json
from skxlmr.text._fast.offsets import trimmed
from skxlmr.text._fast.steps import check_steps
from skxlmr.text._sampling import SubwordSampling
from skxlmr.text._special_tokens import (
    CONFIG_FILE,
    DEFAULT_MAX_LENGTH,
    DEFAULT_ROLES,
    TokenizerSettings,
    boolean,
    config_of,
    positive_int,
    read_settings,
    with_further,
)
from skxlmr.text._surrogates import without_surrogates
from skxlmr.text._tokenizer import Tokenizer
from skxlmr.text._tokens import Tokens
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_json

TOKENIZER_FILE = "tokenizer.json"


class FastTokenizer(Tokenizer):
    """A ``tokenizer.json`` with XLM-R's or RoBERTa's layout: a Unigram or a byte-level BPE model.

    The `tokenizers` package turns text into ids; special tokens around them, truncation and windows are this library's,
    the same for all tokenizers. Padding and truncation in the file are ignored. A surrogate code point is read as U+FFFD.

    Instances never change: threads may share one, and a deep copy is the instance itself. A pickle holds the vocabulary
    and needs no file.

    Parameters
    ----------
    content : dict
        Content of a ``tokenizer.json``.
    settings : TokenizerSettings, optional
        Special and added tokens, as ``tokenizer_config.json`` names them.
    model_max_length : int
        Most tokens of a row that the model can read. `save` writes it; encoding does not apply it.
    file : path, optional
        Name of the file in errors.

    Raises
    ------
    CheckpointError
        If the content is not such a tokenizer.
    """

    def __init__(
        self,
        content: dict[str, Any],
        *,
        settings: TokenizerSettings | None = None,
        model_max_length: int = DEFAULT_MAX_LENGTH,
        file: str | PathLike[str] = TOKENIZER_FILE,
    ):
        self._file = Path(file)
        self._content = content
        self.model_max_length = model_max_length
        check_steps(self._file, content)
        vocabulary = tokenizer_json.vocabulary_of(self._file, content)
        self._settings = tokenizer_json.merged_settings(
            settings or TokenizerSettings(), tokenizer_json.added_tokens_of(self._file, content)
        )
        try:
            self._set_tokens(self._settings, DEFAULT_ROLES, vocabulary.get, max(vocabulary.values()) + 1)
        except ValueError as error:
            raise CheckpointError(self._file, str(error)) from error
        self._pieces = {i: piece for piece, i in vocabulary.items()}
        self._pieces |= {i: token.content for i, token in self._tokens.items()}
        tokenizer_json.check_layout(self._file, content, self.cls_token_id, self.sep_token_id)
        self._literal = self._load(content, literal=True)

    @classmethod
    def from_file(cls, file: str | PathLike[str]) -> "FastTokenizer":
        """Load a ``tokenizer.json`` and, if they are next to it, ``tokenizer_config.json`` and its companions.

        Raises
        ------
        CheckpointError
            If a file cannot be read or is broken.
        """
        file = Path(file)
        return cls._with_companions(file, read_json(file, MOST_VALUES), read_settings(file.parent))

    @classmethod
    def from_vocab(cls, vocab_file: str | PathLike[str], merges_file: str | PathLike[str]) -> "FastTokenizer":
        """Load RoBERTa's ``vocab.json`` and ``merges.txt``, and the configuration next to the first.

        Raises
        ------
        CheckpointError
            If a file cannot be read or is broken.
        """
        file = Path(vocab_file)
        settings = read_settings(file.parent)
        prefix = boolean(file.with_name(CONFIG_FILE), settings.options, "add_prefix_space", False)
        content = tokenizer_json.byte_level_json(read_vocab(file), read_merges(Path(merges_file)), prefix)
        return cls._with_companions(file, content, settings)

    @classmethod
    def _with_companions(cls, file: Path, content: dict[str, Any], settings: TokenizerSettings) -> "FastTokenizer":
        config_file = file.with_name(CONFIG_FILE)
        max_length = positive_int(config_file, settings.options, "model_max_length", DEFAULT_MAX_LENGTH)
        return cls(content, settings=settings, model_max_length=max_length, file=file)

    def with_tokens(self, contents: Sequence[str], special: bool = True) -> "FastTokenizer":
        known = replace(self._settings, roles=self._roles)
        settings = with_further(known, self._tokens, contents, special)
        if settings is known:
            return self
        return FastTokenizer(self._content, settings=settings, model_max_length=self.model_max_length, file=self._file)

    def save_vocabulary(self, folder: str | PathLike[str], filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the model's vocabulary (``vocab.json`` and ``merges.txt``, or ``unigram.json``) and return the paths."""
        return tuple(self._parsing.model.save(str(folder), filename_prefix))

    def save(self, folder: str | PathLike[str]) -> None:
        """Write ``tokenizer.json`` and the ``tokenizer_config.json`` with which ``transformers`` loads it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        content = tokenizer_json.with_tokens(self._content, self._tokens, False)
        content["post_processor"] = self._content.get("post_processor")
        byte_level = isinstance(content["model"]["vocab"], dict)
        config = dict(self._settings.options)
        config.setdefault("tokenizer_class", "RobertaTokenizer" if byte_level else "XLMRobertaTokenizer")
        config.pop("added_tokens_decoder", None)  # tokenizer.json holds them
        config |= {"model_max_length": self.model_max_length} | config_of(self._roles, self._settings.additional)
        (folder / TOKENIZER_FILE).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def decode(self, ids: Sequence[int] | NDArray[np.integer], skip_special_tokens: bool = True) -> str:
        """Return the text that `ids` (one row) spell.

        Parameters
        ----------
        ids : sequence of int
            Token ids of one row.
        skip_special_tokens : bool
            Leave out the special tokens, unknown ones too. Otherwise all of them are spelled out.

        Raises
        ------
        ValueError
            If an id is outside the vocabulary.
        """
        ids_T = self._checked(ids)
        if skip_special_tokens:
            ids_T = ids_T[~np.isin(ids_T, self.all_special_ids)]
        pieces = self.convert_ids_to_pieces(ids_T)
        decoder = self._literal.decoder
        return " ".join(pieces) if decoder is None else decoder.decode(pieces)

    def convert_ids_to_pieces(self, ids: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """Return the vocabulary entry of each id, such as "▁Hello"; ValueError if an id is outside the vocabulary."""
        unknown = self._pieces[self.unk_token_id]
        return [self._pieces.get(i, unknown) for i in self._checked(ids).tolist()]

    def _load(self, content: dict[str, Any], literal: bool) -> tokenizers.Tokenizer:
        return tokenizer_json.load(
            self._file, tokenizer_json.with_tokens(content, self._tokens, literal), literal=literal
        )

    @cached_property
    def _parsing(self) -> tokenizers.Tokenizer:
        return self._load(self._content, literal=False)

    @cached_property
    def _for_words(self) -> dict[bool, tokenizers.Tokenizer]:
        """By `parse_special`: the tokenizers that read every word as if a space preceded it."""
        chosen = {False: self._literal, True: self._parsing}
        prefixed = tokenizer_json.with_prefix_space(self._content)
        if prefixed is None:
            return chosen
        return {parse: self._load(prefixed, literal=not parse) for parse in chosen}

    def _encode_texts(
        self,
        texts: list[str],
        limit: int | None,
        parse_special: bool,
        with_offsets: bool,
        sampling: SubwordSampling | None,
    ) -> Tokens:
        return self._run(self._parsing if parse_special else self._literal, texts, with_offsets, sampling)

    def _encode_split_words(
        self, words: list[str], parse_special: bool, with_offsets: bool, sampling: SubwordSampling | None
    ) -> Tokens:
        return self._run(self._for_words[parse_special], words, with_offsets, sampling)

    def _run(
        self, tokenizer: tokenizers.Tokenizer, texts: list[str], with_offsets: bool, sampling: SubwordSampling | None
    ) -> Tokens:
        if sampling is not None and sampling.draws:
            raise ValueError("sampling needs a SentencePiece model, and this is a tokenizer of the tokenizers package")
        texts = [without_surrogates(text) for text in texts]
        encode = tokenizer.encode_batch if with_offsets else tokenizer.encode_batch_fast
        encodings = encode(texts, add_special_tokens=False)
        rows = [encoding.ids for encoding in encodings]
        lengths_N = np.fromiter(map(len, rows), np.int64, len(rows))
        ids_T = np.fromiter(chain.from_iterable(rows), np.int32, lengths_N.sum())
        if not with_offsets:
            return Tokens.packed(ids_T, lengths_N)
        places = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
        offsets_T2 = np.fromiter(places, np.int32, 2 * len(ids_T)).reshape(-1, 2)
        return Tokens.packed(ids_T, lengths_N, trimmed(texts, lengths_N, offsets_T2))

    def _state(self) -> dict[str, Any]:
        return {
            "content": self._content,
            "settings": self._settings,
            "model_max_length": self.model_max_length,
            "file": str(self._file),
        }

    def _identity(self) -> dict[str, Any]:
        return self._state() | {"file": ""}

    def __hash__(self) -> int:
        return hash((self.vocab_size, self.model_max_length))
