"""Which tokenizer a checkpoint folder holds."""

import json
import os
import re
from os import PathLike
from pathlib import Path
from typing import Any

from skxlmr.text._bpe_files import MERGES_FILE, VOCAB_FILE
from skxlmr.text._fast.class_steps import other_reading
from skxlmr.text._fast.steps import check_steps
from skxlmr.text._fast.tokenizer import GENERAL, GENERAL_CLASSES, TOKENIZER_FILE, FastTokenizer
from skxlmr.text._fast.tokenizer_json import pair_layout, truncation_side
from skxlmr.text._fast.wordpiece import CLASSES as BERT_CLASSES
from skxlmr.text._fast.wordpiece import WORDPIECE_FILE
from skxlmr.text._sentencepiece.tokenizer import MODEL_FILE, SentencePieceTokenizer, load_processor
from skxlmr.text._special_tokens import CONFIG_FILE
from skxlmr.text._tokenizer import Tokenizer
from skxlmr.text._xlm.tokenizer import MODEL_CONFIG_FILE, XLMTokenizer
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import open_file, read_json

VOCABULARY_FILES = (MODEL_FILE, TOKENIZER_FILE, VOCAB_FILE, MERGES_FILE, WORDPIECE_FILE)
SENTENCEPIECE_TYPES = ("xlm-roberta", "xlm-roberta-xl", "xmod", None)  # others give the same pieces other ids
FILE_TYPES = ("xlm-roberta-xl",)  # transformers opens their tokenizer.json whatever the class
BERT_TYPES = ("bert", "distilbert")  # may have XLM-R's vocabulary: the tokenizer's class says so
# what classes of a BERT body's tokenizer read; None is a class that no file names
CLASSES_OF: dict[str, tuple[str | None, ...]] = {
    MODEL_FILE: ("XLMRobertaTokenizer", *GENERAL_CLASSES, None),
    TOKENIZER_FILE: (*BERT_CLASSES, "XLMRobertaTokenizer", "RobertaTokenizer", *GENERAL_CLASSES, None),
    WORDPIECE_FILE: (*BERT_CLASSES, None),
}
BYTE_LEVEL_TYPES = ("roberta", "roberta-prelayernorm")
XLM_TYPES = ("xlm",)
BEGINNING = 2**20  # bytes of a tokenizer.json
# stands in for the model's type if there is no config.json, in folders saved before 2020
CLASS_TYPES = {"BertTokenizer": "bert", "DistilBertTokenizer": "distilbert"}
CLASS_TYPES |= {"XLMRobertaTokenizer": "xlm-roberta", "RobertaTokenizer": "roberta", "XLMTokenizer": "xlm"}


def load_tokenizer(folder: str | PathLike[str], model_type: str | None = None) -> Tokenizer:
    """Load the tokenizer of a checkpoint folder.

    =========================  ====================================  ==========================================
    Vocabulary files           ``model_type`` of ``config.json``     Tokenizer
    =========================  ====================================  ==========================================
    sentencepiece.bpe.model    ``xlm-roberta``, ``xlm-roberta-xl``,  `SentencePieceTokenizer`
                               ``xmod``, or none; ``bert``,
                               ``distilbert``
    the same, tokenizer.json   the same                              `SentencePieceTokenizer`, of which the other is a
                                                                     conversion; `FastTokenizer` from
                                                                     ``tokenizer.json`` if that one has further tokens
                                                                     or reads words or lays pairs out in
                                                                     its own way
    tokenizer.json alone       any but ``xlm``                       `FastTokenizer`
    tokenizer.json, vocab.txt  any but ``xlm``                       `FastTokenizer` from ``tokenizer.json``
    vocab.txt                  ``bert``, ``distilbert``              `FastTokenizer` (WordPiece)
    tokenizer.json, vocab.json any but ``xlm``                       `FastTokenizer` from ``tokenizer.json``
    and/or merges.txt
    vocab.json, merges.txt     ``roberta``, ``roberta-prelayernorm`` `FastTokenizer` from both
    vocab.json, merges.txt     ``xlm``                               `XLMTokenizer` (with or without
                                                                     ``tokenizer.json``)
    =========================  ====================================  ==========================================

    Without ``config.json``, ``tokenizer_class`` in ``tokenizer_config.json`` stands in for the ``model_type``. The models
    ``bert`` and ``distilbert`` have XLM-R's vocabulary if the class is ``XLMRobertaTokenizer``, a general one such as
    ``PreTrainedTokenizerFast``, or not named. Everything else is an error.

    Parameters
    ----------
    folder : str or path
        A checkpoint folder.
    model_type : str, optional
        Of the model, where the folder has no ``config.json`` that says it, as that of an adapter.

    Returns
    -------
    Tokenizer

    Raises
    ------
    CheckpointError
        If the folder is missing, its files are not those of one tokenizer that this library reads (the message lists
        them), or its tokenizer files are broken.
    """
    folder = Path(folder)
    if not folder.is_dir():
        found = "a file" if folder.exists() else "nothing"
        raise CheckpointError(folder, f"expected a checkpoint folder, found {found}")
    model_type, class_name = _names(folder, model_type)
    has = {name for name in VOCABULARY_FILES if os.path.lexists(folder / name)}
    both = {VOCAB_FILE, MERGES_FILE} <= has
    if model_type in BERT_TYPES:
        _check_class(folder, model_type, class_name, has)
    if MODEL_FILE in has:
        if model_type in SENTENCEPIECE_TYPES + BERT_TYPES:
            if has & {VOCAB_FILE, MERGES_FILE}:
                raise _ambiguous(folder, model_type, "the vocabulary of one tokenizer")
            tokenizer = SentencePieceTokenizer.from_file(folder / MODEL_FILE)
            if TOKENIZER_FILE in has and _says_more(folder, tokenizer, model_type, class_name):
                return FastTokenizer.from_file(folder / TOKENIZER_FILE, model_type, class_name)
            return tokenizer
    elif both and model_type in XLM_TYPES:
        return XLMTokenizer.from_file(folder / VOCAB_FILE, folder / MERGES_FILE)
    elif TOKENIZER_FILE in has and model_type not in XLM_TYPES:
        return FastTokenizer.from_file(folder / TOKENIZER_FILE, model_type, class_name)
    elif both and model_type in BYTE_LEVEL_TYPES:
        return FastTokenizer.from_vocab(folder / VOCAB_FILE, folder / MERGES_FILE)
    elif WORDPIECE_FILE in has and model_type in BERT_TYPES:
        return FastTokenizer.from_wordpiece(folder / WORDPIECE_FILE, model_type, class_name)
    if (both or WORDPIECE_FILE in has) and model_type is None:
        types = ", ".join(BYTE_LEVEL_TYPES + XLM_TYPES if both else BERT_TYPES)
        files = f"{VOCAB_FILE} and {MERGES_FILE} are" if both else f"{WORDPIECE_FILE} is"
        expected = f"a config.json whose model_type ({types}) says what {files}"
    else:
        expected = (
            f"a tokenizer file ({MODEL_FILE}, {TOKENIZER_FILE}, {WORDPIECE_FILE}, or {VOCAB_FILE} with {MERGES_FILE})"
        )
        expected += " that matches the model" if has else ""
    do = "" if has else ": copy the tokenizer's files from the model that this one was trained from"
    raise _ambiguous(folder, model_type, expected, do)


def forget_vocabularies() -> None:
    """Forget the vocabulary that is kept for the next tokenizer with the same one."""
    load_processor.cache_clear()


def _check_class(folder: Path, model_type: str, class_name: str | None, has: set[str]) -> None:
    """Raise CheckpointError if the tokenizer of a BERT body has a class that reads other files than these."""
    if MODEL_FILE in has and WORDPIECE_FILE in has:
        raise _ambiguous(folder, model_type, "the vocabulary of one tokenizer")
    file = next((file for file in CLASSES_OF if file in has), None)
    if file is not None and class_name not in CLASSES_OF[file]:
        names = ", ".join(name for name in CLASSES_OF[file] if name).replace(GENERAL, f"{GENERAL}Fast")
        reason = f"expected a tokenizer_class that reads {file} ({names}), found {class_name!r:.80}"
        instead = f"; {GENERAL}Fast does what the file says" if file == TOKENIZER_FILE else ""
        raise CheckpointError(folder, reason + instead)


def _says_more(folder: Path, tokenizer: SentencePieceTokenizer, model_type: str | None, class_name: str | None) -> bool:
    """Whether ``tokenizer.json`` is more than a conversion of this tokenizer.

    It may have further added tokens, or cut texts at their beginning. With a class that leaves the rest to it, it may read
    words in another way, such as in lower case, or lay pairs out in another way.
    """
    file = folder / TOKENIZER_FILE
    with open_file(file) as opened:
        beginning = opened.read(BEGINNING).decode("utf-8", errors="ignore")
    if any(token is None or tokenizer.token_to_id(token) is None for token in _added_tokens(beginning)):
        return True
    try:
        side = truncation_side(_value_of("truncation", beginning))
    except (ValueError, RecursionError):
        side = None
    if side not in (None, "right"):
        return True
    if class_name not in GENERAL_CLASSES and model_type not in FILE_TYPES:
        return False  # the class lays pairs out
    try:
        parts = ("normalizer", "pre_tokenizer", "post_processor")
        content = {part: _value_of(part, beginning) for part in parts}
    except (ValueError, RecursionError):
        return True  # only reading the whole file can judge it
    if content["post_processor"] is None:  # it stands further behind
        return True
    check_steps(file, content)
    if other_reading(file, content, "XLMRobertaTokenizer", True):
        return True
    return pair_layout(file, content, tokenizer.cls_token_id, tokenizer.sep_token_id, True) != (2, None)


def _added_tokens(beginning: str) -> set[str | None]:
    """Contents of the added tokens of a ``tokenizer.json``, which stand before its vocabulary: that is not read.

    None among them is a token, or a list of them, that only reading the whole file can judge.
    """
    try:
        return {token["content"] for token in _value_of("added_tokens", beginning) or ()}
    except (ValueError, TypeError, LookupError, RecursionError):
        return {None}


def _value_of(key: str, beginning: str) -> Any:
    """Return the value of the first entry of this name; None if there is none, ValueError if it goes on behind the end."""
    found = re.search(rf'"{key}"\s*:\s*', beginning)
    return None if found is None else json.JSONDecoder().raw_decode(beginning, found.end())[0]


def _names(folder: Path, default: str | None) -> tuple[str | None, str | None]:
    """Return the model's type, and the tokenizer's class without "Fast"; None where the folder does not say."""
    file, config_file = folder / MODEL_CONFIG_FILE, folder / CONFIG_FILE
    config = read_json(file) if os.path.lexists(file) else {}
    options = read_json(config_file) if os.path.lexists(config_file) else {}
    name = options.get("tokenizer_class") or config.get("tokenizer_class")
    class_name = name.removesuffix("Fast") if isinstance(name, str) else None
    model_type = config.get("model_type", default)
    if model_type is not None and not isinstance(model_type, str):
        raise CheckpointError(file, f"expected a name as model_type, found {model_type!r:.80}")
    return CLASS_TYPES.get(class_name or "") if model_type is None else model_type, class_name


def _ambiguous(folder: Path, model_type: str | None, expected: str, do: str = "") -> CheckpointError:
    found = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
    kind = f" (model_type {model_type!r:.80})" if model_type else ""
    return CheckpointError(folder, f"expected {expected}, found {found}{kind}{do}")
