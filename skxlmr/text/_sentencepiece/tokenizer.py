"""XLM-R's tokenizer: a SentencePiece model whose ids are shifted to fairseq's."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skxlmr.text._arguments import Reading
from skxlmr.text._sampling import SubwordSampling, sampling_of
from skxlmr.text._sentencepiece.conversion import tokenizer_json
from skxlmr.text._sentencepiece.model_file import MOST_BYTES, check_model_proto, is_unigram
from skxlmr.text._sentencepiece.offsets import piece_offsets
from skxlmr.text._sentencepiece.prefix import LONG_TEXT, PrefixCutter
from skxlmr.text._sentencepiece.sampler import SegmentationSampler
from skxlmr.text._special_tokens import (
    CONFIG_FILE,
    DEFAULT_MAX_LENGTH,
    TextSplitter,
    TokenizerSettings,
    check_prefix_space,
    check_row_ends,
    read_settings,
)
from skxlmr.text._surrogates import to_utf8, without_surrogates
from skxlmr.text._tokenizer import Tokenizer
from skxlmr.text._tokens import Ids, Tokens
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import read_bytes
from skxlmr.utils._lazy import lazy

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

MODEL_FILE = "sentencepiece.bpe.model"
THREADED_BYTES = 1 << 16  # below this, about a millisecond of work, starting threads (or one) costs more than they save
TEXTS_AT_ONCE = 1 << 14  # SentencePiece's lists of int take ten times the room of the ids

_FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3; <mask> is the last id of the vocabulary


class SentencePieceTokenizer(Tokenizer):
    """Tokenizer of XLM-R and its relatives.

    The ids are fairseq's: ``<s>`` 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3, then SentencePiece's pieces 3, 4, ... with
    their ids + 1, then ``<mask>``, then added tokens. A surrogate code point is read as U+FFFD.

    Instances never change: threads may share one, and a deep copy is the instance itself. A pickle holds the model and
    needs no file.

    Parameters
    ----------
    model_proto : bytes
        Content of a ``sentencepiece.bpe.model`` file.
    model_max_length : int
        Most tokens of a row that the model can read. `save` writes it; encoding does not apply it.
    settings : TokenizerSettings, optional
        Special tokens other than fairseq's, additional ones and added tokens, as ``tokenizer_config.json`` names them.
        Those that are not in the vocabulary follow it.
    sp_model_kwargs : mapping, optional
        ``enable_sampling``, ``nbest_size`` and ``alpha`` that the checkpoint was trained with: `subword_sampling`
        returns them, `save` writes them. Encoding samples only with the `sampling` of `encode_batch`.

    Raises
    ------
    ValueError
        If `model_proto` is not a SentencePiece model that starts with ``<unk>``, ``<s>`` and ``</s>``, or the id of an
        added token does not fit the vocabulary.

    References
    ----------
    Conneau et al., Unsupervised Cross-lingual Representation Learning at Scale, https://arxiv.org/abs/1911.02116
    """

    def __init__(
        self,
        model_proto: bytes,
        *,
        model_max_length: int = DEFAULT_MAX_LENGTH,
        settings: TokenizerSettings | None = None,
        sp_model_kwargs: Mapping[str, Any] | None = None,
    ):
        settings = settings or TokenizerSettings()
        self.model_max_length = model_max_length
        self.sp_model_kwargs = dict(sp_model_kwargs or {})
        self.subword_sampling(seed=0)  # raises if they are invalid
        self._model_proto = model_proto
        self._processor = load_processor(model_proto)
        self._set_tokens(settings, self._lookup, self._mask_place + 1)
        special = tuple(token for token in settings.additional if token.special)
        self._settings = TokenizerSettings({}, settings.roles, special)
        self._spelt = TextSplitter(self._tokens.values())
        self._always_spelt = TextSplitter(token for token in self._tokens.values() if not token.special)

    @classmethod
    def from_file(cls, file: str | PathLike[str]) -> "SentencePieceTokenizer":
        """Load a ``.model`` file and, if they are next to it, ``tokenizer_config.json`` and its companions.

        Raises
        ------
        CheckpointError
            If a file cannot be read or is broken.
        """
        file = Path(file)
        settings, max_length = read_settings(file.parent)
        if str(settings.options.get("tokenizer_class") or "XLMRoberta").startswith("XLMRoberta"):
            check_prefix_space(file, settings.options, default=True, found=True)
            check_row_ends(file.parent, settings)
        config_file = file.with_name(CONFIG_FILE)
        sp_model_kwargs = settings.options.get("sp_model_kwargs") or {}
        if not isinstance(sp_model_kwargs, dict):
            raise CheckpointError(config_file, f"expected an object as sp_model_kwargs, found {sp_model_kwargs!r:.80}")
        with blaming(config_file, "sp_model_kwargs cannot be used ({})", TypeError, ValueError):
            sampling_of(sp_model_kwargs, seed=0)
        model_proto = read_bytes(file, MOST_BYTES)
        with blaming(file, "{}", ValueError):
            return cls(model_proto, model_max_length=max_length, settings=settings, sp_model_kwargs=sp_model_kwargs)

    @property
    def _lists_tokens(self) -> bool:
        """Whether some token cannot be described by the vocabulary and the names of the special tokens alone."""
        return any(i > self._mask_place or not token.special for i, token in self._tokens.items())

    def subword_sampling(self, seed: int) -> SubwordSampling | None:
        """Return the sampling that `sp_model_kwargs` describe, None if they do not enable it."""
        return sampling_of(self.sp_model_kwargs, seed)

    @property
    def model_proto(self) -> bytes:
        """Content of its ``.model`` file."""
        return self._model_proto

    def save_vocabulary(self, folder: str | PathLike[str], filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write ``sentencepiece.bpe.model`` into an existing folder and return its path."""
        file = Path(folder) / ((f"{filename_prefix}-" if filename_prefix else "") + MODEL_FILE)
        file.write_bytes(self._model_proto)
        return (str(file),)

    def save_conversion(self, folder: str | PathLike[str]) -> None:
        """Write a ``tokenizer.json`` into an existing folder too, for tools that do not read the model.

        The pieces are the same; at most, rare characters are normalised otherwise. There is none for a model that is not
        Unigram, or whose unknown token is an added one.
        """
        if not is_unigram(self._model_proto) or self.unk_token_id > self._mask_place:
            return
        places = list(range(3, self._processor.get_piece_size()))
        pieces = zip(self._processor.id_to_piece(places), self._processor.get_score(places), strict=True)
        vocab = [*((token, 0.0) for token in _FAIRSEQ), *pieces, ("<mask>", 0.0)]
        ends = [self._start_token_id, self.sep_token_id]
        start, separator = zip(self.convert_ids_to_pieces(ends), ends, strict=True)
        content = tokenizer_json(self._model_proto, vocab, self._tokens, start, separator, self.unk_token_id)
        (Path(folder) / "tokenizer.json").write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def _config(self) -> dict[str, Any]:
        config: dict[str, Any] = {"tokenizer_class": "XLMRobertaTokenizer", "model_max_length": self.model_max_length}
        config |= self._settings.to_config(self._roles)
        if self._lists_tokens:
            config["added_tokens_decoder"] = {str(i): token.to_dict() for i, token in sorted(self._tokens.items())}
        if self.sp_model_kwargs:
            config["sp_model_kwargs"] = self.sp_model_kwargs
        return config

    def decode(self, ids: Ids, skip_special_tokens: bool = True) -> str:
        """Return the text that `ids` (one row) spell.

        Parameters
        ----------
        ids : sequence of int
            Token ids of one row.
        skip_special_tokens : bool
            Leave out the special tokens, and show an unknown token as " ⁇ ", as SentencePiece does. Otherwise all of
            them are spelled out.

        Raises
        ------
        TypeError
            If `ids` are several rows, or not whole numbers.
        ValueError
            If an id is outside the vocabulary.
        """
        ids_T = self._checked(ids)
        if skip_special_tokens:
            skipped = [i for i in self.all_special_ids if i != self.unk_token_id]
            ids_T = ids_T[~np.isin(ids_T, skipped)]
            if not np.isin(ids_T, list(self._tokens)).any() or (ids_T == self.unk_token_id).any():
                is_unknown_T = np.isin(ids_T, [self.unk_token_id, 3]) | (ids_T > self._mask_place)
                return self._processor.decode(np.where(is_unknown_T, 0, ids_T - 1).tolist())
        return self._spell(self.convert_ids_to_pieces(ids_T))

    def _spell(self, pieces: list[str]) -> str:
        return "".join(pieces).replace("▁", " ").removeprefix(" ")

    def convert_ids_to_pieces(self, ids: Ids) -> list[str]:
        """Return the vocabulary entry of each id, such as "▁Hello"; raises as `decode` does."""
        special = dict(enumerate(_FAIRSEQ)) | {self._mask_place: "<mask>"}
        special |= {i: token.content for i, token in self._tokens.items()}
        return [special.get(i) or self._processor.id_to_piece(i - 1) for i in self._checked(ids).tolist()]

    @property
    def _mask_place(self) -> int:
        return self._processor.get_piece_size() + 1

    def _lookup(self, content: str) -> int | None:
        fairseq = {piece: i for i, piece in enumerate(_FAIRSEQ)} | {"<mask>": self._mask_place}
        piece = self._processor.piece_to_id(content)
        return fairseq.get(content, piece + 1 if piece > 2 else None)

    @lazy
    def _model_pieces(self) -> list[str]:
        return [self._processor.id_to_piece(i) for i in range(self._processor.get_piece_size())]

    @lazy
    def _piece_lengths(self) -> NDArray[np.int64]:
        """Normalised characters of each piece; of a byte piece, 1 if the byte starts a character, otherwise 0."""
        lengths = np.fromiter(map(len, self._model_pieces), np.int64, len(self._model_pieces))
        for i in np.flatnonzero(lengths == len("<0x00>")).tolist():
            if self._processor.is_byte(i):
                lengths[i] = not 0x80 <= int(self._model_pieces[i][3:5], 16) < 0xC0
        return lengths

    @lazy
    def _sampler(self) -> SegmentationSampler:
        return SegmentationSampler(self._processor, self._model_pieces)

    @lazy
    def _cutter(self) -> PrefixCutter:
        return PrefixCutter(self._processor, self._model_pieces)

    def _encode_texts(self, texts: list[str], reading: Reading) -> Tokens:
        splitter = self._spelt if reading.parse_special else self._always_spelt
        with_offsets, sampling, limit = reading.with_offsets, reading.drawn, reading.limit
        is_beginning_N = None
        if limit is not None and sampling is None:
            whole_texts = texts
            texts = [
                text if len(text) < LONG_TEXT or splitter.finds(text) else self._cutter.cut(text, max(limit, 0))
                for text in whole_texts
            ]
            is_cut = [text is not whole for text, whole in zip(texts, whole_texts, strict=True)]
            is_beginning_N = np.array(is_cut) if any(is_cut) else None
        if not any(map(splitter.finds, texts)):
            plain = self._encode_plain(texts, with_offsets, sampling)
            return plain if is_beginning_N is None else replace(plain, is_beginning=is_beginning_N)
        rows = [splitter.split(text) for text in texts]
        n_parts_N = np.fromiter(map(len, rows), np.int64, len(rows))
        parts = [part for row in rows for part in row]
        token_P = np.array([self._ids[text] if is_token else -1 for text, _, is_token in parts])
        plain = self._encode_plain(["" if is_token else text for text, _, is_token in parts], with_offsets, sampling)
        places = (np.cumsum(plain.lengths) - plain.lengths)[token_P >= 0]
        lengths_P = np.where(token_P >= 0, 1, plain.lengths)
        ids_T = np.insert(plain.ids, places, token_P[token_P >= 0])
        offsets_T2 = None
        if plain.offsets is not None:
            spelt = [(0, len(text)) for text, _, is_token in parts if is_token]
            offsets_T2 = np.insert(plain.offsets, places, spelt, axis=0)
            offsets_T2 += np.repeat([start for _, start, _ in parts], lengths_P)[:, None].astype(np.int32)
        ends = np.concatenate(([0], np.cumsum(lengths_P)))[np.concatenate(([0], np.cumsum(n_parts_N)))]
        return replace(Tokens.packed(ids_T, np.diff(ends), offsets_T2), is_beginning=is_beginning_N)

    def _encode_plain(self, texts: list[str], with_offsets: bool, sampling: SubwordSampling | None) -> Tokens:
        texts = [without_surrogates(text) for text in texts] if with_offsets or sampling is not None else texts
        if sampling is None:
            ids_T, lengths_N = self._best(texts)
            n_characters_T = self._characters(texts, ids_T) if with_offsets else None
        else:
            drawn = self._sampler.draw(texts, sampling)
            lengths_N = np.fromiter(map(len, drawn), np.int64, len(drawn))
            pieces_T2 = np.array(list(chain.from_iterable(drawn)), np.int64).reshape(-1, 2)
            ids_T, n_characters_T = pieces_T2[:, 0].astype(np.int32), pieces_T2[:, 1]
        offsets_T2 = None
        if with_offsets and n_characters_T is not None:
            offsets_T2 = piece_offsets(self._processor, texts, lengths_N, n_characters_T)
        ids_T += 1
        ids_T[ids_T == 1] = self.unk_token_id  # SentencePiece's <unk> is 0, and 1 is <pad> here
        return Tokens.packed(ids_T, lengths_N, offsets_T2)

    def _best(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """Return SentencePiece's ids of the best segmentations, packed, and how many each text has."""
        starts = range(0, max(len(texts), 1), TEXTS_AT_ONCE)
        pieces = [self._best_of_some(texts[start : start + TEXTS_AT_ONCE]) for start in starts]
        if len(pieces) == 1:
            return pieces[0]
        ids, lengths = zip(*pieces, strict=True)
        return np.concatenate(ids), np.concatenate(lengths)

    def _best_of_some(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        utf8 = [to_utf8(text) for text in texts]
        if sum(map(len, utf8)) > THREADED_BYTES:
            rows = self._processor.encode(utf8, out_type=int, num_threads=_n_cpus())
        else:
            rows = [self._processor.encode(text, out_type=int) for text in utf8]
        lengths_N = np.fromiter(map(len, rows), np.int64, len(rows))
        return np.fromiter(chain.from_iterable(rows), np.int32, lengths_N.sum()), lengths_N

    def _characters(self, texts: list[str], ids_T: NDArray[np.int32]) -> NDArray[np.int64]:
        """Return how many normalised characters each token of the best segmentations has."""
        n_characters_T = self._piece_lengths[ids_T]
        if (ids_T == 0).any():  # an unknown piece is as long as the characters it stands for
            pieces = chain.from_iterable(self._processor.encode(texts, out_type=str))
            n_characters_T = np.where(ids_T == 0, np.fromiter(map(len, pieces), np.int64, len(ids_T)), n_characters_T)
        return n_characters_T

    def _state(self) -> dict[str, Any]:
        state: dict[str, Any] = {"model_proto": self._model_proto, "model_max_length": self.model_max_length}
        roles = {role: token for role, token in self._roles.items() if token != self._default_roles[role]}
        if roles or self._settings.additional or self._lists_tokens:
            state["settings"] = TokenizerSettings({}, roles, self._settings.additional, self._tokens)
        return state | ({"sp_model_kwargs": self.sp_model_kwargs} if self.sp_model_kwargs else {})


# XLM-R's takes 0.4 s, and a tokenizer with further tokens, or an unpickled one, has the same model
@lru_cache(maxsize=1)
def load_processor(model_proto: bytes) -> "SentencePieceProcessor":
    """Load a SentencePiece model; ValueError if it is not one that starts as XLM-R's."""
    from sentencepiece import SentencePieceProcessor

    if not model_proto:
        raise ValueError("expected a SentencePiece model, found an empty file")
    check_model_proto(model_proto)
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model_proto)
    except RuntimeError as error:
        raise ValueError(f"expected a SentencePiece model, found something else or a damaged one ({error})") from error
    # fairseq's ids 0 to 3 replace SentencePiece's 0 to 2: an ordinary piece there would collide with </s> or <unk>
    special = processor.get_piece_size() > 2 and processor.is_control(1) and processor.is_control(2)
    if not (special and processor.unk_id() == 0):
        found = [processor.id_to_piece(i) for i in range(min(3, processor.get_piece_size()))]
        raise ValueError(f"expected a SentencePiece model that starts with <unk>, <s>, </s>, found {found}")
    ids = list(range(processor.get_piece_size()))
    try:
        processor.id_to_piece(ids)
    except UnicodeDecodeError as error:
        raise ValueError(f"expected a SentencePiece model, found a damaged one (a piece: {error})") from error
    if not np.isfinite(processor.get_score(ids)).all():
        raise ValueError("expected a SentencePiece model, found a damaged one (a score is not finite)")
    return processor


def _n_cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
