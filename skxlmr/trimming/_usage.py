"""How often a corpus uses each id, and how it reads before and after."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from skxlmr.estimators._core.prompts import lower
from skxlmr.text import Tokenizer, XLMTokenizer
from skxlmr.trimming._corpus import Corpus
from skxlmr.trimming._report import Coverage
from skxlmr.trimming._tokenizer_files import Reader

if TYPE_CHECKING:
    from skxlmr.nn.sentence import TextSettings

Ids = NDArray[np.int32]


def count_ids(corpus: Corpus, readers: Sequence[Reader], how: "TextSettings") -> NDArray[np.int64]:
    """Return how often each id occurs in the texts, with the reader and the prompt with which it occurs most.

    Parameters
    ----------
    corpus : Corpus
    readers : sequence of Reader
        Of the same ids.
    how : TextSettings
        How the checkpoint reads texts.
    """
    prompts = ("", *dict.fromkeys(text for _, text in how.prompts if text))
    size = readers[0].tokenizer.vocab_size
    spelt = _finder([token.content for token in readers[0].tokenizer.added_tokens.values()])
    counts = np.zeros((len(readers), len(prompts), 2, size), np.int64)
    for language, batch in corpus.batches():
        for k, reader in enumerate(readers):
            tokenizer = of_language(reader.tokenizer, language, corpus)
            for p, prompt in enumerate(prompts):
                texts = prepared(batch, how, prompt)
                for part, parse in ((texts, False), ([text for text in texts if spelt(text)], True)):
                    if not part:
                        continue
                    ids_T, lengths_N = ids_of(tokenizer, part, parse)
                    counts[k, p, int(parse)] += np.bincount(ids_T, minlength=size)
                    unknown_N = np.unique(np.repeat(np.arange(len(part)), lengths_N)[ids_T == tokenizer.unk_token_id])
                    if len(unknown_N):
                        reader.vocabulary.look(tokenizer, [part[i] for i in unknown_N])
    return counts.max(axis=(0, 1, 2))


def used_ids(readers: Sequence[Reader], texts: list[str], corpus: Corpus) -> NDArray[np.bool_]:
    """Return which ids occur in texts, whichever reader reads them, by the rules of whichever language of the corpus."""
    used = np.zeros(readers[0].tokenizer.vocab_size, bool)
    for reader in readers:
        languages = corpus.languages if isinstance(reader.tokenizer, XLMTokenizer) else corpus.languages[:1]
        for tokenizer in (of_language(reader.tokenizer, language, corpus) for language in languages):
            used[ids_of(tokenizer, texts)[0]] = True
            reader.vocabulary.look(tokenizer, texts)
    return used


def measure(
    corpus: Corpus, before: Tokenizer, after: Tokenizer, how: "TextSettings", old_ids: NDArray[np.int64]
) -> tuple[dict[str, Coverage], str | None]:
    """Return the coverage of each language, and a text that reads otherwise although all of its tokens stay, if any does."""
    lookup = np.zeros(before.vocab_size, bool)
    lookup[old_ids] = True
    coverage = dict.fromkeys(corpus.languages, Coverage())
    wrong: str | None = None
    for language, batch in corpus.batches():
        texts = prepared(batch, how, "")
        old_T, old_N = ids_of(of_language(before, language, corpus), texts)
        new_T, new_N = ids_of(of_language(after, language, corpus), texts)
        back_T = old_ids[new_T]
        row_T = np.repeat(np.arange(len(texts)), old_N)
        same_N = old_N == new_N
        differs_T = old_T[same_N[row_T]] != back_T[np.repeat(same_N, new_N)]
        same_N[row_T[same_N[row_T]][differs_T]] = False
        kept_T = lookup[old_T]
        lost_N = np.bincount(row_T[~kept_T], minlength=len(texts))
        bad = np.flatnonzero(~same_N & (lost_N == 0))
        wrong = texts[bad[0]] if wrong is None and len(bad) else wrong
        n_before, n_after = (old_T == before.unk_token_id).sum(), (new_T == after.unk_token_id).sum()
        here = Coverage(len(texts), *(int(n) for n in (same_N.sum(), len(old_T), kept_T.sum(), n_before, n_after)))
        coverage[language] = coverage[language].plus(here)
    return coverage, wrong


def ids_of(tokenizer: Tokenizer, texts: list[str], parse_special: bool = False) -> tuple[Ids, NDArray[np.int64]]:
    """Return the ids of texts without the special tokens around them, packed, and how many each text has."""
    encoded = tokenizer.encode_batch(texts, parse_special=parse_special)
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


def _finder(tokens: list[str]) -> Callable[[str], bool]:
    """Whether a text spells one of the tokens."""
    return lambda text: any(token in text for token in tokens)
