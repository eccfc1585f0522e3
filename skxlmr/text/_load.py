"""Which tokenizer a checkpoint folder holds."""

import json
import re
from os import PathLike
from pathlib import Path

from skxlmr.text._bpe_files import MERGES_FILE, VOCAB_FILE
from skxlmr.text._fast.tokenizer import TOKENIZER_FILE, FastTokenizer
from skxlmr.text._sentencepiece.tokenizer import MODEL_FILE, SentencePieceTokenizer
from skxlmr.text._special_tokens import CONFIG_FILE
from skxlmr.text._tokenizer import Tokenizer
from skxlmr.text._xlm.tokenizer import MODEL_CONFIG_FILE, XLMTokenizer
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._files import open_file, read_json

VOCABULARY_FILES = (MODEL_FILE, TOKENIZER_FILE, VOCAB_FILE, MERGES_FILE)
SENTENCEPIECE_TYPES = ("xlm-roberta", "xlm-roberta-xl", "xmod", None)  # others give the same pieces other ids
BERT_TYPES = ("bert", "distilbert")  # may have XLM-R's vocabulary: the tokenizer's class says so
SENTENCEPIECE_CLASSES = ("XLMRobertaTokenizer", "PreTrainedTokenizer", "TokenizersBackend", None)
BYTE_LEVEL_TYPES = ("roberta", "roberta-prelayernorm")
XLM_TYPES = ("xlm",)
BEGINNING = 2**20  # bytes of a tokenizer.json
# stands in for the model's type if there is no config.json, in folders saved before 2020
CLASS_TYPES = {"XLMRobertaTokenizer": "xlm-roberta", "RobertaTokenizer": "roberta", "XLMTokenizer": "xlm"}


def load_tokenizer(folder: str | PathLike[str]) -> Tokenizer:
    """Load the tokenizer of a checkpoint folder.

    =========================  ====================================  ==========================================
    Vocabulary files           ``model_type`` of ``config.json``     Tokenizer
    =========================  ====================================  ==========================================
    sentencepiece.bpe.model    ``xlm-roberta``, ``xlm-roberta-xl``,  `SentencePieceTokenizer`
                               ``xmod``, or none
                               ``xmod``, or none; ``bert``,
                               ``distilbert``
    the same, tokenizer.json   the same                              `SentencePieceTokenizer`, of which the other is a
                                                                     conversion; `FastTokenizer` from
                                                                     ``tokenizer.json`` if that one has further tokens
    tokenizer.json alone       any but ``xlm``                       `FastTokenizer`
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
    model_type, class_name = _names(folder)
    has = {name for name in VOCABULARY_FILES if (folder / name).exists()}
    both = {VOCAB_FILE, MERGES_FILE} <= has
    if MODEL_FILE in has:
        if model_type in BERT_TYPES and class_name not in SENTENCEPIECE_CLASSES:
            reason = f"XLMRobertaTokenizer as tokenizer_class, whose vocabulary is {MODEL_FILE}"
            raise _ambiguous(folder, model_type, f"{reason} (it is {class_name:.80})")
        if model_type in SENTENCEPIECE_TYPES + BERT_TYPES:
            if has & {VOCAB_FILE, MERGES_FILE}:
                raise _ambiguous(folder, model_type, "the vocabulary of one tokenizer")
            tokenizer = SentencePieceTokenizer.from_file(folder / MODEL_FILE)
            added = _added_tokens(folder / TOKENIZER_FILE) if TOKENIZER_FILE in has else set()
            if any(token is None or tokenizer.token_to_id(token) is None for token in added):
                return FastTokenizer.from_file(folder / TOKENIZER_FILE, model_type)
            return tokenizer
    elif both and model_type in XLM_TYPES:
        return XLMTokenizer.from_file(folder / VOCAB_FILE, folder / MERGES_FILE)
    elif TOKENIZER_FILE in has and model_type not in XLM_TYPES:
        return FastTokenizer.from_file(folder / TOKENIZER_FILE, model_type)
    elif both and model_type in BYTE_LEVEL_TYPES:
        return FastTokenizer.from_vocab(folder / VOCAB_FILE, folder / MERGES_FILE)
    if both and model_type is None:
        types = ", ".join(BYTE_LEVEL_TYPES + XLM_TYPES)
        expected = f"a config.json whose model_type ({types}) says what {VOCAB_FILE} and {MERGES_FILE} are"
    else:
        expected = f"a tokenizer file ({MODEL_FILE}, {TOKENIZER_FILE}, or {VOCAB_FILE} with {MERGES_FILE})"
        expected += " that matches the model" if has else ""
    raise _ambiguous(folder, model_type, expected)


def _added_tokens(file: Path) -> set[str | None]:
    """Contents of the added tokens of a ``tokenizer.json``, which stand before its vocabulary: that is not read.

    None among them is a token, or a list of them, that only reading the whole file can judge.
    """
    with open_file(file) as opened:
        beginning = opened.read(BEGINNING).decode("utf-8", errors="ignore")
    found = re.search(r'"added_tokens"\s*:\s*', beginning)
    if found is None:
        return set()
    try:
        tokens, _ = json.JSONDecoder().raw_decode(beginning, found.end())
        return {token["content"] for token in tokens}
    except (ValueError, TypeError, LookupError, RecursionError):
        return {None}


def _names(folder: Path) -> tuple[str | None, str | None]:
    """Return the model's type, and the tokenizer's class without "Fast"; None where the folder does not say."""
    file, config_file = folder / MODEL_CONFIG_FILE, folder / CONFIG_FILE
    config = read_json(file) if file.exists() else {}
    options = read_json(config_file) if config_file.exists() else {}
    name = options.get("tokenizer_class") or config.get("tokenizer_class")
    class_name = name.removesuffix("Fast") if isinstance(name, str) else None
    model_type = config.get("model_type")
    if model_type is not None and not isinstance(model_type, str):
        raise CheckpointError(file, f"expected a name as model_type, found {model_type!r:.80}")
    return CLASS_TYPES.get(class_name or "") if model_type is None else model_type, class_name


def _ambiguous(folder: Path, model_type: str | None, expected: str) -> CheckpointError:
    found = ", ".join(sorted(entry.name for entry in folder.iterdir())) or "nothing"
    kind = f" (model_type {model_type!r:.80})" if model_type else ""
    return CheckpointError(folder, f"expected {expected}, found {found}{kind}")
