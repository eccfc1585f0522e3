"""XLM-R's tokenizer: a SentencePiece model whose ids are shifted to fairseq's."""

import json
import os
import re
from collections.abc import Sequence
from itertools import chain
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sentencepiece import SentencePieceProcessor

from skxlmr.text._tokenizer import Tokenizer
from skxlmr.utils._errors import CheckpointError

MODEL_FILE = "sentencepiece.bpe.model"
CONFIG_FILE = "tokenizer_config.json"
DEFAULT_MAX_LENGTH = 512
THREADED_BYTES = 1 << 16  # below about a millisecond of work, starting threads costs more than they save

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3; <mask> is the last id
_SPECIAL_IN_TEXT = re.compile("(" + "|".join((*_SPECIAL, "<mask>")) + ")")
_SURROGATE = re.compile("[\ud800-\udfff]")


class SentencePieceTokenizer(Tokenizer):
    """Tokenizer of XLM-R and its relatives.

    The ids are fairseq's: ``<s>`` 0, ``<pad>`` 1, ``</s>`` 2, ``<unk>`` 3, then SentencePiece's pieces from its id 3
    on, each + 1, and ``<mask>`` last. A surrogate code point in a str is no character: each is read as U+FFFD.

    Instances never change: they may be shared by threads, and a deep copy is the instance itself. A pickle holds the
    model and needs no file.

    Parameters
    ----------
    model_proto : bytes
        Content of a ``sentencepiece.bpe.model`` file.
    model_max_length : int
        Most tokens a row may have for the model this tokenizer belongs to. `save` writes it, nothing else uses it here.

    Raises
    ------
    ValueError
        If `model_proto` is no SentencePiece model, or one without fairseq's places for ``<unk>``, ``<s>`` and ``</s>``.

    References
    ----------
    Conneau et al., Unsupervised Cross-lingual Representation Learning at Scale, https://arxiv.org/abs/1911.02116
    """

    bos_token_id = cls_token_id = 0
    pad_token_id = 1
    eos_token_id = sep_token_id = 2
    unk_token_id = 3

    def __init__(self, model_proto: bytes, *, model_max_length: int = DEFAULT_MAX_LENGTH):
        self.model_max_length = model_max_length
        self._model_proto = model_proto
        self._processor = _load_processor(model_proto)
        self.mask_token_id = self._processor.get_piece_size() + 1
        self.vocab_size = self.mask_token_id + 1

    @classmethod
    def from_file(cls, file: str | PathLike) -> "SentencePieceTokenizer":
        """Load a ``.model`` file and, where one lies beside it, the `model_max_length` of ``tokenizer_config.json``.

        Raises
        ------
        CheckpointError
            If either file cannot be read or is broken.
        """
        file = Path(file)
        options = _read_config(file.with_name(CONFIG_FILE))
        try:
            return cls(file.read_bytes(), **options)
        except OSError as error:
            raise CheckpointError(file, f"cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise CheckpointError(file, str(error)) from error

    def save(self, folder: str | PathLike) -> None:
        """Write ``sentencepiece.bpe.model`` and the ``tokenizer_config.json`` with which ``transformers`` loads it."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "tokenizer_class": "XLMRobertaTokenizer",
            "model_max_length": self.model_max_length,
            "bos_token": "<s>",
            "cls_token": "<s>",
            "eos_token": "</s>",
            "sep_token": "</s>",
            "pad_token": "<pad>",
            "unk_token": "<unk>",
            "mask_token": {"__type": "AddedToken", "content": "<mask>", "lstrip": True, "rstrip": False}
            | {"normalized": False, "single_word": False, "special": True},
        }
        (folder / MODEL_FILE).write_bytes(self._model_proto)
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    def decode(self, ids: Sequence[int] | NDArray[np.integer], skip_special_tokens: bool = True) -> str:
        """Return the text that `ids` (one row) spell.

        Parameters
        ----------
        ids : sequence of int
            Token ids of one row.
        skip_special_tokens : bool
            Leave out ``<s>``, ``<pad>``, ``</s>`` and ``<mask>``; an unknown token shows as " ⁇ ", SentencePiece's
            own sign for it. Otherwise all of them are spelled out.

        Raises
        ------
        ValueError
            If an id is outside the vocabulary.
        """
        ids_T = self._checked(ids)
        if skip_special_tokens:
            skipped = [self.bos_token_id, self.pad_token_id, self.eos_token_id, self.mask_token_id]
            kept_T = ids_T[~np.isin(ids_T, skipped)]
            return self._processor.decode(np.where(kept_T == self.unk_token_id, 0, kept_T - 1).tolist())
        return "".join(self.convert_ids_to_pieces(ids_T)).replace("▁", " ").removeprefix(" ")

    def convert_ids_to_pieces(self, ids: Sequence[int] | NDArray[np.integer]) -> list[str]:
        """Return the vocabulary entry of each id, such as "▁Hello"; ValueError if an id is outside the vocabulary."""
        special = dict(enumerate(_SPECIAL)) | {self.mask_token_id: "<mask>"}
        return [special.get(i) or self._processor.id_to_piece(i - 1) for i in self._checked(ids).tolist()]

    def _checked(self, ids: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
        ids_T = np.asarray(ids, dtype=np.int64)
        outside = np.flatnonzero((ids_T < 0) | (ids_T >= self.vocab_size))
        if len(outside):
            i = outside[0]
            raise ValueError(f"ids must be within 0 ... {self.vocab_size - 1}, found {ids_T[i]} at position {i}")
        return ids_T

    def _encode_texts(self, texts: list[str], parse_special: bool) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        if not (parse_special and any("<" in text for text in texts)):
            return self._encode_plain(texts)
        rows = [_split_at_special(text) for text in texts]
        parts = list(chain.from_iterable(rows))
        n_parts_N = np.fromiter(map(len, rows), np.int64, len(rows))
        # split parts spell a special token wholly or not at all
        special = dict(zip(_SPECIAL, range(4), strict=True)) | {"<mask>": self.mask_token_id}
        special_P = np.array([special.get(part, -1) for part in parts])
        is_special_P = special_P >= 0
        ids_T, lengths_P = self._encode_plain(["" if part in special else part for part in parts])
        starts_P = np.cumsum(lengths_P) - lengths_P
        ids_T = np.insert(ids_T, starts_P[is_special_P], special_P[is_special_P])
        lengths_P[is_special_P] = 1
        return ids_T, np.add.reduceat(lengths_P, np.cumsum(n_parts_N) - n_parts_N)

    def _encode_plain(self, texts: list[str]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        utf8 = [_to_utf8(text) for text in texts]
        n_threads = _n_cpus() if sum(map(len, utf8)) > THREADED_BYTES else 1
        rows = self._processor.encode(utf8, out_type=int, num_threads=n_threads)
        lengths_N = np.fromiter(map(len, rows), np.int64, len(rows))
        ids_T = np.fromiter(chain.from_iterable(rows), np.int32, lengths_N.sum())
        ids_T += 1
        ids_T[ids_T == 1] = self.unk_token_id  # SentencePiece's <unk> is 0, and 1 is <pad> here
        return ids_T, lengths_N

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SentencePieceTokenizer):
            return NotImplemented
        return self._model_proto == other._model_proto and self.model_max_length == other.model_max_length

    def __hash__(self) -> int:
        return hash((self._model_proto, self.model_max_length))

    def __repr__(self) -> str:
        return f"SentencePieceTokenizer(vocab_size={self.vocab_size}, model_max_length={self.model_max_length})"

    def __copy__(self) -> "SentencePieceTokenizer":
        return self

    def __deepcopy__(self, memo: dict) -> "SentencePieceTokenizer":
        return self

    def __getstate__(self) -> dict[str, object]:
        return {"model_proto": self._model_proto, "model_max_length": self.model_max_length}

    def __setstate__(self, state: dict) -> None:
        SentencePieceTokenizer.__init__(self, **state)


def _load_processor(model_proto: bytes) -> SentencePieceProcessor:
    if not model_proto:
        raise ValueError("expected a SentencePiece model, found an empty file")
    if model_proto.startswith(b"version https://git-lfs"):
        raise ValueError("expected a SentencePiece model, found a Git LFS pointer: fetch the file with 'git lfs pull'")
    processor = SentencePieceProcessor()
    try:
        processor.LoadFromSerializedProto(model_proto)
    except RuntimeError as error:
        raise ValueError(f"expected a SentencePiece model, found something else or a damaged one ({error})") from error
    # SentencePiece's ids 0 to 2 give way to fairseq's 0 to 3: a real piece there would collide with </s> or <unk>
    special = processor.get_piece_size() > 2 and processor.is_control(1) and processor.is_control(2)
    if not (special and processor.unk_id() == 0):
        found = [processor.id_to_piece(i) for i in range(min(3, processor.get_piece_size()))]
        raise ValueError(f"expected a SentencePiece model that starts with <unk>, <s>, </s>, found {found}")
    return processor


def _read_config(file: Path) -> dict[str, int]:
    if not file.exists():
        return {}
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise CheckpointError(file, f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise CheckpointError(file, f"expected JSON, found something else ({error})") from error
    if not isinstance(config, dict):
        raise CheckpointError(file, f"expected a JSON object, found {type(config).__name__}")
    max_length = config.get("model_max_length")
    if max_length is None:
        return {}
    if not isinstance(max_length, int) or max_length < 1:
        raise CheckpointError(file, f"expected a positive integer as model_max_length, found {max_length!r}")
    return {"model_max_length": max_length}


def _split_at_special(text: str) -> list[str]:
    """Cut a text before and after each special token it spells; <mask> takes the white space before it away."""
    parts = _SPECIAL_IN_TEXT.split(text)  # text, special, text, special, ..., text
    for i in range(1, len(parts), 2):
        if parts[i] == "<mask>":
            parts[i - 1] = parts[i - 1].rstrip()
    return parts


def _to_utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # rare, so the common case pays no search
        return _SURROGATE.sub("\ufffd", text).encode()


def _n_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
