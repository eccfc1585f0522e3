"""What an estimator reads of X, row by row: tokens as people read them, the words they belong to, and which text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np

from skxlmr.text import EncodedBatch, FastTokenizer
from skxlmr.text._fast.tokenizer_json import kind_of
from skxlmr.utils._validation import Texts
from skxlmr.utils._words import cut_words

WORD_START = "\u2581"  # of SentencePiece
WORD_END = "</w>"  # of the original XLM
PART_OF_A_LETTER = "\ufffd"
SHOWN_SPACE = "\u2423"


@dataclass(frozen=True)
class ReadRow:
    """The tokens of a row.

    Attributes
    ----------
    tokens : list of str
        Without the marks of the vocabulary; a space alone is shown as an open box.
    word_ids : list of int
        Number of each token's word, counted from 0 in the row; -1 for special tokens.
    sequence_ids : list of int
        Which text a token belongs to, 0 or 1; -1 for special tokens.
    sources : list of str
        The running text of each text that has tokens.
    """

    tokens: list[str]
    word_ids: list[int]
    sequence_ids: list[int]
    sources: list[str]


def encoded_rows(estimator: Any, X: Any) -> tuple[Any, EncodedBatch]:
    """The engine of a fitted estimator, and the rows that it runs to predict or transform X.

    Raises
    ------
    ValueError
        If X has several columns of single texts, or a text is read in several windows; names the row.
    """
    opens = getattr(estimator, "_open_at_first_use", None)
    engine = estimator._engine(validate=not (opens is not None and opens()))
    rows = estimator._check_X(X, reset=False)
    if getattr(rows, "side_by_side", 1) > 1:
        raise ValueError(
            f"X has {rows.side_by_side} columns of single texts: pass one column, or two with pairs='auto'"
        )
    if hasattr(estimator, "_whole"):  # dialogues
        return engine, estimator._whole(estimator._encode(rows))
    if hasattr(estimator, "_hypotheses"):  # each text with the hypothesis of each label
        hypotheses = estimator._hypotheses()
        rows = Texts([text for text in rows.first for _ in hypotheses], hypotheses * len(rows))
    if hasattr(estimator, "fill_mask"):  # <mask> is a mask, as there
        return engine, estimator._encode(rows, parse_special=True, return_offsets=True)
    encoded = estimator._encode(rows, return_offsets=True)
    if not hasattr(rows, "choices"):  # a row for each choice is no window
        several = np.flatnonzero(encoded.n_windows > 1)
        if len(several):
            raise ValueError(
                f"X row {several[0]}: the text is read in {encoded.n_windows[several[0]]} windows, and no token of one sees "
                "another: pass the part of the text to look at"
            )
    return engine, encoded


def read_rows(tokenizer: Any, encoded: EncodedBatch) -> list[ReadRow]:
    """The tokens of encoded rows."""
    unspecial = {tokenizer.unk_token_id, tokenizer.mask_token_id}
    special = np.isin(encoded.ids, sorted(set(tokenizer.all_special_ids) - unspecial))
    sequence_ids = np.where(special, -1, 0)
    if encoded.sequence_ids is not None:
        sequence_ids = np.where(special, -1, encoded.sequence_ids)
    elif encoded.second_starts is not None:
        places = np.arange(len(encoded.ids)) - np.repeat(encoded.starts[:-1], encoded.lengths)
        sequence_ids = np.where(special, -1, places >= np.repeat(encoded.second_starts, encoded.lengths))
    return [
        _read_row(
            tokenizer,
            tokenizer.convert_ids_to_pieces(encoded.row(i)),
            sequence_ids[encoded.span(i)].tolist(),
            None if encoded.word_ids is None else encoded.word_ids[encoded.span(i)].tolist(),
        )
        for i in range(len(encoded))
    ]


def _read_row(tokenizer: Any, pieces: list[str], sequence_ids: list[int], word_ids: list[int] | None) -> ReadRow:
    surfaces = [
        piece if text < 0 else surface(tokenizer, piece) for piece, text in zip(pieces, sequence_ids, strict=True)
    ]
    if word_ids is None:
        words, sources = words_of(surfaces, sequence_ids), running_texts(surfaces, sequence_ids)
        if _spells_bytes(tokenizer):  # letters of several bytes are whole in the whole text
            sources = [tokenizer._spell(of_text).strip() for of_text in _by_text(pieces, sequence_ids)]
    else:
        words = _numbered(word_ids, sequence_ids)
        sources = joined_words(surfaces, words, sequence_ids)
    return ReadRow([text.strip() or SHOWN_SPACE for text in surfaces], words, sequence_ids, sources)


def surface(tokenizer: Any, piece: str) -> str:
    """How a vocabulary entry reads in running text, with a space where a word begins or ends.

    Bytes that are a part of a letter read as U+FFFD.
    """
    if (prefix := tokenizer.continuing_prefix) is not None:  # WordPiece
        return str(piece.removeprefix(prefix)) if piece.startswith(prefix) else f" {piece}"
    if piece.endswith(WORD_END):
        return piece.removesuffix(WORD_END) + " "
    if _spells_bytes(tokenizer):
        return str(tokenizer._spell([piece]))
    return piece.replace(WORD_START, " ")


def _spells_bytes(tokenizer: Any) -> bool:
    """Whether pieces are bytes (RoBERTa)."""
    return isinstance(tokenizer, FastTokenizer) and kind_of(tokenizer._content) == "BPE"


def words_of(surfaces: list[str], sequence_ids: list[int]) -> list[int]:
    """Number of the word of each token; a token goes on with a word where a word of the running text spans both.

    Scripts that put no spaces between words have no such words: there each token counts as one.
    """
    keys: list[int] = []
    for text, group in groupby(range(len(surfaces)), key=lambda i: sequence_ids[i]):
        places = list(group)
        if text < 0:
            keys += [-1] * len(places)
            continue
        running = "".join(surfaces[i] for i in places).replace(PART_OF_A_LETTER, "x")
        inside = {place for start, end in cut_words(running) for place in range(start + 1, end)}
        begin, word, is_blank = 0, places[0], False
        for i in places:
            if begin not in inside and not is_blank:  # a space alone belongs to what follows
                word = i
            keys.append(word)
            begin, is_blank = begin + len(surfaces[i]), surfaces[i].isspace()
    return _numbered(keys, sequence_ids)


def running_texts(surfaces: Sequence[str], sequence_ids: Sequence[int]) -> list[str]:
    """The text of the tokens of each text."""
    return ["".join(of_text).strip() for of_text in _by_text(surfaces, sequence_ids)]


def _by_text(values: Sequence[str], sequence_ids: Sequence[int]) -> list[list[str]]:
    """The values of the tokens of each text that has some."""
    texts = sorted(set(sequence_ids) - {-1})
    return [[value for value, of in zip(values, sequence_ids, strict=True) if of == text] for text in texts]


def joined_words(tokens: Sequence[str], word_ids: Sequence[int], sequence_ids: Sequence[int]) -> list[str]:
    """The words of each text with spaces between them."""
    starts = [word != before for word, before in zip(word_ids, [-1, *word_ids], strict=False)]
    spaced = [f" {token.strip()}" if start else token.strip() for token, start in zip(tokens, starts, strict=True)]
    return running_texts(spaced, sequence_ids)


def _numbered(keys: list[int], sequence_ids: list[int]) -> list[int]:
    """Neighbours with equal keys get one number, from 0; special tokens get -1."""
    numbers, last, before = [], -1, None
    for key, text in zip(keys, sequence_ids, strict=True):
        if text < 0:
            numbers.append(-1)
            before = None
            continue
        last += (text, key) != before
        before = text, key
        numbers.append(last)
    return numbers
