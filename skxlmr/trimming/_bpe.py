"""Byte-pair encoding: neighbours in a word are merged, the pair with the lowest rank first.

A word whose tokens stay is merged as before if all of its merges stay: at each step the pair with the lowest rank is among
those that stay, which are some of those that were there. All merges of a word happen inside its tokens, where they are those
of a word that is the token alone. So a token needs the merges that make it, and what these merge.
"""

from collections.abc import Callable, Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from skxlmr.text import XLMTokenizer
from skxlmr.trimming._vocabulary import Bools, Vocabulary, by_ids

Pair = tuple[str, str]
END = "</w>"  # of a word


class BPE(Vocabulary):
    """Tokens and merges.

    Parameters
    ----------
    vocab : mapping of str to int
    merges : sequence of (str, str)
        In the order of their ranks; of a repeated pair the last counts.
    size : int
        How many ids there are.
    symbols : function of a str
        What a token is before anything is merged; by default its characters.
    """

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Iterable[Pair],
        size: int,
        symbols: Callable[[str], list[str]] = list,
    ):
        self.pieces = by_ids(vocab, size)
        self._vocab, self._symbols = vocab, symbols
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._further: set[str] = set()  # what words are merged to and no id stands for

    def characters(self) -> Bools:
        return np.array([len(self._symbols(piece)) == 1 for piece in self.pieces])

    def needed(self, kept: Bools) -> Bools:
        needed = kept.copy()
        for piece in [*(self.pieces[i] for i in np.flatnonzero(kept)), *self._further]:
            symbols = self._symbols(piece)
            for part in [*symbols, *map("".join, self._merges(symbols))]:
                if part in self._vocab:
                    needed[self._vocab[part]] = True
        return needed

    def merges_of(self, ids: Iterable[int]) -> set[Pair]:
        """Return the merges that make these tokens, and what else words are merged to."""
        made: set[Pair] = set()
        for piece in [*(self.pieces[i] for i in ids if i < len(self.pieces)), *self._further]:
            made.update(self._merges(self._symbols(piece)))
        return made

    def _merges(self, symbols: list[str]) -> list[Pair]:
        """Return the merges of a word, in the order in which they happen."""
        done: list[Pair] = []
        while True:
            ranked = [(self._ranks[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in self._ranks]
            if not ranked:
                return done
            _, i = min(ranked)
            done.append((symbols[i], symbols[i + 1]))
            symbols = [*symbols[:i], symbols[i] + symbols[i + 1], *symbols[i + 2 :]]


class XLMBPE(BPE):
    """That of the original XLM: the last character of a word is marked, and what a word is merged to may have no id.

    Parameters
    ----------
    tokenizer : XLMTokenizer
    """

    def __init__(self, tokenizer: XLMTokenizer):
        super().__init__(tokenizer.vocab, tokenizer.merges, tokenizer.vocab_size, _marked)

    def needed(self, kept: Bools) -> Bools:
        """Also what the steps that have no id are merged to, at once or by more such steps: another word would stop there."""
        needed, n_known = super().needed(kept), -1
        while n_known < needed.sum() + len(self._further):
            n_known = needed.sum() + len(self._further)
            steps = {left + right for left, right in self.merges_of(np.flatnonzero(needed))} - self._vocab.keys()
            onward = {left + right for left, right in self._ranks if left in steps or right in steps}
            needed[[self._vocab[piece] for piece in onward & self._vocab.keys()]] = True
            self._further |= onward - self._vocab.keys()
            needed = super().needed(needed)
        return needed

    def look(self, tokenizer: Any, texts: list[str]) -> None:
        self._further |= tokenizer.subwords(texts) - self._vocab.keys()


def _marked(piece: str) -> list[str]:
    """The characters of a subword; an end of a word belongs to the last one."""
    plain = piece.removesuffix(END)
    if plain == piece or not plain:
        return list(piece)
    return [*plain[:-1], plain[-1] + END]
