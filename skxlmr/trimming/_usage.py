"""How often a corpus uses each id, and how it reads before and after."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from skxlmr.estimators._core.prompts import lower
from skxlmr.estimators._tokens.rows import check_token_rows
from skxlmr.text import Tokenizer, XLMTokenizer
from skxlmr.trimming._corpus import Corpus
from skxlmr.trimming._report import Coverage
from skxlmr.trimming._tokenizer_files import Reader

if TYPE_CHECKING:
    from skxlmr.nn.sentence import TextSettings

Ids = NDArray[np.int32]


def count_ids(corpus: Corpus, readers: Sequence[Reader], how: "TextSettings", as_tagger: bool) -> NDArray[np.int64]:
    """Return how often each id occurs in the texts, with the reader, prompt and way of reading with which it occurs most.

    Parameters
    ----------
    corpus : Corpus
    readers : sequence of Reader
        Of the same ids.
    how : TextSettings
        How the checkpoint reads texts.
    as_tagger : bool
        Whether it is a tagger.
    """
    prompts = ("", *dict.fromkeys(text for _, text in how.prompts if text))
    size = readers[0].tokenizer.vocab_size
    spelt = _finder([token.content for token in readers[0].tokenizer.added_tokens.values()])
    counts = np.zeros((len(readers), len(prompts), 4, size), np.int64)
    for language, batch in corpus.batches():
        for k, reader in enumerate(readers):
            tokenizer = of_language(reader.tokenizer, language, corpus)
            for p, prompt in enumerate(prompts):
                texts = prepared(batch, how, prompt)
                spelling = [text for text in texts if spelt(text)]
                for w, rows in enumerate([spelling, *ways_to_read(texts, tokenizer, as_tagger)]):
                    if not rows:
                        continue
                    ids_T, lengths_N = ids_of(tokenizer, rows, parse_special=w == 0)
                    counts[k, p, w] += np.bincount(ids_T, minlength=size)
                    unknown_N = np.unique(np.repeat(np.arange(len(rows)), lengths_N)[ids_T == tokenizer.unk_token_id])
                    if len(unknown_N):
                        reader.vocabulary.look(tokenizer, _flat([rows[i] for i in unknown_N]))
    return counts.max(axis=(0, 1, 2))


def used_ids(readers: Sequence[Reader], texts: list[str], corpus: Corpus, as_tagger: bool) -> NDArray[np.bool_]:
    """Return which ids occur in texts, whichever reader reads them, by the rules of whichever language of the corpus."""
    used = np.zeros(readers[0].tokenizer.vocab_size, bool)
    for reader in readers:
        languages = corpus.languages if isinstance(reader.tokenizer, XLMTokenizer) else corpus.languages[:1]
        for tokenizer in (of_language(reader.tokenizer, language, corpus) for language in languages):
            for rows in ways_to_read(texts, tokenizer, as_tagger):
                used[ids_of(tokenizer, rows)[0]] = True
                reader.vocabulary.look(tokenizer, _flat(rows))
    return used


def measure(
    corpus: Corpus,
    before: Tokenizer,
    after: Tokenizer,
    how: "TextSettings",
    as_tagger: bool,
    old_ids: NDArray[np.int64],
) -> tuple[dict[str, Coverage], str | None]:
    """Return the coverage of each language, and a text that reads otherwise although all of its tokens stay, if any does."""
    lookup = np.zeros(before.vocab_size, bool)
    lookup[old_ids] = True
    coverage = dict.fromkeys(corpus.languages, Coverage())
    wrong: str | None = None
    for language, batch in corpus.batches():
        texts = prepared(batch, how, "")
        old, new = (of_language(each, language, corpus) for each in (before, after))
        identical_N = np.ones(len(texts), bool)
        for rows in ways_to_read(texts, old, as_tagger) if as_tagger else [texts]:
            (old_T, old_N), (new_T, new_N) = ids_of(old, rows), ids_of(new, rows)
            row_T = np.repeat(np.arange(len(rows)), old_N)
            same_N = old_N == new_N
            differs_T = old_T[same_N[row_T]] != old_ids[new_T][np.repeat(same_N, new_N)]
            same_N[row_T[same_N[row_T]][differs_T]] = False
            kept_T = lookup[old_T]
            lost_N = np.bincount(row_T[~kept_T], minlength=len(rows))
            bad = np.flatnonzero(~same_N & (lost_N == 0))
            wrong = texts[bad[0]] if wrong is None and len(bad) else wrong
            identical_N &= same_N
        n_before, n_after = (old_T == before.unk_token_id).sum(), (new_T == after.unk_token_id).sum()
        here = Coverage(len(texts), *(int(n) for n in (identical_N.sum(), len(old_T), kept_T.sum(), n_before, n_after)))
        coverage[language] = coverage[language].plus(here)
    return coverage, wrong


def ways_to_read(texts: list[str], tokenizer: Tokenizer, as_tagger: bool) -> list[list[Any]]:
    """Return what estimators may make of texts: the texts, and rows of words.

    A text may be a word of a tagger's row, where the tokenizer reads words otherwise. A tagger also cuts texts into words.
    """
    ways: list[list[Any]] = [texts]
    if tokenizer.marks_words:
        ways.append([[text] if text.strip() else [] for text in texts])
    if as_tagger:
        ways.append(check_token_rows(texts, rows_needed=False).words)
    return ways


def ids_of(tokenizer: Tokenizer, rows: list[Any], parse_special: bool = False) -> tuple[Ids, NDArray[np.int64]]:
    """Return the ids of texts, or rows of words, without special tokens around them, packed, and how many each row has."""
    encode = tokenizer.encode_batch if all(isinstance(row, str) for row in rows) else tokenizer.encode_words
    encoded = encode(rows, parse_special=parse_special)
    ends = np.cumsum(encoded.lengths)
    inner_T = np.ones(len(encoded.ids), bool)
    inner_T[ends - encoded.lengths] = inner_T[ends - 1] = False
    return encoded.ids[inner_T], encoded.lengths - 2


def prepared(texts: list[str], how: "TextSettings", prompt: str) -> list[str]:
    """Return texts as the checkpoint reads them with this prompt."""
    texts = [prompt + text for text in texts] if prompt else texts
    return lower(texts) if how.lower_case else texts


def of_language(tokenizer: Tokenizer, language: str, corpus: Corpus) -> Tokenizer:
    """Return the tokenizer for the texts of a language: only that of the original XLM tells languages apart."""
    if isinstance(tokenizer, XLMTokenizer) and corpus.has_languages:
        return tokenizer.for_language(language)
    return tokenizer


def _flat(rows: list[Any]) -> list[str]:
    """The texts, or all words of the rows."""
    return [text for row in rows for text in ([row] if isinstance(row, str) else row)]


def _finder(tokens: list[str]) -> Callable[[str], bool]:
    """Whether a text spells one of the tokens."""
    return lambda text: any(token in text for token in tokens)
