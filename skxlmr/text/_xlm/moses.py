"""How the original XLM prepares a text: Moses' normalisation and tokenisation, then lower case without accents."""

import re
import unicodedata
from functools import cache
from typing import Any

from skxlmr.utils._imports.optional import import_extra

# Moses' replace-unicode-punctuation.perl
_FULL_WIDTH = {
    "，": ",", "、": ",", "”": '"', "“": '"', "∶": ":", "：": ":", "？": "?", "《": '"', "》": '"', "）": ")", "！": "!",
    "（": "(", "；": ";", "」": '"', "「": '"', "～": "~", "’": "'", "…": "...", "━": "-", "〈": "<", "〉": ">", "【": "[",
    "】": "]", "％": "%",
} | {chr(ord("０") + digit): str(digit) for digit in range(10)}  # fmt: skip
_PUNCTUATION = str.maketrans(_FULL_WIDTH)
_FULL_STOP = re.compile(r"[。．]\s*")
# Sennrich's normalise-romanian.py and remove-diacritics.py
_ROMANIAN = str.maketrans("ŞşŢţȘșȚțĂăÂâÎî", "SsTtSsTtAaAaIi")


def words_of(text: str, language: str, split: bool) -> list[str]:
    """Split a text into words with Moses, or at white space if not `split` (languages that Moses cannot split)."""
    text = _FULL_STOP.sub(". ", text.translate(_PUNCTUATION))
    text = _normalizer(language).normalize(text)
    text = "".join(character for character in text if unicodedata.category(character)[0] != "C")
    if not split:
        return text.split()
    if language == "ro":
        text = text.translate(_ROMANIAN)
    return _tokenizer(language).tokenize(text, return_str=False, escape=False)


def lower_without_accents(words: list[str]) -> list[str]:
    """Return the words in lower case, decomposed, without combining marks."""
    text = unicodedata.normalize("NFD", " ".join(words).lower())
    return "".join(character for character in text if unicodedata.category(character) != "Mn").lower().split(" ")


@cache
def _normalizer(language: str) -> Any:
    return _sacremoses().MosesPunctNormalizer(lang=language)


@cache
def _tokenizer(language: str) -> Any:
    return _sacremoses().MosesTokenizer(lang=language)


def _sacremoses() -> Any:
    return import_extra("sacremoses", "xlm", "The tokenizer of the original XLM")
