"""The original XLM's tokenizer: Moses, then byte-pair encoding with ``</w>`` at the end of words."""

import heapq
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
from os import PathLike
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from skxlmr.text._arguments import Reading
from skxlmr.text._bpe_files import MERGES_FILE, VOCAB_FILE, read_merges, read_vocab
from skxlmr.text._special_tokens import (
    CONFIG_FILE,
    DEFAULT_MAX_LENGTH,
    DEFAULT_ROLES,
    AddedToken,
    TextSplitter,
    TokenizerSettings,
    checked_flag,
    read_settings,
)
from skxlmr.text._tokenizer import Tokenizer
from skxlmr.text._tokens import Tokens
from skxlmr.text._xlm.alignment import align
from skxlmr.text._xlm.moses import lower_without_accents, words_of
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import read_json

MODEL_CONFIG_FILE = "config.json"
ENGLISH = "en"
WITHOUT_SPACES = ("ja", "th", "zh")  # Moses cannot find the words of these languages

_DEFAULT_ADDITIONAL = tuple(AddedToken(f"<special{i}>") for i in range(10))


class XLMTokenizer(Tokenizer):
    """Tokenizer of ``xlm-mlm-en-2048`` and its relatives: ``<s> A </s>``, ``<s> A </s> B </s>``.

    Instances never change: threads may share one, and a deep copy is the instance itself.

    Parameters
    ----------
    vocab : mapping of str to int
        Ids of the subwords; the last one of a word ends with ``</w>``.
    merges : sequence of (str, str)
        Pairs to merge, in this order.
    settings : TokenizerSettings, optional
        Special and added tokens, as ``tokenizer_config.json`` names them.
    lower : bool
        Whether to turn words to lower case without accents, as the checkpoint's vocabulary has them.
    language : str
        ISO 639-1 code of the language of the texts, which selects Moses' rules. See `for_language`.
    lang2id : mapping of str to int, optional
        Ids of the language embeddings of a multilingual checkpoint.
    model_max_length : int
        Most tokens of a row that the model can read. `save` writes it; encoding does not apply it.

    Raises
    ------
    ValueError
        If the id of an added token does not fit the vocabulary, or the checkpoint does not know `language`.

    References
    ----------
    Lample and Conneau, Cross-lingual Language Model Pretraining, https://arxiv.org/abs/1901.07291
    """

    _n_pair_separators = 1
    _start_role = "bos_token"
    _default_roles = DEFAULT_ROLES | {"cls_token": AddedToken("</s>"), "mask_token": AddedToken("<special1>")}

    def __init__(
        self,
        vocab: Mapping[str, int],
        merges: Sequence[tuple[str, str]],
        *,
        settings: TokenizerSettings | None = None,
        lower: bool = True,
        language: str = ENGLISH,
        lang2id: Mapping[str, int] | None = None,
        model_max_length: int = DEFAULT_MAX_LENGTH,
    ):
        settings = settings or TokenizerSettings()
        self._vocab, self._merges, self._settings = dict(vocab), list(merges), settings
        self.lower, self.language, self.lang2id = lower, language, dict(lang2id or {})
        self.model_max_length = model_max_length
        self._set_vocabulary(self._vocab, replace(settings, additional=settings.additional or _DEFAULT_ADDITIONAL))
        self._ranks = {pair: rank for rank, pair in enumerate(self._merges)}  # of a repeated pair the last counts
        self._spelt = TextSplitter(self._tokens.values())
        self._always_spelt = TextSplitter(token for token in self._tokens.values() if not token.special)
        self._subwords = lru_cache(100_000)(self._merge)

    @classmethod
    def from_file(cls, vocab_file: str | PathLike[str], merges_file: str | PathLike[str]) -> "XLMTokenizer":
        """Load ``vocab.json`` and ``merges.txt``, and the configuration next to the first.

        ``do_lowercase_and_remove_accent`` and ``lang2id`` are read from ``tokenizer_config.json``; if the latter is not
        there, from ``config.json``.

        Raises
        ------
        CheckpointError
            If a file cannot be read or is broken.
        """
        file = Path(vocab_file)
        vocab, merges = read_vocab(file), read_merges(Path(merges_file))
        settings, max_length = read_settings(file.parent, mask_lstrip=False)
        lower = checked_flag(file.parent, settings.options, "do_lowercase_and_remove_accent", True)
        source, lang2id = file.with_name(CONFIG_FILE), settings.options.get("lang2id")
        if lang2id is None and file.with_name(MODEL_CONFIG_FILE).exists():
            source = file.with_name(MODEL_CONFIG_FILE)
            lang2id = read_json(source).get("lang2id")
        if lang2id is not None and not (isinstance(lang2id, dict) and all(type(i) is int for i in lang2id.values())):
            raise CheckpointError(source, f"expected languages and their ids as lang2id, found {lang2id!r:.80}")
        with blaming(file, "{}", ValueError):
            return cls(vocab, merges, settings=settings, lower=lower, lang2id=lang2id, model_max_length=max_length)

    def for_language(self, language: str | None) -> "XLMTokenizer":
        """Return this tokenizer with Moses' rules for a language; itself if it has them.

        Parameters
        ----------
        language : str or None
            ISO 639-1 code. None is English rules, also for a checkpoint that does not list English.

        Raises
        ------
        ValueError
            If the checkpoint lists its languages and this is not one of them.
        """
        if language is not None:
            self.language_id(language)
        rules = ENGLISH if language is None else language
        if rules == self.language:
            return self
        made = self.alike()
        made.language = rules
        return made

    def with_tokens(self, contents: Sequence[str], special: bool = True) -> Self:
        raise ValueError("a XLMTokenizer takes no further tokens")

    def language_id(self, language: str) -> int | None:
        """Return the id of a language's embedding; None if the checkpoint has no ids, ValueError if it lacks this one."""
        if not self.lang2id:
            return None
        if language not in self.lang2id:
            raise ValueError(f"language must be one of {', '.join(sorted(self.lang2id))}; found {language!r}")
        return self.lang2id[language]

    @property
    def vocab(self) -> Mapping[str, int]:
        """Ids of the subwords."""
        return self._vocab

    @property
    def merges(self) -> Sequence[tuple[str, str]]:
        """Pairs to merge, in this order."""
        return self._merges

    def save_vocabulary(self, folder: str | PathLike[str], filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write ``vocab.json`` and ``merges.txt`` into an existing folder and return their paths."""
        prefix = f"{filename_prefix}-" if filename_prefix else ""
        vocab_file, merges_file = Path(folder) / (prefix + VOCAB_FILE), Path(folder) / (prefix + MERGES_FILE)
        vocab_file.write_text(json.dumps(self._vocab, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        merges_file.write_text("".join(f"{left} {right}\n" for left, right in self._merges), encoding="utf-8")
        return (str(vocab_file), str(merges_file))

    def _config(self) -> dict[str, Any]:
        config = {"tokenizer_class": "XLMTokenizer", "model_max_length": self.model_max_length}
        config |= {"do_lowercase_and_remove_accent": self.lower} | self._settings.to_config(self._roles)
        if self.lang2id:
            config |= {"lang2id": self.lang2id, "id2lang": {str(i): name for name, i in self.lang2id.items()}}
        if any(i not in self._vocab.values() for i in self._tokens):
            config["added_tokens_decoder"] = {str(i): token.to_dict() for i, token in sorted(self._tokens.items())}
        return config

    def _spell(self, pieces: list[str]) -> str:
        spaced = (f"{piece}</w>" if piece in self._ids else piece for piece in pieces)
        return "".join(spaced).replace("</w>", " ").strip()

    def _encode_texts(self, texts: list[str], reading: Reading) -> Tokens:
        split = self.language not in WITHOUT_SPACES
        if not split and not reading.as_words:
            raise ValueError(
                f"texts in {self.language!r} must be split into words first, with a segmenter for that language: pass the "
                "words to encode_words"
            )
        if reading.drawn is not None:
            raise ValueError("sampling needs a SentencePiece model, and this is XLM's byte-pair encoding")
        splitter = self._spelt if reading.parse_special else self._always_spelt
        ids: list[int] = []
        lengths: list[int] = []
        offsets: list[NDArray[np.int32]] = [np.zeros((0, 2), np.int32)]
        for text in texts:
            before = len(ids)
            for part, start, is_token in splitter.split(text):
                if is_token:
                    ids.append(self._ids[part])
                    offsets.append(np.array([[start, start + len(part)]], np.int32))
                    continue
                words = self._words(part, split)
                subwords = [subword for word in words for subword in self._subwords(word)]
                ids.extend(self._vocab.get(subword, self.unk_token_id) for subword in subwords)
                if reading.with_offsets:
                    offsets.append(start + _places(part, words, subwords))
            lengths.append(len(ids) - before)
        packed = np.concatenate(offsets).astype(np.int32) if reading.with_offsets else None
        return Tokens.packed(np.array(ids, np.int32), np.array(lengths, np.int64), packed)

    def subwords(self, texts: Iterable[str]) -> set[str]:
        """Return the distinct subwords of texts, those that are in no vocabulary among them."""
        split, found = self.language not in WITHOUT_SPACES, set[str]()
        for splitter in (self._spelt, self._always_spelt):
            parts = {part for text in texts for part, _, is_token in splitter.split(text) if not is_token}
            for word in {word for part in parts for word in self._words(part, split)}:
                found.update(self._subwords(word))
        return found

    def _words(self, text: str, split: bool) -> list[str]:
        words = words_of(text, self.language, split)
        return [word for word in (lower_without_accents(words) if self.lower else words) if word]

    def _merge(self, word: str) -> tuple[str, ...]:
        """Merge the characters of a word: the pair of lowest rank first, everywhere in the word at once."""
        symbols: list[str] = [*word[:-1], word[-1] + "</w>"]
        following = [*range(1, len(symbols)), -1]
        preceding = list(range(-1, len(symbols) - 1))
        candidates = [(self._ranks[pair], i) for i, pair in enumerate(pairwise(symbols)) if pair in self._ranks]
        heapq.heapify(candidates)
        while candidates:
            rank = candidates[0][0]
            left, right = self._merges[rank]
            changed = []
            while candidates and candidates[0][0] == rank:
                i = heapq.heappop(candidates)[1]
                j = following[i]
                if j < 0 or symbols[i] != left or symbols[j] != right:
                    continue  # one of the two was merged with another neighbour
                symbols[i], symbols[j] = left + right, ""
                following[i] = following[j]
                if following[i] >= 0:
                    preceding[following[i]] = i
                changed.append(i)
            for i in changed:
                for k in (preceding[i], i):
                    pair = (symbols[k], symbols[following[k]]) if k >= 0 and following[k] >= 0 else None
                    if pair in self._ranks:
                        heapq.heappush(candidates, (self._ranks[pair], k))
        return tuple(symbol for symbol in symbols if symbol)

    def _state(self) -> dict[str, Any]:
        state = {"vocab": self._vocab, "merges": self._merges, "settings": self._settings, "lang2id": self.lang2id}
        return state | {"lower": self.lower, "language": self.language, "model_max_length": self.model_max_length}

    def __repr__(self) -> str:
        options = f"language={self.language!r}, lower={self.lower}, model_max_length={self.model_max_length}"
        return f"XLMTokenizer(vocab_size={self.vocab_size}, {options})"


def _places(text: str, words: list[str], subwords: list[str]) -> NDArray[np.int32]:
    """Return the place of each subword in the text that became `words`."""
    character_places = align(text, "".join(words))
    ends = np.cumsum([len(subword.removesuffix("</w>")) for subword in subwords])
    starts = np.concatenate(([0], ends[:-1])) if len(ends) else ends
    places = np.zeros((len(subwords), 2), np.int32)
    for k, (start, end) in enumerate(zip(starts, ends, strict=True)):
        own = character_places[start:end]
        own = own[own[:, 1] > own[:, 0]]
        if len(own):
            places[k] = own[:, 0].min(), own[:, 1].max()
    return places
