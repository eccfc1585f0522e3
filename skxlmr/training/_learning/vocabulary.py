"""Train only the rows of the word embeddings that the data uses.

XLM-R's vocabulary is two thirds of its parameters, and a data set uses a few per cent of it. Rows that no text uses have
no gradient, so leaving them out of the optimiser is exact (except that weight decay spares them too). It saves their
gradient, both of their moments in AdamW and the time to update them. Rows that only validation texts use have a place, and
are put back after each step.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from skxlmr.training._learning.adapters import LoraSettings, merge_copy
from skxlmr.training._state.fit import to_the_end
from skxlmr.utils._imports.later import nn, torch

if TYPE_CHECKING:
    from skxlmr.nn import Backbone, TaskModule


@contextmanager
def compact_vocabulary(backbone: Backbone, *ids: np.ndarray) -> Iterator[np.ndarray]:
    """Swap the encoder's word embeddings for their used rows inside the block and write them back at its end.

    Parameters
    ----------
    backbone : Backbone
        The encoder.
    *ids : ndarray of int
        All ids that the data looks up.

    Yields
    ------
    lookup : ndarray of int32, (vocabulary,)
        New id of each old one; -1 for rows that are left out.
    """
    full = backbone.get_input_embeddings()
    used = np.unique(np.concatenate(ids))
    lookup = np.full(full.num_embeddings, -1, np.int32)
    lookup[used] = np.arange(len(used), dtype=np.int32)
    rows = torch.from_numpy(used.astype(np.int64)).to(full.weight.device)
    # packed batches hold no padding; a padding token that the data spells keeps its meaning
    padding_idx = None if full.padding_idx is None or lookup[full.padding_idx] < 0 else int(lookup[full.padding_idx])
    still = not full.weight.requires_grad
    compact = nn.Embedding.from_pretrained(full.weight.detach()[rows], freeze=still, padding_idx=padding_idx)
    compact.train(full.training)

    def put_back() -> None:
        if not still:  # weights that are mapped from a file stay so
            _write_back(full, compact, rows)
        backbone.set_input_embeddings(full.to(compact.weight.device))

    backbone.set_input_embeddings(compact)
    try:
        yield lookup
    finally:
        to_the_end(put_back)


def spare_rows(optimizer: torch.optim.Optimizer, weight: torch.Tensor, rows: np.ndarray) -> None:
    """Keep rows that no training text uses as they are: without a gradient, weight decay alone would change them."""
    places = torch.from_numpy(rows.astype(np.int64)).to(weight.device)
    before = weight.detach()[places]

    def put_back(*_: object) -> None:
        weight.detach()[places] = before

    optimizer.register_step_post_hook(put_back)


def whole_copy(
    module: TaskModule, full: nn.Embedding, lookup: np.ndarray | None, lora: LoraSettings | None = None
) -> TaskModule:
    """Copy of a module in training that predicts on its own; the two share what does not learn.

    Parameters
    ----------
    module : TaskModule
        With or without a compact vocabulary.
    full : Embedding
        All word embeddings.
    lookup : ndarray of int32, (vocabulary,), or None
        New id of each row of a compact vocabulary, as above; None without one.
    lora : LoraSettings, optional
        Of the adapters that the module trains; the copy has them merged.
    """
    shared = [module.origin, *(p for p in module.parameters() if not p.requires_grad)]
    copied = copy.deepcopy(module, {id(part): part for part in shared})
    if lora is not None:
        merge_copy(copied, lora)
    if lookup is not None:
        compact, still = copied.backbone.get_input_embeddings(), not full.weight.requires_grad
        whole = copy.deepcopy(full, {id(full.weight): full.weight} if still else {})
        if not still:
            _write_back(whole, compact, torch.from_numpy(np.flatnonzero(lookup >= 0)))
        copied.backbone.set_input_embeddings(whole.to(compact.weight.device))
    return copied.eval()


def _write_back(full: nn.Embedding, compact: nn.Embedding, rows: torch.Tensor) -> None:
    """Put the compact rows into their places."""
    with torch.no_grad():
        full.weight[rows.to(full.weight.device)] = compact.weight.detach().to(full.weight.device)
