"""What every estimator does: check texts, open the checkpoint, encode, run batches, and for most of them the fit loop."""

import copy
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from skxlmr.checkpoints import emplace, normalize_names, on_meta, read_config, read_tensors, resolve_checkpoint
from skxlmr.inference import predict_batches
from skxlmr.nn import ModelConfig, TaskModule, TokenLayout, config_of
from skxlmr.nn.xlm_roberta import init_weights
from skxlmr.text import EncodedBatch, SubwordSampling, Tokenizer, load_tokenizer
from skxlmr.training import SCHEDULES, History, LoopSettings, compact_vocabulary, fit_loop, freeze, make_optimizer
from skxlmr.utils._device import resolve_autocast, resolve_device
from skxlmr.utils._errors import CheckpointError
from skxlmr.utils._sklearn import Interval, StrOptions, check_feature_names, check_sample_weight
from skxlmr.utils._validation import Texts, check_texts
from skxlmr.utils._warnings import TruncationWarning, outside_stacklevel

# A text takes some 30 to 60 tokens: batches of this many tokens a row keep the cores busy without filling the caches.
TOKENS_PER_ROW = 128

XLM_ESTIMATORS = ("XLMClassifier", "XLMMaskedLM", "XLMVectorizer")

Rows = dict[str, EncodedBatch | None]  # encoded rows by the name of their part


class BaseXLMRoberta(BaseEstimator):
    """Texts in, arrays out, through a checkpoint."""

    module_: Any  # the TaskModule of the estimator
    tokenizer_: Tokenizer
    config_: Any  # of the class below

    _config_class: type = ModelConfig  # the architecture family

    _parameter_constraints: dict = {
        "checkpoint": [str, os.PathLike],
        "revision": [str, None],
        "max_length": [Interval(Integral, 4, None, closed="left"), None],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "device": [str, torch.device],
        "dtype": [StrOptions({"auto", "float32", "bfloat16"})],
    }

    def _check_X(self, X: Any, reset: bool, name: str = "X") -> Any:
        """The rows of X, texts unless a subclass reads others; sets or compares the number and names of its columns."""
        texts = check_texts(X, name)
        if reset:
            self.n_features_in_ = texts.n_columns
            series_name = getattr(X, "name", None)
            self._series_name = series_name if isinstance(series_name, str) else None
        elif not hasattr(self, "n_features_in_"):  # straight from a checkpoint: there was no fit to compare with
            return texts
        elif texts.n_columns != self.n_features_in_:
            kinds = {1: "texts (1 column)", 2: "pairs of texts (2 columns)"}
            raise ValueError(
                f"{name} has {kinds[texts.n_columns]}, but {type(self).__name__} was fitted on "
                f"{kinds[self.n_features_in_]}"
            )
        check_feature_names(self, X, reset=reset)
        return texts

    def _open_checkpoint(self) -> tuple[str, ModelConfig, Tokenizer]:
        """Folder, config and tokenizer of the checkpoint."""
        folder = resolve_checkpoint(self.checkpoint, self.revision)
        config, tokenizer = self._read_folder(folder)
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                folder,
                f"the tokenizer has {tokenizer.vocab_size} ids, but the model only {config.vocab_size} word embeddings",
            )
        if self.max_length is not None and self.max_length > config.max_length:
            raise ValueError(
                f"max_length={self.max_length} is more than the {config.max_length} tokens the checkpoint allows"
            )
        return str(folder), config, tokenizer

    def _read_folder(self, folder: Path) -> tuple[Any, Tokenizer]:
        """Config and tokenizer of a checkpoint folder, which must be of the estimator's architecture family."""
        values, file = read_config(folder), folder / "config.json"
        try:
            config = config_of(values)
        except ValueError as error:
            raise CheckpointError(file, str(error)) from error
        if not isinstance(config, self._config_class):
            raise CheckpointError(file, _other_family(type(self).__name__, config.model_type))
        return config, load_tokenizer(folder)

    def _load_module(
        self,
        folder: str,
        config: ModelConfig,
        build: Callable[[], TaskModule],
        new_part: str | None = None,
        optional_parts: Sequence[str] = (),
    ) -> TaskModule:
        """Module with the checkpoint's weights; ``new_part``, the head, starts anew, ``optional_parts`` where they lack."""
        tensors = normalize_names(
            read_tensors(folder), config.base_prefix, tied=config.tie_word_embeddings, source=folder
        )
        if new_part:
            kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(new_part + ".")}
            if len(kept) < len(tensors):
                warnings.warn(
                    f"{folder} has a head of its own ({new_part}), trained for other targets: fit starts a new one",
                    UserWarning,
                    stacklevel=outside_stacklevel(),
                )
            tensors = kept
        with on_meta():
            module = build()
        new_parts = [*optional_parts, *([new_part] if new_part else [])]
        started_anew = emplace(module, tensors, source=folder, new_parts=new_parts)
        for part in new_parts:
            if any(name.startswith(part + ".") for name in started_anew):
                init_weights(module.get_submodule(part).to_empty(device="cpu"), config.initializer_range)
        return module.eval()

    def _limit(self) -> int:
        """Most tokens of a row."""
        return self.config_.max_length if self.max_length is None else self.max_length

    def _encode(
        self, texts: Texts, parse_special: bool = False, sampling: SubwordSampling | None = None
    ) -> EncodedBatch:
        """Ids of the texts; warns of what is cut, but not again when segmentations are drawn anew."""
        limit = self._limit()
        encoded = self._tokenize(texts, limit, parse_special, sampling)
        n_cut = int(np.count_nonzero(encoded.n_dropped))
        if n_cut and sampling is None:
            warnings.warn(
                f"{n_cut} of {len(encoded)} texts are longer than {limit} tokens and were cut; the longest lost "
                f"{encoded.n_dropped.max()} tokens",
                TruncationWarning,
                stacklevel=outside_stacklevel(),
            )
        return encoded

    def _tokenize(
        self, texts: Texts, limit: int, parse_special: bool, sampling: SubwordSampling | None
    ) -> EncodedBatch:
        """Ids of the texts in rows of at most ``limit`` tokens."""
        return self.tokenizer_.encode_batch(
            texts.first, texts.second, max_length=limit, parse_special=parse_special, sampling=sampling
        )

    def _module_on_device(self) -> TaskModule:
        """The fitted module, moved to the estimator's device if it came from elsewhere."""
        check_is_fitted(self, "module_")
        device = resolve_device(self.device)
        if next(self.module_.parameters()).device.type != device.type:
            self.module_.to(device)
        return self.module_

    def _infer(
        self, run: Callable[[Tensor, TokenLayout], Tensor], encoded: EncodedBatch, per_token: bool = False
    ) -> np.ndarray:
        """Apply ``run`` to batches of encoded rows."""
        return predict_batches(run, encoded, per_token=per_token, **self._batching())

    def _infer_texts(self, run: Callable[[Tensor, TokenLayout], Tensor], texts: Texts) -> np.ndarray:
        """Apply ``run`` to batches of texts, each distinct row once."""
        rows = texts.first if texts.second is None else list(zip(texts.first, texts.second, strict=True))
        place: dict = {}
        inverse = [place.setdefault(row, len(place)) for row in rows]
        if len(place) == len(rows):
            return self._infer(run, self._encode(texts))
        distinct = Texts(list(place)) if texts.second is None else Texts(*map(list, zip(*place, strict=True)))
        return self._infer(run, self._encode(distinct))[inverse]

    def _batching(self) -> dict[str, Any]:
        """Device, size and precision of inference batches."""
        device = next(self.module_.parameters()).device
        return {
            "device": device,
            "token_budget": self.batch_size * TOKENS_PER_ROW * (8 if device.type == "cuda" else 1),
            "autocast": resolve_autocast(self.dtype, device, training=False),
        }

    def _hub_config(self) -> dict[str, Any]:
        """What ``config.json`` says beside the geometry, for ``transformers``."""
        raise NotImplementedError

    def _weight_dtype(self) -> torch.dtype:
        """Type in which the fitted module keeps its weights."""
        return torch.float32

    def __getstate__(self):
        state = super().__getstate__()
        module = state.get("module_")
        if module is not None and next(module.parameters()).device.type != "cpu":
            state = {
                **state,
                "module_": copy.deepcopy(module).cpu(),
            }  # so that a machine without this device can load it
        return state

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.no_validation = False
        return tags


class FineTunedXLMRoberta(BaseXLMRoberta):
    """Estimators that train: one fit for all of them, with four places for what differs."""

    _parameter_constraints: dict = {
        **BaseXLMRoberta._parameter_constraints,
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "accumulate": [Interval(Integral, 1, None, closed="left")],
        "learning_rate": [Interval(Real, 0, None, closed="neither")],
        "head_learning_rate": [Interval(Real, 0, None, closed="neither"), None],
        "layer_decay": [Interval(Real, 0, 1, closed="right")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "warmup_ratio": [Interval(Real, 0, 1, closed="both")],
        "schedule": [StrOptions(set(SCHEDULES))],
        "max_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
        "n_frozen_layers": [Interval(Integral, 0, None, closed="left")],
        "gradient_checkpointing": ["boolean"],
        "early_stopping": ["boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "warm_start": ["boolean"],
        "subword_sampling": [Interval(Real, 0, None, closed="left"), None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    _head: str | None = None  # name of the part that starts anew in a first fit
    _optional_parts: Sequence[str] = ()  # parts that start anew in a first fit where the checkpoint has none
    _compacts_vocabulary = True  # false where every row of the word embeddings has a gradient

    # What differs -----------------------------------------------------------------------------------------------------

    def _check_targets(self, y: Any, weights: np.ndarray, reset: bool, name: str = "y") -> np.ndarray | None:
        """Targets of the rows with these weights as numbers; ``reset`` learns what they mean (classes, scale)."""
        raise NotImplementedError

    def _build(self, config: ModelConfig) -> TaskModule:
        """Module with the head."""
        raise NotImplementedError

    def _encode_training(self, texts: Any, sampling: SubwordSampling | None = None) -> Rows:
        """Encoded rows by the name under which ``_make_task`` takes them."""
        return {"encoded": self._encode(texts, sampling=sampling)}

    def _make_task(self, encoded: Rows, targets: np.ndarray | None, weights: np.ndarray):
        """Task for the fit loop."""
        raise NotImplementedError

    def _validation_score(self, encoded: Rows, targets: Any, weights: np.ndarray) -> float:
        """Score of ``module_`` on validation data, higher is better."""
        raise NotImplementedError

    def _adopt(self, config: dict[str, Any], file: Path) -> None:
        """Learn what the outputs of a checkpoint's own head mean from its ``config.json``."""

    # What is the same -------------------------------------------------------------------------------------------------

    @classmethod
    def from_checkpoint(cls, checkpoint, **params):
        """Fitted estimator with the checkpoint's own head, ready without ``fit``.

        Parameters
        ----------
        checkpoint : str or path
            As in the constructor.
        **params
            Other parameters of the constructor.

        Returns
        -------
        fitted estimator

        Raises
        ------
        CheckpointError
            If the checkpoint cannot be read or has no head for this task.
        """
        estimator = cls(checkpoint, **params)
        estimator._validate_params()
        folder, estimator.config_, estimator.tokenizer_ = estimator._open_checkpoint()
        estimator._adopt(read_config(folder), Path(folder, "config.json"))
        module = estimator._load_module(folder, estimator.config_, lambda: estimator._build(estimator.config_))
        estimator.module_ = module.to(resolve_device(estimator.device))
        return estimator

    def _fit(self, X, y=None, sample_weight=None, X_val=None, y_val=None):
        if (X_val is None) != (y_val is None) and y is not None:
            raise ValueError("X_val and y_val belong together: pass both or neither")
        texts = self._check_X(X, reset=True)
        going_on = self.warm_start and hasattr(self, "module_")
        weights = _check_weights(sample_weight, len(texts))
        targets = self._check_targets(y, weights, reset=not going_on)
        weights = weights if targets is None else self._weigh_targets(weights, targets)
        random_state = check_random_state(self.random_state)
        seed = int(random_state.randint(np.iinfo(np.int32).max))

        with _seeded(seed):
            if not going_on:
                folder, self.config_, self.tokenizer_ = self._open_checkpoint()
                module = self._load_module(
                    folder, self.config_, lambda: self._build(self.config_), self._head, self._optional_parts
                )
            else:
                module = self.module_
            if self.n_frozen_layers > self.config_.num_hidden_layers:
                raise ValueError(
                    f"n_frozen_layers={self.n_frozen_layers} is more than the {self.config_.num_hidden_layers} layers of the "
                    "checkpoint"
                )
            encoded = self._encode_training(texts)
            self.n_truncated_ = sum(
                int(np.count_nonzero(part.n_dropped)) for part in encoded.values() if part is not None
            )
            training, rows = (encoded, targets, weights), None
            if X_val is not None:
                val_texts = self._check_X(X_val, False, "X_val")
                val_weights = _check_weights(None, len(val_texts))
                val_targets = self._check_targets(y_val, val_weights, False, "y_val")
                validation = (self._encode_training(val_texts), val_targets, val_weights)
            elif self.early_stopping:
                training, validation, rows = self._split(training, seed)
            else:
                validation = None

            def draw(rng: np.random.Generator) -> Rows:
                sampling = SubwordSampling(-1, self.subword_sampling, int(rng.integers(2**32)))
                return _take(self._encode_training(texts, sampling), rows)

            draw_rows = None if self.subword_sampling is None else draw
            try:
                history = self._train(module, training, validation, np.random.default_rng(seed), draw_rows)
            except BaseException:
                if not going_on:  # a first fit that did not finish an epoch leaves no model behind
                    self.__dict__.pop("module_", None)
                raise
        self.loss_curve_ = history.loss_curve
        self.validation_scores_ = history.validation_scores if validation is not None else None
        self.n_iter_ = len(history.loss_curve)
        if history.interrupted:
            raise history.interrupted
        return self

    def _train(self, module: TaskModule, training, validation, rng: np.random.Generator, draw_rows=None) -> History:
        """Run the fit loop; ``draw_rows(rng)`` gives the training rows with segmentations drawn anew."""
        device = resolve_device(self.device)
        freeze(module, self.n_frozen_layers)
        compacts = self._compacts_vocabulary and not self.n_frozen_layers and draw_rows is None
        ids = [part.ids for rows in (training, validation) if rows for part in rows[0].values() if part is not None]
        with compact_vocabulary(module.backbone, *ids) if compacts else nullcontext() as lookup:
            if lookup is not None:
                training = (_relabel(training[0], lookup), *training[1:])
                validation = validation and (_relabel(validation[0], lookup), *validation[1:])
            self.module_ = module.to(device)
            module.backbone.gradient_checkpointing = self.gradient_checkpointing
            optimizer = make_optimizer(
                module,
                learning_rate=self.learning_rate,
                head_learning_rate=self.head_learning_rate,
                layer_decay=self.layer_decay,
                weight_decay=self.weight_decay,
            )
            settings = LoopSettings(
                max_epochs=self.max_epochs,
                batch_size=self.batch_size,
                accumulate=self.accumulate,
                schedule=self.schedule,
                warmup_ratio=self.warmup_ratio,
                max_grad_norm=self.max_grad_norm,
                early_stopping=self.early_stopping,
                n_iter_no_change=self.n_iter_no_change,
                tol=self.tol,
                verbose=int(self.verbose),
                autocast=resolve_autocast(self.dtype, device, training=True),
            )
            validate = (lambda: self._validation_score(*validation)) if validation else None
            renew = draw_rows and (lambda rng: self._make_task(draw_rows(rng), *training[1:]))
            try:
                return fit_loop(module, self._make_task(*training), optimizer, settings, rng, validate, renew)
            finally:
                module.eval()  # after an error or an interrupt too: what is left predicts without dropout

    def _weigh_targets(self, weights: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Sample weights times class weights, where there are any."""
        return weights

    def _split(self, training, seed: int):
        """Set ``validation_fraction`` of the rows aside; returns both parts and the rows of the first."""
        encoded, targets, weights = training
        train_rows, val_rows = train_test_split(
            np.arange(len(weights)),
            test_size=self.validation_fraction,
            random_state=seed,
            stratify=self._strata(targets),
        )

        def take(rows):
            return _take(encoded, rows), None if targets is None else targets[rows], weights[rows]

        return take(train_rows), take(val_rows), train_rows

    def _strata(self, targets: np.ndarray | None) -> np.ndarray | None:
        """What the validation split keeps the proportions of."""
        return None


def _other_family(name: str, model_type: str) -> str:
    """What to say of a checkpoint that belongs to the other family of estimators."""
    if model_type == "xlm":
        twin = name.replace("XLMRoberta", "XLM")
        use = twin if twin in XLM_ESTIMATORS else f"one of {', '.join(XLM_ESTIMATORS)}"
        return f"tells of an older XLM (model_type 'xlm'), which {name} does not read: use {use}"
    return f"tells of no older XLM (model_type {model_type!r}), which {name} reads: use {name.replace('XLM', 'XLMRoberta')}"


def _check_weights(sample_weight: Any, n_rows: int) -> np.ndarray:
    if sample_weight is None:
        return np.ones(n_rows, np.float32)
    return check_sample_weight(sample_weight, np.empty(n_rows), dtype=np.float32, ensure_non_negative=True)


def _take(encoded: Rows, rows: np.ndarray | None) -> Rows:
    """These rows of the input from each part, or all."""
    if rows is None:
        return encoded
    return {name: None if part is None else part.take_input_rows(rows) for name, part in encoded.items()}


def _relabel(encoded: Rows, lookup: np.ndarray) -> Rows:
    """The same rows with the ids of the compact vocabulary."""
    return {name: None if part is None else replace(part, ids=lookup[part.ids]) for name, part in encoded.items()}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed torch's global generators inside the block and leave them as they were found."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
