"""The files of a tokenizer, rewritten for the ids that stay."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skxlmr.text import SentencePieceTokenizer, Tokenizer, XLMTokenizer
from skxlmr.text._bpe_files import (
    MERGES_FILE,
    MOST_BYTES,
    MOST_VALUES,
    MOST_VOCAB_BYTES,
    VOCAB_FILE,
    read_merges,
    read_vocab,
)
from skxlmr.text._fast.tokenizer import TOKENIZER_FILE, FastTokenizer
from skxlmr.text._fast.tokenizer_json import kind_of
from skxlmr.text._fast.wordpiece import WORDPIECE_FILE, read_vocabulary
from skxlmr.text._sentencepiece.model_file import is_unigram
from skxlmr.text._sentencepiece.pieces import pieces_of, with_pieces
from skxlmr.text._sentencepiece.tokenizer import MODEL_FILE
from skxlmr.text._special_tokens import ADDED_TOKENS_FILE, CONFIG_FILE, SPECIAL_TOKENS_FILE, read_settings
from skxlmr.trimming._bpe import BPE, XLMBPE, Pair
from skxlmr.trimming._unigram import Unigram
from skxlmr.trimming._vocabulary import Vocabulary
from skxlmr.trimming._wordpiece import WordPiece
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import read_bytes, read_json


@dataclass(frozen=True)
class Reader:
    """A tokenizer, and how it finds its pieces."""

    tokenizer: Tokenizer
    vocabulary: Vocabulary


def vocabulary_of(folder: Path, tokenizer: Tokenizer) -> Vocabulary:
    """Return how a tokenizer finds its pieces.

    Raises
    ------
    CheckpointError
        If nobody can tell which pieces a text needs.
    """
    if isinstance(tokenizer, SentencePieceTokenizer):
        if not is_unigram(tokenizer.model_proto):
            reason = (
                "is not a Unigram model, and of others it is not known which pieces a text needs: it cannot be trimmed"
            )
            raise CheckpointError(folder / MODEL_FILE, reason)
        return Unigram.of_sentencepiece(tokenizer)
    if not isinstance(tokenizer, FastTokenizer):
        return XLMBPE(tokenizer)  # type: ignore[arg-type]  # there are three kinds
    model = tokenizer.content["model"]
    kind = kind_of(tokenizer.content)
    if kind == "Unigram":
        return Unigram.of_json(model, tokenizer.vocab_size)
    if kind == "WordPiece":
        return WordPiece(tokenizer)
    for key in ("continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"):
        if model.get(key):
            reason = f"its BPE model has {key} {model[key]!r:.80}, with which it cannot be trimmed"
            raise CheckpointError(folder / TOKENIZER_FILE, reason)
    return BPE(model["vocab"], map(_pair, model["merges"]), tokenizer.vocab_size)


def readers_of(folder: Path, tokenizer: Tokenizer, scratch: Path) -> list[Reader]:
    """Return the tokenizers that read texts with the files of a folder, the library's own first.

    ``transformers`` runs a conversion of a SentencePiece model, which normalises a few characters otherwise.

    Parameters
    ----------
    folder : Path
        Holds the tokenizer.
    tokenizer : Tokenizer
    scratch : Path
        A folder to write to.

    Raises
    ------
    CheckpointError
        If two files of the folder hold different vocabularies, or nobody can tell which pieces a text needs.
    """
    readers = [Reader(tokenizer, vocabulary_of(folder, tokenizer))]
    file = folder / TOKENIZER_FILE
    if isinstance(tokenizer, SentencePieceTokenizer):
        if not file.is_file():
            tokenizer.save(scratch)
            tokenizer.save_conversion(scratch)
            file = scratch / TOKENIZER_FILE
        if file.is_file():
            content = _read_vocabulary(file)
            settings, _ = read_settings(file.parent, normalized=True)
            made = FastTokenizer(content, settings=settings, file=file, token_types=False)
            readers.append(Reader(made, vocabulary_of(file.parent, made)))
    _check_agreement(folder, readers[-1].vocabulary.pieces)
    return readers


def _check_agreement(folder: Path, pieces: list[str]) -> None:
    """Raise CheckpointError unless every file with a vocabulary has these pieces."""
    found: dict[str, dict[int, str]] = {}
    if (folder / MODEL_FILE).is_file():
        model = pieces_of(read_bytes(folder / MODEL_FILE))
        found[MODEL_FILE] = {i + 1: piece.text for i, piece in enumerate(model) if i > 2}
    if (folder / VOCAB_FILE).is_file():
        found[VOCAB_FILE] = {i: piece for piece, i in read_vocab(folder / VOCAB_FILE).items()}
    if (folder / WORDPIECE_FILE).is_file():
        found[WORDPIECE_FILE] = {i: piece for piece, i in read_vocabulary(folder / WORDPIECE_FILE).items()}
    for name, theirs in found.items():
        ours = {i: pieces[i] if i < len(pieces) else "no token" for i in theirs}
        wrong = next((i for i, piece in theirs.items() if ours[i] not in ("", piece)), None)
        if wrong is not None:
            reason = (
                f"has {theirs[wrong]!r:.80} with id {wrong}, and another file of the tokenizer has {ours[wrong]!r:.80}"
            )
            raise CheckpointError(folder / name, f"{reason}: remove the files that are not the model's")


def referenced_ids(folder: Path, tokenizer: Tokenizer) -> set[int]:
    """Return the ids that stay because the files of a tokenizer name them, or because others are counted from them."""
    fixed: set[int] = set()
    if (folder / MODEL_FILE).is_file():
        fixed = {0, 1, 2, 3, len(pieces_of(read_bytes(folder / MODEL_FILE))) + 1}  # those of fairseq
    file = folder / TOKENIZER_FILE
    if not file.is_file() or isinstance(tokenizer, XLMTokenizer):
        return fixed
    content = _read_vocabulary(file)
    unknown = content["model"].get("unk_id")
    found: list[int] = []

    def note(i: int) -> int:
        found.append(i)
        return i

    _renumbered(content.get("post_processor"), note)
    _renumbered(content.get("padding"), note)
    return fixed.union(found, [] if unknown is None else [unknown])


def write_trimmed(folder: Path, target: Path, ids: NDArray[np.int64], vocabulary: Vocabulary) -> None:
    """Write the files of the tokenizer of a folder into another one, for the ids that stay.

    Parameters
    ----------
    folder : Path
        Holds the tokenizer.
    target : Path
        An existing folder.
    ids : ndarray of int64, (n_kept,)
        Ids that stay, ascending; their places are the new ids.
    vocabulary : Vocabulary
        Of the tokenizer.
    """
    new = {int(old): i for i, old in enumerate(ids)}
    if (folder / MODEL_FILE).is_file():
        proto = read_bytes(folder / MODEL_FILE)
        n_pieces = len(pieces_of(proto))
        places = [0, 1, 2, *(i - 1 for i in new if 4 <= i <= n_pieces)]
        (target / MODEL_FILE).write_bytes(with_pieces(proto, places))
    if (folder / TOKENIZER_FILE).is_file() and not isinstance(vocabulary, XLMBPE):  # which has no use for it
        content = _read_vocabulary(folder / TOKENIZER_FILE)
        _dump(target / TOKENIZER_FILE, trimmed_json(content, new, vocabulary), indent=None)
    if (folder / VOCAB_FILE).is_file() and (folder / MERGES_FILE).is_file():
        _write_bpe(folder, target, new, vocabulary)
    if (folder / WORDPIECE_FILE).is_file():
        lines = read_bytes(folder / WORDPIECE_FILE, MOST_BYTES).split(b"\n")
        kept = [lines[i] for i in new if i < len(lines)]
        (target / WORDPIECE_FILE).write_bytes(b"".join(line + b"\n" for line in kept))
    for name in (CONFIG_FILE, SPECIAL_TOKENS_FILE, ADDED_TOKENS_FILE):
        if (folder / name).is_file():
            _dump(target / name, _trimmed_settings(name, read_json(folder / name), new), indent=2)


def trimmed_json(content: dict[str, Any], new: Mapping[int, int], vocabulary: Vocabulary) -> dict[str, Any]:
    """Return the content of a ``tokenizer.json`` with these ids, old ones mapped to new ones in ascending order."""
    model = dict(content["model"])
    vocab = model["vocab"]
    if isinstance(vocab, list):
        model["vocab"] = [vocab[i] for i in new if i < len(vocab)]
        if model.get("unk_id") is not None:
            model["unk_id"] = new[model["unk_id"]]
    else:
        model["vocab"] = {piece: new[i] for piece, i in vocab.items() if i in new}
    if isinstance(vocabulary, BPE):
        merges = vocabulary.merges_of(new)
        model["merges"] = [merge for merge in model["merges"] if _pair(merge) in merges]
    added = [entry | {"id": new[entry["id"]]} for entry in content.get("added_tokens") or []]
    steps = {name: _renumbered(content.get(name), lambda i: new.get(i, i)) for name in ("post_processor", "padding")}
    return content | {"added_tokens": added, "model": model} | steps


def _renumbered(step: Any, new: Callable[[int], int]) -> Any:
    """A step with new ids: those of a template, of the tokens at both ends, or of padding."""
    if isinstance(step, list):
        return [_renumbered(each, new) for each in step]
    if not isinstance(step, dict):
        return step
    made = {key: _renumbered(value, new) for key, value in step.items()}
    for key in ("cls", "sep"):
        if isinstance(made.get(key), list):
            made[key] = [made[key][0], new(made[key][1])]
    if isinstance(made.get("ids"), list):
        made["ids"] = list(map(new, made["ids"]))
    if isinstance(made.get("pad_id"), int):
        made["pad_id"] = new(made["pad_id"])
    return made


def _write_bpe(folder: Path, target: Path, new: Mapping[int, int], vocabulary: Vocabulary) -> None:
    vocab = read_vocab(folder / VOCAB_FILE)
    _dump(target / VOCAB_FILE, {piece: new[i] for piece, i in vocab.items() if i in new}, indent=None)
    assert isinstance(vocabulary, BPE)
    merges = vocabulary.merges_of(new)
    kept = [pair for pair in read_merges(folder / MERGES_FILE) if pair in merges]
    text = "#version: 0.2\n" + "".join(f"{left} {right}\n" for left, right in kept)
    (target / MERGES_FILE).write_text(text, encoding="utf-8", newline="\n")


def _trimmed_settings(name: str, content: dict[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """Content of a file beside the vocabulary with new ids."""
    if name == ADDED_TOKENS_FILE:
        return {token: new[i] for token, i in content.items()}
    if name == CONFIG_FILE and isinstance(content.get("added_tokens_decoder"), dict):
        decoder = content["added_tokens_decoder"]
        return content | {"added_tokens_decoder": {str(new[int(i)]): token for i, token in decoder.items()}}
    return content


def _read_vocabulary(file: Path) -> dict[str, Any]:
    return read_json(file, MOST_VALUES, most_bytes=MOST_VOCAB_BYTES)


def _pair(merge: Any) -> Pair:
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right


def _dump(file: Path, content: Any, indent: int | None) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=indent) + "\n" * bool(indent), encoding="utf-8")
