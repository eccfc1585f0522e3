"""Tokenizers run by the `tokenizers` package.

They are ``tokenizer.json``, RoBERTa's ``vocab.json`` with ``merges.txt``, and BERT's ``vocab.txt``.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.text._arguments import Reading
from skxlmr.text._bpe_files import MOST_VALUES, MOST_VOCAB_BYTES, read_merges, read_vocab
from skxlmr.text._fast import tokenizer_json, wordpiece
from skxlmr.text._fast.class_steps import BYTE_LEVEL, check_reading, other_reading
from skxlmr.text._fast.offsets import trimmed
from skxlmr.text._fast.steps import check_steps
from skxlmr.text._special_tokens import (
    CONFIG_FILE,
    DEFAULT_MAX_LENGTH,
    TextSplitter,
    TokenizerSettings,
    check_prefix_space,
    check_row_ends,
    check_truncation,
    checked_flag,
    read_settings,
)
from skxlmr.text._surrogates import without_surrogates
from skxlmr.text._tokenizer import Tokenizer
from skxlmr.text._tokens import Tokens
from skxlmr.utils._errors import CheckpointError, blaming
from skxlmr.utils._files import read_json
from skxlmr.utils._lazy import lazy

if TYPE_CHECKING:
    import tokenizers

TOKENIZER_FILE = "tokenizer.json"

# Classes of transformers that lay pairs out in their own way. It opens the tokenizers of other models by the file alone.
_CLASSES = {"xlm-roberta": "XLMRobertaTokenizer", "xmod": "XLMRobertaTokenizer"}
_CLASSES |= {"roberta": BYTE_LEVEL, "roberta-prelayernorm": BYTE_LEVEL, "camembert": "CamembertTokenizer"}
_MODELS = {BYTE_LEVEL: "BPE"}  # of the others: Unigram
_BERT_CLASSES = {"bert": "BertTokenizer", "distilbert": "DistilBertTokenizer"}
GENERAL = "PreTrainedTokenizer"
GENERAL_CLASSES = (GENERAL, "TokenizersBackend")  # they do what tokenizer.json says
_SAVED_AS = {"BPE": "RobertaTokenizer", "Unigram": "XLMRobertaTokenizer", "WordPiece": "PreTrainedTokenizerFast"}
_ONE_SEPARATOR = (
    "{}: its template puts one </s> between the texts of a pair, as transformers 5.0 to 5.2 wrote it. Pairs are read with "
    "two, as the model was pretrained and as later versions of transformers read this file. Single texts are the same."
)


class FastTokenizer(Tokenizer):
    """A ``tokenizer.json`` with XLM-R's, RoBERTa's or BERT's layout: a Unigram, a byte-level BPE or a WordPiece model.

    The `tokenizers` package turns text into ids; special tokens around them, truncation and windows are this library's,
    the same for all tokenizers. Padding and truncation in the file are ignored; `from_file` refuses one that cuts the
    beginning of a text. A surrogate code point is read as U+FFFD.

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
    two_separators : bool
        Whether there are two separators between the texts of a pair, with a warning if the content has one.
    token_types : bool
        Whether the model reads token types. If so, and the content gives the second text of a pair type 1, batches of pairs
        have `second_starts`.

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
        two_separators: bool = False,
        token_types: bool = True,
    ):
        self._file = Path(file)
        self._content = content
        self.model_max_length = model_max_length
        self._token_types = token_types
        check_steps(self._file, content)
        vocabulary = tokenizer_json.vocabulary_of(self._file, content)
        if tokenizer_json.kind_of(content) == "WordPiece":
            self._default_roles = wordpiece.ROLES
            self.continuing_prefix = content["model"].get("continuing_subword_prefix", wordpiece.PREFIX)
        settings = settings or TokenizerSettings()
        listed = {token.content for token in settings.added.values()}  # they take precedence over those of the file
        own = tokenizer_json.added_tokens_of(self._file, content)
        further = {i: token for i, token in own.items() if token.content not in listed}
        self._settings = settings.with_added(further | dict(settings.added))
        with blaming(self._file, "{}", ValueError):
            self._set_vocabulary(vocabulary, self._settings)
        start, end = self.cls_token_id, self.sep_token_id
        layout = tokenizer_json.pair_layout(self._file, content, start, end, token_types)
        self._n_pair_separators, self._n_before_second_type = layout
        if two_separators and self._n_pair_separators == 1:
            named = [(self._roles[role].content, i) for role, i in (("cls_token", start), ("sep_token", end))]
            self._content, self._n_pair_separators = tokenizer_json.with_two_separators(content, *named), 2
            self._remark = _ONE_SEPARATOR.format(self._file)
            self.warn_of_files()
        self._literal = self._load(content, literal=True)

    @classmethod
    def from_file(
        cls, file: str | PathLike[str], model_type: str | None = None, class_name: str | None = None
    ) -> "FastTokenizer":
        """Load a ``tokenizer.json`` and, if they are next to it, ``tokenizer_config.json`` and its companions.

        Parameters
        ----------
        file : str or path
            The file.
        model_type : str, optional
            The model's type, which stands in for the class that ``tokenizer_config.json`` names. XLM-R's and RoBERTa's
            classes put two separators between the texts of a pair, whatever the file's template says. BERT's classes read
            ``do_lower_case`` and its like from ``tokenizer_config.json``. Only models of the type ``bert`` have token types.
        class_name : str, optional
            The class if ``tokenizer_config.json`` names none.

        Raises
        ------
        CheckpointError
            If a file cannot be read or is broken.
        """
        file = Path(file)
        content = read_json(file, MOST_VALUES, most_bytes=MOST_VOCAB_BYTES)
        is_wordpiece = tokenizer_json.kind_of(content) == "WordPiece"
        settings, max_length = read_settings(file.parent, mask_lstrip=not is_wordpiece, normalized=True)
        if settings.options.get("added_tokens_decoder") is None:  # added_tokens.json has no more than the ids
            of_file = {token.content: token for token in tokenizer_json.added_tokens_of(file, content).values()}
            settings = settings.with_added({i: of_file.get(t.content, t) for i, t in settings.added.items()})
        if settings.options.get("truncation_side") is None:
            check_truncation(file, "direction of truncation", tokenizer_json.truncation_side(content.get("truncation")))
        name = class_of(settings.options, model_type, class_name)
        types = has_token_types(file.parent, settings.options, model_type, name)
        if name in wordpiece.CLASSES and (is_wordpiece or model_type in _BERT_CLASSES):
            return cls._bert(file, content, settings, max_length, name, types)
        if is_wordpiece and name in _CLASSES.values():
            raise CheckpointError(file, f"has a WordPiece model, which {name} cannot read; {wordpiece.INSTEAD}")
        two, usual = name in _CLASSES.values() and model_type != "xlm-roberta-xl", name != BYTE_LEVEL
        if two:  # a class that builds its own steps
            check_prefix_space(file, settings.options, usual, tokenizer_json.prefix_space(content))
            if usual:
                check_row_ends(file.parent, settings)
        made = cls(
            content,
            settings=settings,
            model_max_length=max_length,
            file=file,
            two_separators=two,
            token_types=types,
        )
        if two and tokenizer_json.kind_of(content) == _MODELS.get(str(name), "Unigram"):
            check_reading(
                file, content, str(name), checked_flag(file.parent, settings.options, "add_prefix_space", usual)
            )
        return made

    @classmethod
    def _bert(
        cls, file: Path, content: dict[str, Any], settings: TokenizerSettings, max_length: int, name: str, types: bool
    ) -> "FastTokenizer":
        """Make the tokenizer that a class of BERT makes of this content, and save it under the class's name."""
        if tokenizer_json.kind_of(content) != "WordPiece":
            reason = f"expected a WordPiece model for the class {name}, found {tokenizer_json.kind_of(content)!r:.80}"
            raise CheckpointError(file, f"{reason}; {wordpiece.INSTEAD}")
        content = wordpiece.as_class(file, content, settings)
        settings = replace(settings, options=dict(settings.options) | {"tokenizer_class": name})
        made = cls(content, settings=settings, model_max_length=max_length, file=file, token_types=types)
        if made._n_pair_separators != 1 or (types and made._n_before_second_type != 1):
            reason = (
                "expected the layout [CLS] A [SEP] B [SEP] with token type 1 for B [SEP], as the class has it, found "
            )
            raise CheckpointError(file, f"{reason}another one; {wordpiece.INSTEAD}")
        return made

    @classmethod
    def from_wordpiece(
        cls, file: str | PathLike[str], model_type: str | None = None, class_name: str | None = None
    ) -> "FastTokenizer":
        """Load BERT's ``vocab.txt`` and, if they are next to it, ``tokenizer_config.json`` and its companions.

        Parameters
        ----------
        file : str or path
            The file.
        model_type : str, optional
            The model's type, which stands in for the class that ``tokenizer_config.json`` names.
        class_name : str, optional
            The class if ``tokenizer_config.json`` names none.

        Raises
        ------
        CheckpointError
            If a file cannot be read or is broken.
        """
        file = Path(file)
        vocab = wordpiece.read_vocabulary(file)
        settings, max_length = read_settings(file.parent, mask_lstrip=False, normalized=True)
        name = class_of(settings.options, model_type, class_name) or "BertTokenizer"
        types = has_token_types(file.parent, settings.options, model_type, name)
        content = wordpiece.content_of(file, vocab, settings)
        return cls._bert(file, content, settings, max_length, name, types)

    @classmethod
    def from_vocab(cls, vocab_file: str | PathLike[str], merges_file: str | PathLike[str]) -> "FastTokenizer":
        """Load RoBERTa's ``vocab.json`` and ``merges.txt``, and the configuration next to the first.

        Raises
        ------
        CheckpointError
            If a file cannot be read or is broken.
        """
        file = Path(vocab_file)
        settings, max_length = read_settings(file.parent)
        prefix = checked_flag(file.parent, settings.options, "add_prefix_space", False)
        content = tokenizer_json.byte_level_json(read_vocab(file), read_merges(Path(merges_file)), prefix)
        return cls(content, settings=settings, model_max_length=max_length, file=file)

    def save_vocabulary(self, folder: str | PathLike[str], filename_prefix: str | None = None) -> tuple[str, ...]:
        """Write the model's vocabulary (``vocab.json`` and ``merges.txt``, or ``unigram.json``) and return the paths."""
        return tuple(self._parsing.model.save(str(folder), filename_prefix))

    @property
    def content(self) -> dict[str, Any]:
        """The ``tokenizer.json`` that it runs, or that stands for its files; not to be changed."""
        return self._content

    def words(self, texts: Iterable[str]) -> set[str]:
        """Return the distinct words of texts as they reach the model, normalised, whether special tokens are parsed or not."""
        splitters = [TextSplitter(token for token in self._tokens.values() if not token.special)]
        splitters.append(TextSplitter(self._tokens.values()))
        normalizer, pre_tokenizer = self._literal.normalizer, self._literal.pre_tokenizer
        found: set[str] = set()
        for text in map(without_surrogates, texts):
            parts = {part for splitter in splitters for part, _, is_token in splitter.split(text) if not is_token}
            for part in parts:
                part = part if normalizer is None else normalizer.normalize_str(part)
                found.update([part] if pre_tokenizer is None else (w for w, _ in pre_tokenizer.pre_tokenize_str(part)))
        return found

    def _write_vocabulary(self, folder: Path) -> None:
        content = tokenizer_json.with_tokens(self._content, self._tokens, False)
        content["post_processor"] = self._content.get("post_processor")
        (folder / TOKENIZER_FILE).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")

    def _config(self) -> dict[str, Any]:
        config = dict(self._settings.options)
        config.setdefault("tokenizer_class", self._usual_class())
        if self._n_before_second_type is not None and config["tokenizer_class"] not in wordpiece.CLASSES:
            config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]  # transformers 5 needs it
        config.pop("added_tokens_decoder", None)  # tokenizer.json holds them
        return config | {"model_max_length": self.model_max_length} | self._settings.to_config(self._roles)

    def _usual_class(self) -> str:
        """The class to save under where no file named one: a general one if the usual one would read words otherwise."""
        name = _SAVED_AS[tokenizer_json.kind_of(self._content)]
        prefix = self._settings.options.get("add_prefix_space")
        prefix = name != BYTE_LEVEL if prefix is None else bool(prefix)
        is_general = name.startswith(GENERAL) or other_reading(self._file, self._content, name, prefix) is not None
        return f"{GENERAL}Fast" if is_general else name

    def _spell(self, pieces: list[str]) -> str:
        decoder = self._literal.decoder
        return " ".join(pieces) if decoder is None else tokenizer_json.guarded(self._file, decoder.decode, pieces)

    def _load(self, content: dict[str, Any], literal: bool) -> "tokenizers.Tokenizer":
        return tokenizer_json.load(self._file, content, self._tokens, literal)

    @lazy
    def _parsing(self) -> "tokenizers.Tokenizer":
        return self._load(self._content, literal=False)

    @lazy
    def _for_words(self) -> "dict[bool, tokenizers.Tokenizer]":
        """By `parse_special`: the tokenizers that read every word as if a space preceded it."""
        prefixed = tokenizer_json.with_prefix_space(self._content)
        if prefixed is None:
            return {False: self._literal, True: self._parsing}
        return {parse: self._load(prefixed, literal=not parse) for parse in (False, True)}

    @property
    def marks_words(self) -> bool:
        return self._for_words[False] is not self._literal

    def _encode_texts(self, texts: list[str], reading: Reading) -> Tokens:
        if reading.drawn is not None:
            raise ValueError("sampling needs a SentencePiece model, and this is a tokenizer of the tokenizers package")
        if reading.as_words:
            tokenizer = self._for_words[reading.parse_special]
        else:
            tokenizer = self._parsing if reading.parse_special else self._literal
        texts = [without_surrogates(text) for text in texts]
        encode = tokenizer.encode_batch if reading.with_offsets else tokenizer.encode_batch_fast
        encodings = tokenizer_json.guarded(self._file, lambda: encode(texts, add_special_tokens=False))
        rows = [encoding.ids for encoding in encodings]
        lengths_N = np.fromiter(map(len, rows), np.int64, len(rows))
        ids_T = np.fromiter(chain.from_iterable(rows), np.int32, lengths_N.sum())
        if not reading.with_offsets:
            return Tokens.packed(ids_T, lengths_N)
        places = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
        offsets_T2 = np.fromiter(places, np.int32, 2 * len(ids_T)).reshape(-1, 2)
        return Tokens.packed(ids_T, lengths_N, trimmed(texts, lengths_N, offsets_T2))

    def _state(self) -> dict[str, Any]:
        state = {"content": self._content, "settings": self._settings, "file": str(self._file)}
        return state | {"model_max_length": self.model_max_length, "token_types": self._token_types}

    def identity(self) -> dict[str, Any]:
        return self._state() | {"file": ""}


def class_of(options: Mapping[str, Any], model_type: str | None, class_name: str | None = None) -> str | None:
    """Return the class of transformers that reads a folder, without "Fast"; None if it is not known."""
    name = options.get("tokenizer_class") or class_name or (_CLASSES | _BERT_CLASSES).get(model_type or "")
    return name.removesuffix("Fast") if isinstance(name, str) else None


def has_token_types(folder: Path, options: Mapping[str, Any], model_type: str | None, class_name: str | None) -> bool:
    """Return whether the token types that a tokenizer gives reach the model.

    ``TokenizersBackend``, a name that transformers has written since version 5, gives none by default. Earlier general
    classes did, and so do they here.
    """
    if model_type not in ("bert", None):
        return False
    names = options.get("model_input_names")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise CheckpointError(
            folder / CONFIG_FILE, f"expected a list of names as model_input_names, found {names!r:.80}"
        )
    if names is not None:
        return "token_type_ids" in names
    return class_name not in (*_CLASSES.values(), "DistilBertTokenizer", "TokenizersBackend")
