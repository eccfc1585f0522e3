"""The tensors and the settings of a model with some rows of its vocabulary."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from skxlmr.checkpoints import StoredModel, Tensors
from skxlmr.utils._errors import CheckpointError

_SIZES = ("vocab_size", "n_words")  # entries of config.json; the second is an early name of the original XLM's
_INDEX = ("bos_index", "eos_index", "pad_index", "unk_index", "mask_index")  # of the original XLM


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


def named_ids(content: Mapping[str, Any]) -> Iterable[int]:
    """Yield the ids of tokens that ``config.json`` or ``generation_config.json`` names."""
    for key, value in content.items():
        if _is_of_tokens(key):
            yield from (i for i in (value if isinstance(value, list) else [value]) if type(i) is int)


def trimmed_config(content: Mapping[str, Any], new: Mapping[int, int]) -> dict[str, Any]:
    """Return the content of ``config.json`` or ``generation_config.json`` with new ids and the new number of them."""
    trimmed = dict(content)
    for key, value in content.items():
        if key in _SIZES:
            trimmed[key] = len(new)
        elif _is_of_tokens(key):
            is_list = isinstance(value, list)
            made = [new.get(i, i) if type(i) is int else i for i in (value if is_list else [value])]
            trimmed[key] = made if is_list else made[0]
    return trimmed


def _is_of_tokens(key: str) -> bool:
    return key.endswith("_token_id") or key in _INDEX
