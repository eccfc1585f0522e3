"""The only way from encoded rows to outputs.

Rows are sorted by length and run in packed batches under a token budget, each distinct row once; outputs return in the order
of the rows. Device, precision, token budget and what happens when memory runs out are decided here, and what is read from a
cache in place of being computed. Another backend or a captured graph would be a variant of this class, and no estimator would
know.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import numpy as np

from skxlmr.batching import pack
from skxlmr.checkpoints import Origin, check_finite, weights_identity
from skxlmr.inference._batch_queue import BatchQueue
from skxlmr.inference._cached_rows import CachedRows
from skxlmr.inference._progress import Progress
from skxlmr.inference._recorded import RunWithGraph, recorded
from skxlmr.inference._rounding import rounding
from skxlmr.inference._rows import distinct_rows, mean_of_windows, repeat_outputs
from skxlmr.inference.cache import Cache
from skxlmr.inference.prefix import FrozenPrefix
from skxlmr.nn import TokenLayout
from skxlmr.nn.layout import widen
from skxlmr.nn.sentence import SentenceEncoder
from skxlmr.nn.sentence.pooling import pool
from skxlmr.text import EncodedBatch
from skxlmr.utils._devices.device import overflow
from skxlmr.utils._devices.gpu_queue import turn
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._imports.later import torch

if TYPE_CHECKING:
    from torch import Tensor

    from skxlmr.nn import TaskModule

# The widest states of a batch, those inside the feed-forward half, have so many float32 numbers per row of `batch_size`, and
# twice as many of 16 bits: with 32 rows some 12 MB, which stay in the caches and keep the cores busy. A text has some 30 to 60
# tokens.
STATES_PER_ROW = 96 * 1024
TOKENS_ON_GPU = 1024  # a GPU is busy with so many tokens per row
LOGIT_ROWS = 256  # rows of logits at a time: with XLM-R's vocabulary a row takes a megabyte

Run: TypeAlias = "Callable[[Tensor, TokenLayout], Tensor]"
Read: TypeAlias = "Callable[[Tensor, np.ndarray], Tensor]"
Result = TypeVar("Result")


class Engine:
    """Runs a module on the device that holds it.

    Parameters
    ----------
    module : TaskModule
        In eval mode.
    batch_size : int
        A batch has up to ``98304 / width * batch_size`` tokens, where the width is that of the layers' widest states (32 tokens
        per row for a base-size model), twice as many in a type of 16 bits, and ``1024 * batch_size`` on a GPU.
    precision : torch.dtype or None
        Type of mixed precision; None computes in the type of the weights. ``torch.int8`` does so too, except for the layers of
        the encoder.
    source : str
        The checkpoint, for the error about weights that are not finite.
    verbose : int
        Whether to show how many rows are done.
    cache : Cache, optional
        Where outputs are kept. Nothing is kept of a module whose weights are no longer what was read from its checkpoint.
    beside_the_rows : hashable
        What outputs depend on besides the weights, the rows and the recipe.

    Attributes
    ----------
    in_int8 : bool
        Whether the layers of the encoder are computed in 8 bits.
    prefix : FrozenPrefix or None
        What has the states after the module's lowest layers, where a fit left these as they are. None unless set.
    progress : Progress or None
        Shows how far a call is that runs its rows in several parts; None unless set.
    """

    def __init__(
        self,
        module: TaskModule,
        batch_size: int,
        precision: torch.dtype | None,
        source: str,
        verbose: int = 0,
        cache: Cache | None = None,
        beside_the_rows: Hashable = (),
    ):
        self.module, self.batch_size, self.precision, self.source = module, batch_size, precision, source
        self.verbose, self.cache, self.beside_the_rows = verbose, cache, beside_the_rows
        self.prefix: FrozenPrefix | None = None
        self.progress: Progress | None = None
        weight = next(module.parameters())
        self.device = weight.device
        self.in_int8 = precision == torch.int8
        self._in_half = (precision or weight.dtype) in (torch.bfloat16, torch.float16)
        self._is_float16 = torch.float16 in (precision, weight.dtype)

    @property
    def _budget_per_row(self) -> int:
        if self.device.type == "cuda":
            return TOKENS_ON_GPU
        n_states = STATES_PER_ROW * 2 if self._in_half else STATES_PER_ROW
        return max(n_states // self.module.backbone.widest, 1)

    @property
    def token_budget(self) -> int:
        """Most tokens of a batch; a single longer row still makes a batch."""
        return self.batch_size * self._budget_per_row

    # What it can run on rows, and read from logits: estimators ask for it and hand it back to the methods below ----------

    def check_has_pooler(self) -> None:
        """Refuse a module without the checkpoint's own pooler.

        Raises
        ------
        ValueError
        """
        if self.module.backbone.pooler is None:
            raise ValueError("pooling='pooler' was set after fit, which left the pooler out: fit again")

    def pooled(self, how: SentenceEncoder, layers: Sequence[int], n_skipped: int, further: bool) -> Run:
        """Runs the encoder and pools, see :func:`skxlmr.nn.sentence.pooling.pool`; ``further`` adds the layers after it."""
        backbone, module = self.module.backbone, self.module
        layers_after: Any = getattr(module, "sentence", None) if further else None

        def run(ids: Tensor, layout: TokenLayout) -> Tensor:
            x = pool(backbone, ids, layout, how.pooling, layers, n_skipped)
            return x if layers_after is None else layers_after(x)

        return run

    def first_vectors(self) -> Run:
        """Runs the encoder; the first token's vector of each row, (N, D)."""
        backbone = self.module.backbone
        return lambda ids, layout: widen(backbone(ids, layout, only_first=True).first)

    def best_tokens(self, n: int, n_known: int) -> Read:
        """Reads probabilities and ids of the ``n`` most probable among the first ``n_known`` tokens, (M, n, 2) float64."""

        def read(logits_MV: Tensor, items: np.ndarray) -> Tensor:
            scores_MV = logits_MV.softmax(1)[:, :n_known]
            best = scores_MV.topk(min(n, scores_MV.shape[1]))
            return torch.stack([best.values.cpu().double(), best.indices.cpu().double()], dim=-1)  # no float64 on MPS

        return read

    def log_p_of(self, tokens_PK: np.ndarray) -> Read:
        """Reads log-probabilities, (M, K): at place ``i`` of tokens ``i % P``."""
        wanted_PK = torch.from_numpy(np.ascontiguousarray(tokens_PK, np.int64))

        def read(logits_MV: Tensor, items: np.ndarray) -> Tensor:
            return logits_MV.log_softmax(1).gather(1, wanted_PK[items % len(wanted_PK)].to(logits_MV.device))

        return read

    # Running --------------------------------------------------------------------------------------------------------------

    @property
    def settings(self) -> tuple[Hashable, ...]:
        """Of the process, by which kernels round: TF32 on a GPU to three digits."""
        return rounding()

    def rows(
        self,
        encoded: EncodedBatch,
        run: Run | None = None,
        window_weights: np.ndarray | None = None,
        recipe: Hashable = None,
    ) -> np.ndarray:
        """One output per row.

        Parameters
        ----------
        encoded : EncodedBatch
            The rows, or windows of rows.
        run : callable, optional
            (ids (T,), layout of N sequences) -> Tensor (N, ...), by default the module.
        window_weights : ndarray of shape (n_windows,), optional
            Average the outputs of each input row's windows with these weights.
        recipe : hashable, optional
            What ``run`` computes, for the cache: equal recipes have equal outputs for equal rows, and one ``repr``. Without it,
            nothing is read from the cache.

        Returns
        -------
        ndarray of shape (n_rows, ...), or (n_input_rows, ...) with ``window_weights``
            float32, or float64 if ``run`` returns that.

        Raises
        ------
        CheckpointError
            If an output is NaN because a weight is not finite; names the weight.
        FloatingPointError
            If an output is not finite in float16, or NaN in another type though no weight is.
        """
        outputs = self._outputs(recipe)(encoded, run or self.module, False)
        return outputs if window_weights is None else mean_of_windows(outputs, encoded, window_weights)

    def tokens(self, encoded: EncodedBatch, run: Run | None = None, recipe: Hashable = None) -> np.ndarray:
        """One output per token, an array of shape (n_tokens, ...); ``run`` returns a Tensor (T, ...). See :meth:`rows`."""
        return self._outputs(recipe)(encoded, run or self.module, True)

    def with_graph(self, encoded: EncodedBatch, run: RunWithGraph, per_token: bool = False) -> np.ndarray:
        """Outputs of what is run on all rows where autograd records, see :mod:`skxlmr.inference._recorded`."""
        return recorded(self, encoded, run, per_token)

    def _outputs(self, recipe: Hashable) -> Callable[[EncodedBatch, Run, bool], np.ndarray]:
        """Takes rows, what to run, and whether there is an output per token; finds or computes the outputs."""
        about = None
        if recipe is not None and self.cache is not None:
            about = self.identity(recipe, self.cache._content_hash())
        if about is None or self.cache is None:
            return self._run
        at_once = None if self.cache.folder is None else 2 * self.token_budget
        cached = CachedRows(self.cache._store(), about, self.cache.dtype == "bfloat16", at_once, self.settings)
        return partial(cached.outputs, self._run)

    def identity(self, recipe: Hashable, content_hash: Callable[[Origin], str] | None) -> tuple[Hashable, ...] | None:
        """What outputs depend on besides the rows; None if the weights are no longer what was read from a checkpoint.

        See :meth:`rows` about the recipe, and :func:`skxlmr.checkpoints.weights_identity` about the hash.
        """
        weights = weights_identity(self.module, content_hash=content_hash)
        if weights is None:
            return None
        dtype = next(self.module.parameters()).dtype
        return weights, str(dtype), str(self.precision), self.device.type, self.beside_the_rows, recipe

    def _run(self, encoded: EncodedBatch, run: Run, per_token: bool) -> np.ndarray:
        if not len(encoded):  # the shape and type of the outputs of a row tell those of none
            row = EncodedBatch(np.zeros(1, np.int32), np.ones(1, np.int64), np.zeros(1, np.int64))
            return self._run(row, run, per_token)[:0]
        distinct, first = distinct_rows(encoded)
        queue = self._queue(encoded.lengths[distinct])
        results: np.ndarray | None = None

        def keep(rows: np.ndarray, output: Tensor) -> None:
            nonlocal results
            values = output.to(torch.float64 if output.dtype == torch.float64 else torch.float32).cpu().numpy()
            if results is None:
                n_results = len(encoded.ids) if per_token else len(encoded)
                results = np.empty((n_results, *values.shape[1:]), values.dtype)
            results[encoded.token_places(rows) if per_token else rows] = values

        pending: tuple[np.ndarray, Tensor] | None = None  # copied one batch later, while the GPU is busy with the next
        with self._computing(int(encoded.lengths[distinct].sum())):
            for numbers in queue:
                rows = distinct[numbers]
                with queue:
                    batch = encoded if len(encoded) == 1 else encoded.take(rows)
                    output = run(*pack(batch, self.device))
                    if pending is not None:
                        keep(*pending)
                    pending = rows, output
            if pending is not None:
                keep(*pending)
        assert results is not None, "no rows"
        if first is not None:
            repeat_outputs(results, encoded, first, per_token)
        self._check_outputs(results)
        return results

    def places(self, encoded: EncodedBatch, places: np.ndarray, read: Read) -> np.ndarray:
        """Apply ``read`` to the logits over the vocabulary at some places of the rows; no other logits are computed.

        Parameters
        ----------
        encoded : EncodedBatch
        places : ndarray of int, (M,)
            Indices into ``encoded.ids``, ascending.
        read : callable
            (float32 logits (m, V), numbers of their places (m,)) -> Tensor (m, ...).

        Returns
        -------
        ndarray of shape (M, ...)
        """
        first_item = np.searchsorted(places, encoded.starts)
        queue = self._queue(encoded.lengths)
        results: np.ndarray | None = None
        with self._computing(len(encoded.ids)):
            for rows in queue:
                with queue:
                    for items, values in self._read_batch(encoded, places, first_item, rows, read):
                        if results is None:
                            results = np.empty((len(places), *values.shape[1:]), values.dtype)
                        results[items] = values
        if results is None:
            return np.empty((0,))
        if self._is_float16:
            self._check_outputs(results)
        return results

    def _read_batch(
        self, encoded: EncodedBatch, places: np.ndarray, first_item: np.ndarray, rows: np.ndarray, read: Read
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Numbers of the places in these rows, and their values; if memory runs out, no tensor outlives the call."""
        module: Any = self.module  # one with a language modelling head
        batch = encoded.take(rows)
        items = np.concatenate([np.arange(first_item[row], first_item[row + 1]) for row in rows])
        n_items = first_item[rows + 1] - first_item[rows]
        shift = np.repeat(batch.starts[:-1] - encoded.starts[rows], n_items)
        ids, layout = pack(batch, self.device)
        wanted = torch.from_numpy(places[items] + shift).to(self.device)
        x_MD = module.backbone(ids, layout).last_hidden_state[wanted]
        found = []
        for first in range(0, len(items), LOGIT_ROWS):
            part = slice(first, first + LOGIT_ROWS)
            logits = module.project(x_MD[part]).float()
            found.append((items[part], read(logits, items[part]).cpu().numpy()))
        return found

    def attentions(self, encoded: EncodedBatch) -> list[np.ndarray]:
        """Attention weights of each row, a row at a time: where each of its tokens looks, in every layer and head.

        Parameters
        ----------
        encoded : EncodedBatch

        Returns
        -------
        list of ndarray of shape (n_layers, n_heads, n_tokens, n_tokens), float32
            Row ``i`` of the last two dimensions has the weights of the tokens that token ``i`` looks at.

        Raises
        ------
        CheckpointError, FloatingPointError
            As in :meth:`rows`.
        """
        backbone = self.module.backbone
        found = []
        with self._computing():
            for row in range(len(encoded)):
                # packed, so that positions, token types and languages are those of every other output
                x_TD = backbone(*pack(encoded.take([row]), self.device), n_layers=0).last_hidden_state
                layout = TokenLayout.padded((1, len(x_TD)), device=self.device)
                output = backbone.run_layers(x_TD[None], layout, output_attentions=True)
                assert output.attentions is not None
                found.append(torch.cat([widen(weights) for weights in output.attentions]).float().cpu().numpy())
                self._check_outputs(found[-1])
        return found

    def generate(self, prompts: Sequence[Sequence[int]], run: Callable[[list[int]], list[Result]]) -> list[Result]:
        """Result of ``run`` for each prompt; it gets up to ``batch_size`` prompts at a time, longest first.

        Parameters
        ----------
        prompts : list of list of int
            Token ids.
        run : callable
            Numbers of prompts -> a result per prompt.
        """
        order = np.argsort([-len(prompt) for prompt in prompts], kind="stable")
        queue = BatchQueue(
            np.ones_like(order), self.batch_size, self.device, 1, Progress(self.verbose, len(order), len(order))
        )
        found: dict[int, Result] = {}
        check_finite(self.module.state_dict(), self.source)  # with NaN as scores, some token would still come out best
        with self._computing():
            for places in queue:
                with queue:
                    numbers = order[places].tolist()
                    found |= zip(numbers, run(numbers), strict=True)
        return [found[number] for number in range(len(prompts))]

    def _check_outputs(self, results: np.ndarray) -> None:
        """Say why outputs are not finite; large tensors are not checked when they are read."""
        if not self._is_float16:
            if np.isnan(results).any():
                check_finite(self.module.state_dict(), self.source)
                floating = {
                    name: w for name, w in self.module.state_dict().items() if w.numel() and w.is_floating_point()
                }
                size = {name: max(abs(float(end)) for end in weight.aminmax()) for name, weight in floating.items()}
                largest = max(size, key=lambda name: size[name])
                raise FloatingPointError(
                    f"an output is NaN, and no weight of {self.source} is: numbers overflow on the way. The largest weight is "
                    f"{size[largest]:.2g}, in {largest}. Where a fit made it, fit again with a lower learning_rate; a "
                    "checkpoint that was read with it is damaged"
                )
        elif not np.isfinite(results).all():
            try:
                check_finite(self.module.state_dict(), self.source)
            except CheckpointError as error:
                if self.precision is None:  # the weights were float32 when they were read
                    raise overflow(f"a weight of {self.source} in float16") from error
                raise
            raise overflow("an output")

    def _queue(self, lengths: np.ndarray) -> BatchQueue:
        progress = self.progress or Progress(self.verbose, len(lengths), int(lengths.sum()))
        return BatchQueue(lengths, self.token_budget, self.device, self._budget_per_row, progress)

    @contextmanager
    def _computing(self, n_tokens: int = 0) -> Iterator[None]:
        """Around what is run on rows with so many tokens."""
        from skxlmr.nn.backbone import starting_from
        from skxlmr.nn.kernels.linear import fast_inference

        if self.prefix is not None:
            self.prefix.expect(n_tokens)
        mixed = None if self.in_int8 else self.precision
        # without precision autocast is switched off explicitly: the caller may be inside an autocast block
        precision: AbstractContextManager[Any] = nullcontext()
        if mixed is not None or torch.is_autocast_enabled(self.device.type):
            precision = torch.autocast(self.device.type, mixed, enabled=mixed is not None)
        with turn(self.device), fast_inference(self.in_int8), starting_from(self.prefix), precision:
            yield
