"""The tensors and the settings of a model with some rows of its vocabulary."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skxlmr.checkpoints import StoredModel, Tensors
from skxlmr.utils._errors import CheckpointError

_SIZES = ("vocab_size", "n_words")  # entries of config.json; the second is an early name of the original XLM's
_INDEX = ("bos_index", "eos_index", "pad_index", "unk_index", "mask_index")  # of the original XLM
# What generation may not produce, or what is made more or less likely
_FORBIDDEN = ("suppress_tokens", "begin_suppress_tokens", "bad_words_ids", "sequence_bias")


def rows_of(model: StoredModel, tensors: Tensors) -> int:
    """Return how many rows the word embeddings have.

    Raises
    ------
    CheckpointError
        If there are none.
    """
    from skxlmr.nn import family_of

    words = family_of(model.config).words
    if words not in tensors:
        raise CheckpointError(model.folder, f"holds no word embeddings ({words}), so that there is nothing to trim")
    return int(tensors[words].shape[0])


def trimmed_tensors(model: StoredModel, tensors: Tensors, ids: NDArray[np.int64]) -> Tensors:
    """Return the weights with these rows of the vocabulary. Only the rows that stay are read and copied.

    Raises
    ------
    CheckpointError
        If a part of the language modelling head has another number of rows than the word embeddings.
    """
    import torch

    from skxlmr.nn import LanguageModel, family_of

    family, n_rows = family_of(model.config), rows_of(model, tensors)
    heads = [module for module in family.modules.values() if issubclass(module, LanguageModel)]
    names = {family.words}
    for head in heads:
        names |= {f"{head.projection}.weight", f"{head.projection}.bias", head.projection_bias}
    rows = torch.from_numpy(ids)
    trimmed = dict(tensors)
    for name in names & tensors.keys():
        if tensors[name].shape[0] != n_rows:
            reason = f"tensor {name} has {tensors[name].shape[0]} rows, and the word embeddings have {n_rows}"
            raise CheckpointError(model.folder, reason)
        trimmed[name] = tensors[name].detach()[rows]
    for head in heads:  # some versions of transformers read the bias under this name alone
        if head.projection_bias in trimmed:
            trimmed.setdefault(f"{head.projection}.bias", trimmed[head.projection_bias].clone())
    return trimmed


def named_ids(content: Mapping[str, Any]) -> list[int]:
    """Return the ids of tokens that ``config.json`` or ``generation_config.json`` names, but for those that it forbids."""
    found: list[int] = []

    def note(i: int) -> int:
        found.append(i)
        return i

    for key, value in content.items():
        _renamed(key, value, note)
    return found


def trimmed_config(content: Mapping[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """Return the content of ``config.json`` or ``generation_config.json`` with new ids and the new number of them."""
    trimmed = {key: _renamed(key, value, lambda i: new.get(i, i)) for key, value in content.items()}
    trimmed |= {key: _possible(content[key], new) for key in _FORBIDDEN if isinstance(content.get(key), list)}
    return trimmed | {key: len(new) for key in _SIZES if key in content}


def _renamed(key: str, value: Any, rename: Callable[[int], int]) -> Any:
    """The value of a setting with other ids of the tokens that it names."""
    if key == "forced_decoder_ids" and isinstance(value, list):  # places and their tokens
        return [[*pair[:-1], *_each(pair[-1:], rename)] if isinstance(pair, list) else pair for pair in value]
    return _each(value, rename) if key.endswith("_token_id") or key in (*_INDEX, "force_words_ids") else value


def _possible(entries: list[Any], new: Mapping[int, int]) -> list[Any] | None:
    """Those of the tokens, or sequences of tokens, that can still occur; None instead of none, as transformers needs it."""
    made: list[Any] = []
    for entry in entries:
        is_biased = isinstance(entry, list) and entry and isinstance(entry[0], list)  # a sequence and a number
        with suppress(KeyError):
            tokens = _each(entry[0] if is_biased else entry, new.__getitem__)
            made.append([tokens, *entry[1:]] if is_biased else tokens)
    return made or None


def _each(value: Any, rename: Callable[[int], int]) -> Any:
    """An id, or the ids in lists, renamed."""
    if isinstance(value, list):
        return [_each(part, rename) for part in value]
    return rename(value) if type(value) is int else value
