"""Texts as a checkpoint reads them before they are tokenised: with a prompt before them, and in lower case."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from string import Formatter
from typing import Any, TypeVar

import numpy as np

from skxlmr.nn.sentence import TextSettings
from skxlmr.text import EncodedBatch
from skxlmr.utils._validation import Texts

How = TypeVar("How", bound=TextSettings)
_NAME = re.compile(r"[\w.-]+")  # a prompt that looks like this is the name of one
_SIGMA, _SMALL_SIGMA = "\u03a3", "\u03c3"


def with_prompt(how: How, prompt: str | None) -> How:
    """The same with another prompt: the name of one, or a text, which becomes one of the prompts; ``'auto'`` keeps it.

    Raises
    ------
    ValueError
        If the checkpoint has no prompt of this name.
    """
    if prompt == "auto":
        return how
    known = dict(how.prompts)
    if not prompt:
        return replace(how, default_prompt=None)
    if prompt in known:
        return replace(how, default_prompt=prompt)
    for name, text in how.prompts:
        if text == prompt:
            return replace(how, default_prompt=name)
    if _NAME.fullmatch(prompt):
        has = f"has {', '.join(map(repr, known))}" if known else "has none"
        raise ValueError(
            f"prompt={prompt!r} is not the name of one of the checkpoint's prompts (it {has}): pass such a name, or the "
            f"text itself with its space or colon, such as {prompt + ': '!r}, or None"
        )
    name = next(name for name in ("prompt", *(f"prompt{i}" for i in range(len(known) + 1))) if name not in known)
    return replace(how, prompts=(*how.prompts, (name, prompt)), default_prompt=name)


def prepared(texts: Texts, how: TextSettings) -> Texts:
    """The texts as the encoder reads them: the prompt before the first, and in lower case."""
    prompt = how.prompt()
    if not prompt and not how.lower_case:
        return texts
    first, second = texts.first, texts.second
    if prompt:
        first = [prompt + text for text in first]
    if how.lower_case:
        first, second = lower(first), None if second is None else lower(second)
    return replace(texts, first=first, second=second)


def lower(texts: Sequence[str]) -> list[str]:
    """Texts in lower case, character by character, as the tokenizers of other tools do it.

    Python alone writes another sigma at the end of a word.
    """
    return [text.replace(_SIGMA, _SMALL_SIGMA).lower() for text in texts]


def filled(template: str, labels: Sequence[str], name: str) -> list[str]:
    """The template with each label in the place of ``{}``, by ``str.format``, as the reference does it.

    Raises
    ------
    ValueError
        If there is not one such place, or a brace that is not doubled; names the parameter.
    """
    try:
        places = [place for _, *place in Formatter().parse(template) if place[0] is not None]
    except ValueError:  # a single brace
        places = []
    if places != [["", "", None]]:
        raise ValueError(
            f"{name} must have {{}} where the label goes, once, and other braces doubled, got {template!r}"
        )
    return [template.format(label) for label in labels]


def prompt_ids(tokenizer: Any, how: TextSettings, pair: bool, limit: int) -> np.ndarray:
    """Ids of the prompt, with a special token at each end; of no prompt, none.

    Raises
    ------
    ValueError
        If it leaves no room for a text, or a pair, in a row of ``limit`` tokens.
    """
    prompt = how.prompt()
    if not prompt:
        return np.zeros(0, np.int32)
    ids: np.ndarray = tokenizer.encode_batch(prepared(Texts([""]), how).first).row(0)
    if len(ids) - 2 + tokenizer.n_special(pair) >= limit:
        raise ValueError(
            f"the prompt {prompt!r:.80} has {len(ids) - 2} tokens, and max_length={limit} leaves no room for a text after it: "
            "pass a shorter prompt or a larger max_length"
        )
    return ids


def windows_with_prompt(
    whole: EncodedBatch, tokenize: Callable[[np.ndarray], EncodedBatch], prompt: np.ndarray
) -> EncodedBatch:
    """Windows that each begin with the prompt.

    Parameters
    ----------
    whole : EncodedBatch
        Windows of the texts with the prompt before them: right where a text has one window.
    tokenize : callable
        Windows of these rows of the input without the prompt, which leave room for it.
    prompt : ndarray of int
        Ids of the prompt alone.
    """
    long = np.flatnonzero(whole.n_windows > 1)
    if not len(long):
        return whole
    single = whole.take(~np.isin(whole.input_rows, long))
    bare = tokenize(long)
    made = [np.concatenate([bare.row(i)[:1], prompt, bare.row(i)[1:]]) for i in range(len(bare))]
    rows = [single.row(i) for i in range(len(single))] + made
    input_rows = np.concatenate([single.input_rows, long[bare.input_rows]])
    order = np.argsort(input_rows, kind="stable")

    def joined(name: str, shift: int = 0) -> Any:
        parts = [getattr(single, name), getattr(bare, name)]
        return None if parts[1] is None else np.concatenate([parts[0], parts[1] + shift])[order]

    return EncodedBatch(
        np.concatenate([rows[i] for i in order]),
        np.array([len(rows[i]) for i in order], np.int64),
        joined("n_dropped"),
        row_of_window=input_rows[order],
        window_starts=joined("window_starts"),
        second_starts=joined("second_starts", len(prompt)),
    )
