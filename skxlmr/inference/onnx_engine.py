"""The engine for estimators whose module is an ONNX graph.

It does what :class:`skxlmr.inference.Engine` does for a torch module, with the same methods: rows in order of their length,
each distinct one once, outputs in the order of the rows. Batches are padded here, as ONNX graphs take them.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NoReturn

import numpy as np

from skxlmr.batching import batches_by_length
from skxlmr.inference._arrays import best_tokens, log_softmax, pool_rows
from skxlmr.inference._cached_rows import CachedRows
from skxlmr.inference._progress import Progress
from skxlmr.inference._rows import distinct_rows, mean_of_windows, repeat_outputs
from skxlmr.inference.cache import Cache
from skxlmr.inference.onnx_module import OnnxModule, check_has_weights
from skxlmr.nn.sentence import SentenceEncoder
from skxlmr.text import EncodedBatch
from skxlmr.utils._errors import CheckpointError

STATES_PER_ROW = 96 * 1024  # as for torch modules: the widest states of a batch stay in the caches
LOGITS = 2**26  # most numbers of the logits over the vocabulary that a batch makes, 256 MB
LOGIT_ROWS = 256  # places whose logits are read at a time

Read = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class GraphRun:
    """Outputs of the graph, and what becomes of them.

    Attributes
    ----------
    outputs : tuple of str
        Names in :data:`skxlmr.inference.onnx_module.OUTPUTS`.
    make : callable
        (outputs, lengths of the rows (N,)) -> (N, ...), or (N, S, ...) for outputs per token.
    is_final : bool
        Whether the vectors are scaled to unit length and cut as they are meant to be.
    has_unit_length : bool
        Whether they are of unit length, so that their mean over windows is not that of the vectors before.
    """

    outputs: tuple[str, ...]
    make: Callable[[list[np.ndarray], np.ndarray], np.ndarray]
    is_final: bool = False
    has_unit_length: bool = False


class OnnxEngine:
    """Runs an ONNX graph.

    Parameters
    ----------
    module : OnnxModule
    config : ModelConfig or XLMConfig
        Geometry of the model.
    batch_size : int
        A batch has up to ``98304 / width * batch_size`` token places, where the width is that of the layers' widest states.
    verbose : int
        Whether to show how many rows are done.
    cache : Cache, optional
        Where outputs are kept.
    languages : tuple of int
        Number of the language of the texts, or of first and second texts, for models with embeddings of languages. It is not
        the graph's, which estimators share.

    Attributes
    ----------
    progress : Progress or None
        Shows how far a call is that runs its rows in several parts; None unless set.
    """

    def __init__(
        self,
        module: OnnxModule,
        config: Any,
        batch_size: int,
        verbose: int = 0,
        cache: Cache | None = None,
        languages: tuple[int, ...] = (),
    ):
        self.module, self.config, self.batch_size = module, config, batch_size
        self.verbose, self.cache, self.languages = verbose, cache, languages
        self.progress: Progress | None = None

    @property
    def token_budget(self) -> int:
        """Most token places of a batch, padding included; a single longer row still makes a batch."""
        widest = getattr(self.config, "intermediate_size", 4 * self.config.hidden_size)
        return self.batch_size * max(STATES_PER_ROW // widest, 1)

    @property
    def settings(self) -> tuple[Hashable, ...]:
        """What the rounding of outputs depends on besides all else."""
        return ("onnxruntime", str(self.module.providers))

    # What it can run on rows, and read from logits ------------------------------------------------------------------------

    def check_has_pooler(self) -> None:
        """Refuse a graph without the checkpoint's own pooler.

        Raises
        ------
        ValueError
        """
        module = self.module
        if "pooler_output" not in module.outputs and "pooler" not in module.sentence[0]:
            raise ValueError(
                f"{module.file} was exported without the pooler: export it again, with pooling='pooler', or choose another "
                "pooling"
            )

    def pooled(self, how: SentenceEncoder, layers: Sequence[int], n_skipped: int, further: bool) -> GraphRun:
        """Token vectors pooled, and the layers after it if ``further``; see :meth:`skxlmr.inference.Engine.pooled`.

        Raises
        ------
        ValueError
            If the graph makes other vectors.
        """
        module, words = self.module, how.pooling
        layer = self.config.num_hidden_layers if module.layer is None else module.layer
        if not further and list(layers) == [layer]:
            if "last_hidden_state" in module.outputs and "pooler" not in words:
                return GraphRun(
                    ("last_hidden_state",), lambda made, lengths: pool_rows(made[0], lengths, words, n_skipped)
                )
            if "pooler_output" in module.outputs and words == ("pooler",):
                return GraphRun(("pooler_output",), _first)
        if "sentence_embedding" not in module.outputs:
            raise ValueError(f"{module.file} makes {', '.join(module.outputs)}, of which these features can't be made")
        wanted = sentence_of(how, layers, n_skipped, further, module.is_final)
        if module.sentence != wanted or (module.is_scaled and not how.normalize):
            raise ValueError(
                f"the parameters ask for other features than the sentence_embedding of {module.file} (pooling, layers, "
                "normalize, truncate_dim, prompt): leave them as they were when it was exported, or export it again"
            )
        n_pooled = self.config.hidden_size * len(layers) * len(words)
        widths = how.n_outputs(n_pooled) if further else n_pooled, how.truncate_dim

        def vectors(made: list[np.ndarray], lengths: np.ndarray) -> np.ndarray:
            if made[0].shape[1] not in widths:
                raise CheckpointError(
                    module.file,
                    f"makes a sentence_embedding of {made[0].shape[1]} features, expected {widths[0]}: there are layers after "
                    "the pooling, of which modules.json has to tell",
                )
            return made[0]

        return GraphRun(("sentence_embedding",), vectors, module.is_final, module.is_scaled)

    def first_vectors(self) -> GraphRun:
        """The first token's vector of each row, (N, D)."""
        return GraphRun(("last_hidden_state",), lambda made, lengths: made[0][:, 0])

    def best_tokens(self, n: int, n_known: int) -> Read:
        """Reads probabilities and ids of the ``n`` most probable among the first ``n_known`` tokens, (M, n, 2) float64."""
        return lambda logits_MV, items: best_tokens(logits_MV, n, n_known)

    def log_p_of(self, tokens_PK: np.ndarray) -> Read:
        """Reads log-probabilities, (M, K): at place ``i`` of tokens ``i % P``."""

        def read(logits_MV: np.ndarray, items: np.ndarray) -> np.ndarray:
            wanted_MK = tokens_PK[items % len(tokens_PK)].astype(np.int64)
            return np.take_along_axis(log_softmax(logits_MV), wanted_MK, 1)

        return read

    # Running --------------------------------------------------------------------------------------------------------------

    def rows(
        self,
        encoded: EncodedBatch,
        run: GraphRun | None = None,
        window_weights: np.ndarray | None = None,
        recipe: Hashable = None,
    ) -> np.ndarray:
        """One output per row, by default of the head; see :meth:`skxlmr.inference.Engine.rows`.

        Raises
        ------
        CheckpointError
            If the graph can't compute it, or an output is NaN.
        """
        run = run or GraphRun(("logits",), _first)
        if run.has_unit_length and window_weights is not None and (encoded.n_windows > 1).any():
            raise ValueError(
                f"{self.module.file} scales vectors to unit length before the mean over the windows of a text: set "
                "long_text='truncate', or use the weights (skxlmr.load)"
            )
        outputs = self._outputs(recipe)(encoded, run, False)
        return outputs if window_weights is None else mean_of_windows(outputs, encoded, window_weights)

    def tokens(self, encoded: EncodedBatch, run: GraphRun | None = None, recipe: Hashable = None) -> np.ndarray:
        """One output per token, an array of shape (n_tokens, ...); see :meth:`rows`."""
        if run is None:
            is_span = "start_logits" in self.module.outputs
            names = ("start_logits", "end_logits") if is_span else ("logits",)
            run = GraphRun(names, (lambda made, lengths: np.stack(made, axis=-1)) if is_span else _first)
        return self._outputs(recipe)(encoded, run, True)

    def _outputs(self, recipe: Hashable) -> Callable[[EncodedBatch, GraphRun, bool], np.ndarray]:
        if recipe is None or self.cache is None:
            return self._run
        in_process = self.cache.folder is None
        about = self.identity(recipe, None if in_process else OnnxModule.content_hash)
        at_once = None if in_process else 2 * self.token_budget
        cached = CachedRows(self.cache._store(), about, self.cache.dtype == "bfloat16", at_once, self.settings)
        return partial(cached.outputs, self._run)

    def identity(self, recipe: Hashable, content_hash: Any) -> tuple[Hashable, ...]:
        """What outputs depend on besides the rows; see :meth:`skxlmr.inference.Engine.identity`.

        Without ``content_hash``, no file is read, and the identity holds for the files of this machine as they are.
        """
        graph = self.module.stamp if content_hash is None else self.module.content_hash()
        return f"onnx {graph}", *self.settings, "", self.languages, recipe

    def _run(self, encoded: EncodedBatch, run: GraphRun, per_token: bool) -> np.ndarray:
        if not len(encoded):  # the shape and type of the outputs of a row tell those of none
            row = EncodedBatch(np.zeros(1, np.int32), np.ones(1, np.int64), np.zeros(1, np.int64))
            return self._run(row, run, per_token)[:0]
        distinct, first = distinct_rows(encoded)
        results: np.ndarray | None = None
        for numbers in self._batches(encoded.lengths[distinct], self.token_budget):
            rows = distinct[numbers]
            batch = encoded if len(encoded) == 1 else encoded.take(rows)
            feed, is_token_NS = self._padded(batch)
            values = run.make(self.module.run(run.outputs, feed), batch.lengths)
            if per_token:
                values = values[is_token_NS]
            if results is None:
                n_results = len(encoded.ids) if per_token else len(encoded)
                results = np.empty((n_results, *values.shape[1:]), values.dtype)
            results[encoded.token_places(rows) if per_token else rows] = values
        assert results is not None, "no rows"
        if first is not None:
            repeat_outputs(results, encoded, first, per_token)
        self._check_outputs(results)
        return results

    def places(self, encoded: EncodedBatch, places: np.ndarray, read: Read) -> np.ndarray:
        """Apply ``read`` to the logits over the vocabulary at some places; see :meth:`skxlmr.inference.Engine.places`.

        The graph makes the logits of all places of a batch, which therefore has few tokens.
        """
        first_item = np.searchsorted(places, encoded.starts)
        budget = max(min(self.token_budget, LOGITS // self.config.vocab_size), 1)
        results: np.ndarray | None = None
        for rows in self._batches(encoded.lengths, budget):
            batch = encoded.take(rows)
            items = np.concatenate([np.arange(first_item[row], first_item[row + 1]) for row in rows])
            n_items = first_item[rows + 1] - first_item[rows]
            row_of_item = np.repeat(np.arange(len(rows)), n_items)
            place_in_row = places[items] - np.repeat(encoded.starts[rows], n_items)
            if not len(items):
                continue
            logits_NSV = self.module.run(("logits",), self._padded(batch)[0])[0]
            for first in range(0, len(items), LOGIT_ROWS):
                part = slice(first, first + LOGIT_ROWS)
                values = read(logits_NSV[row_of_item[part], place_in_row[part]], items[part])
                if results is None:
                    results = np.empty((len(places), *values.shape[1:]), values.dtype)
                results[items[part]] = values
        if results is None:
            return np.empty((0,))
        self._check_outputs(results)
        return results

    def attentions(self, encoded: EncodedBatch) -> NoReturn:
        """Refuse: a graph has no attention weights among its outputs.

        Raises
        ------
        ValueError
        """
        check_has_weights(self.module, "attention")
        raise AssertionError

    def generate(self, prompts: Any, run: Any) -> NoReturn:
        """Refuse: a graph keeps no states of the tokens before.

        Raises
        ------
        ValueError
        """
        check_has_weights(self.module, "generate")
        raise AssertionError

    def with_graph(self, encoded: Any, run: Any, per_token: bool = False) -> NoReturn:
        """Refuse: ONNX Runtime computes no gradients.

        Raises
        ------
        ValueError
        """
        check_has_weights(self.module, "a gradient")
        raise AssertionError

    def _batches(self, lengths: np.ndarray, budget: int) -> Iterator[np.ndarray]:
        """Numbers of rows that run together, longest rows first."""
        progress = self.progress or Progress(self.verbose, len(lengths), int(lengths.sum()))
        for rows in batches_by_length(lengths, budget, padded=True):
            yield rows
            progress.add(len(rows), int(lengths[rows].sum()))

    def probe(self, tokenizer: Any) -> dict[str, np.ndarray]:
        """What the graph takes, for an empty text."""
        return self._padded(tokenizer.encode_batch([""]))[0]

    def _padded(self, batch: EncodedBatch) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """What the graph takes, and where tokens are, (N, S) bool."""
        inputs, config = self.module.inputs, self.config
        shape = len(batch), int(batch.lengths.max())
        place_S = np.arange(shape[1])
        is_token_NS = place_S < batch.lengths[:, None]
        ids_NS = np.full(shape, config.pad_token_id, inputs["input_ids"])
        ids_NS[is_token_NS] = batch.ids
        feed = {"input_ids": ids_NS, "attention_mask": is_token_NS.astype(inputs["attention_mask"])}
        second = np.zeros(shape, bool)
        if batch.second_starts is not None:
            second = is_token_NS & (place_S >= batch.second_starts[:, None])
        has_types = getattr(config, "type_vocab_size", 1) > 1
        if "token_type_ids" in inputs:
            feed["token_type_ids"] = (second & has_types).astype(inputs["token_type_ids"])
        elif second.any() and has_types:
            raise ValueError(f"{self.module.file} has no input token_type_ids: it reads texts, and no pairs of texts")
        restarts = config.model_type == "xlm"  # second texts count their positions from 0
        if "position_ids" in inputs:
            offset = config.max_position_embeddings - config.max_length
            starts = np.where(second & restarts, 0 if batch.second_starts is None else batch.second_starts[:, None], 0)
            feed["position_ids"] = np.where(is_token_NS, place_S - starts + offset, 0).astype(inputs["position_ids"])
        elif second.any() and restarts:
            raise ValueError(
                f"{self.module.file} has no input position_ids: it reads texts, and no pairs of translations"
            )
        if "langs" in inputs:
            languages = self.languages or (0,)
            feed["langs"] = np.where(second, languages[-1], languages[0]).astype(inputs["langs"])
        return feed, is_token_NS

    def _check_outputs(self, results: np.ndarray) -> None:
        if np.isnan(results).any():
            raise CheckpointError(
                self.module.file,
                "makes outputs that are not numbers: a weight is not finite, or its float16 is too narrow",
            )


def sentence_of(
    how: SentenceEncoder, layers: Sequence[int], n_skipped: int, further: bool, is_final: bool
) -> tuple[Any, ...]:
    """What tells how vectors of texts are made; the words of the pooling come first, and what a final one is scaled to last."""
    at_the_end = (how.normalize, how.truncate_dim) if is_final else ()
    return how.pooling, tuple(layers), n_skipped, how.layers if further else (), *at_the_end


def _first(made: list[np.ndarray], lengths: np.ndarray) -> np.ndarray:
    return made[0]
