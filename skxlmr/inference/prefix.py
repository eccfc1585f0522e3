"""States after the layers that a fit leaves as they are: each distinct row's are computed once, and then found."""

from __future__ import annotations

import zlib
from collections.abc import Hashable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from skxlmr.batching import pack
from skxlmr.checkpoints import weights_identity
from skxlmr.inference._cached_rows import CachedRows
from skxlmr.inference._rounding import rounding
from skxlmr.inference.cache import Cache
from skxlmr.nn import TokenLayout
from skxlmr.text import EncodedBatch
from skxlmr.utils._imports.later import torch
from skxlmr.utils._warnings import warn_once_per_call

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule

# Share of a cache that the rows of one fit or one call may take. The rest is for the rows of other folds: without room for
# these, the least recently used would always be those that come next.
ROOM = 2 / 3

# In this process, for each way to compute: whether no row depends on its neighbours
_are_alone: dict[Hashable, bool] = {}


class FrozenPrefix:
    """Returns the states after the embeddings and the lowest layers; see :class:`skxlmr.nn.backbone.Prefix`.

    They are the same, to the last bit, with and without a cache, whatever other rows are in the batch: on a CPU always, as far
    as its kernels allow it, and otherwise up to rounding. With ``dtype="bfloat16"`` a cache rounds all of them alike.

    Parameters
    ----------
    module : TaskModule
        Its lowest layers stay as they are as long as this object is used.
    n_layers : int
        Number of the lowest layers.
    cache : Cache, optional
        Where states are kept. Without it, or if the weights of these layers are no longer what was read from the checkpoint,
        all are computed each time.
    beside_the_rows : hashable
        What states depend on besides the weights and the rows.
    is_asked_for : bool
        Whether the caller chose the cache. Then it is used where states differ by rounding too, and warnings say what is not
        as expected.

    Attributes
    ----------
    rounds : bool
        Whether states are rounded to bfloat16.
    """

    def __init__(
        self,
        module: TaskModule,
        n_layers: int,
        cache: Cache | None = None,
        beside_the_rows: Hashable = (),
        is_asked_for: bool = False,
    ):
        self.backbone, self.n_layers, self.is_asked_for = module.backbone, n_layers, is_asked_for
        weights, first = None, next(module.parameters())
        if cache is not None:
            frozen = module.backbone.blocks[: n_layers + 1]
            weights = weights_identity(module, *frozen, content_hash=cache._content_hash())
        self._cache = None if weights is None else cache
        self.rounds = self._cache is not None and self._cache.dtype == "bfloat16"
        self._device, self._dtype = first.device, first.dtype
        self._about = (
            *("frozen layers", type(module.backbone).__name__, weights, n_layers),
            *(str(first.dtype), first.device.type, beside_the_rows),
        )
        self._share = 1.0  # of all rows that may be kept

    def expect(self, n_tokens: int) -> None:
        """Choose which rows are kept, if their tokens are too many for the cache: always the same."""
        if self._cache is None:
            return
        width = self.backbone.get_input_embeddings().embedding_dim
        n_bytes = n_tokens * width * (2 if self.rounds else 4)
        most = self._cache.room
        self._share = min(ROOM * most / max(n_bytes, 1), 1.0)
        if self._share < 1 and self.is_asked_for:
            self._warn(
                f"the states after {self.n_layers} frozen layers take {n_bytes / 2**20:,.1f} MiB, and the cache holds "
                f"{most / 2**20:,.1f} MiB in all: those of {self._share:.0%} of the rows are kept, others are computed anew. "
                "Set a larger max_bytes in memory=Cache(...), or dtype='bfloat16' for half the size",
                "room",
            )

    def states(self, ids: Tensor, layout: TokenLayout) -> Tensor:
        """States (T, D), in float32 or wider, of a packed batch of ids (T,)."""
        from skxlmr.nn.backbone import lowest_states

        if self._cache is None or (not self.is_asked_for and _are_alone.get(self._way()) is False):
            return lowest_states(self.backbone, ids, layout, self.n_layers)
        seconds = None if layout.second_starts is None else np.array(layout.second_starts, np.int64)
        lengths = np.array(layout.lengths, np.int64)
        rows = EncodedBatch(ids.cpu().numpy().astype(np.int32), lengths, np.zeros_like(lengths), second_starts=seconds)
        cached = CachedRows(self._cache._store(), (*self._about, self._precision()), self.rounds, None, rounding())
        is_kept = self._kept(rows)
        if is_kept.all():
            return torch.from_numpy(cached.outputs(self._compute, rows, None, True)).to(ids.device)
        kept, others = np.flatnonzero(is_kept), np.flatnonzero(~is_kept)
        found = self._compute(rows.take(others), None, True)
        states = np.empty((len(rows.ids), found.shape[1]), found.dtype)
        states[rows.token_places(others)] = torch.from_numpy(found).bfloat16().float().numpy() if self.rounds else found
        if len(kept):
            states[rows.token_places(kept)] = cached.outputs(self._compute, rows.take(kept), None, True)
        return torch.from_numpy(states).to(ids.device)

    def _kept(self, rows: EncodedBatch) -> np.ndarray:
        """Which rows are kept, chosen by their content: the same in every epoch, fold and call."""
        if self._share >= 1:
            return np.ones(len(rows), bool)
        content, bounds = rows.ids.tobytes(), (rows.starts * rows.ids.itemsize).tolist()
        places = np.array([zlib.crc32(content[first:end]) for first, end in pairwise(bounds)])
        return places < self._share * 2**32

    def _compute(self, rows: EncodedBatch, run: Any, per_token: bool) -> np.ndarray:
        from skxlmr.nn.backbone import lowest_states

        states = lowest_states(self.backbone, *pack(rows, self._device), self.n_layers)
        if self._device.type == "cpu" and len(rows) > 1:
            self._check(rows, states)
        return states.cpu().numpy()

    def _check(self, rows: EncodedBatch, states: Tensor) -> None:
        """Once per process and way to compute, compare the shortest and the longest row with themselves alone."""
        from skxlmr.nn.backbone import lowest_states

        way = self._way()
        if way not in _are_alone:
            some = {int(rows.lengths.argmin()), int(rows.lengths.argmax())}
            alone = {row: lowest_states(self.backbone, *pack(rows.take([row])), self.n_layers) for row in some}
            _are_alone[way] = all(torch.equal(states[rows.span(row)], alone[row]) for row in some)
        if not _are_alone[way] and self.is_asked_for:
            self._warn(
                "on this processor the states of a row differ by rounding with the rows that are computed together with it: "
                "results with and without memory are equal up to rounding, not to the last bit",
                "rounding",
            )

    def _way(self) -> Hashable:
        width = self.backbone.get_input_embeddings().embedding_dim
        return type(self.backbone), width, self.n_layers, self._precision(), rounding(), torch.get_num_threads()

    def _precision(self) -> str:
        """What the caller computes in: fits and predictions may differ; and with how many threads, where these change sums."""
        from skxlmr.nn.kernels import onednn

        device = self._device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
        is_by_threads = device == "cpu" and (dtype or self._dtype) == torch.bfloat16 and onednn.sums_by_rows()
        return f"{dtype}, {torch.get_num_threads()} threads" if is_by_threads else str(dtype)

    def _warn(self, message: str, about: str) -> None:
        warn_once_per_call(message, about=("frozen layers", about))
