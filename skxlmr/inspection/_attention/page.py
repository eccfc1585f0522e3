"""The page of attention weights: what the script is given, and the files beside this one that it is made of."""

import unicodedata
from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from skxlmr.inspection._attention.measures import MEASURES, head_measures
from skxlmr.inspection._attention.rows import SHOWN_SPACE, ReadRow
from skxlmr.utils._shown.html import direction, document, in_script

LEVELS = 255  # of a weight's square root: small weights keep more digits than large ones
DOTTED_CIRCLE = "\u25cc"


def page(title: str, attentions: Sequence[np.ndarray], rows: Sequence[ReadRow]) -> str:
    """A whole page.

    Parameters
    ----------
    title : str
    attentions : sequence of ndarray of shape (n_layers, n_heads, n_tokens, n_tokens)
    rows : sequence of ReadRow
    """
    n_layers, n_heads = attentions[0].shape[:2]
    data = {
        "layers": n_layers,
        "heads": n_heads,
        "measures": MEASURES,
        "texts": [_text(weights, row) for weights, row in zip(attentions, rows, strict=True)],
    }
    body, style, script = (_file(f"page.{ending}") for ending in ("html", "css", "js"))
    return document(title, body, style=style, script=f"const DATA = {in_script(data)};\n{script}")


def quantised(weights: np.ndarray) -> np.ndarray:
    """Weights from 0 to 1 as bytes: ``(byte / 255) ** 2`` is off by less than 0.004, and by less the smaller a weight is."""
    return np.round(np.sqrt(np.clip(weights, 0, 1)) * LEVELS).astype(np.uint8)


def _text(weights: np.ndarray, row: ReadRow) -> dict[str, Any]:
    n_words = max(row.word_ids, default=-1) + 1
    labels, of_word = [""] * n_words, [0] * n_words
    for token, word, text in zip(row.tokens, row.word_ids, row.sequence_ids, strict=True):
        if word >= 0:
            labels[word], of_word[word] = labels[word] + token.removeprefix(SHOWN_SPACE), text
    return {
        "tokens": list(map(label, row.tokens)),
        "words": row.word_ids,
        "of": row.sequence_ids,
        "wordLabels": [label(word) or SHOWN_SPACE for word in labels],
        "wordOf": of_word,
        "pair": {0, 1} <= set(row.sequence_ids),
        "sources": row.sources,
        "dir": direction(row.sources[0] if row.sources else ""),
        "weights": b64encode(quantised(weights).tobytes()).decode("ascii"),
        "measures": {
            name: values.round(4).tolist() for name, values in head_measures(weights, row.sequence_ids).items()
        },
    }


def label(token: str) -> str:
    """A token as it can be seen: a mark without its letter on a dotted circle."""
    return DOTTED_CIRCLE + token if token and unicodedata.category(token[0]).startswith("M") else token


def _file(name: str) -> str:
    return files("skxlmr.inspection._attention").joinpath(name).read_text(encoding="utf-8")
